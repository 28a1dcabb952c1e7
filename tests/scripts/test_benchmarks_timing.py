"""What a round is, which calls a peer gets, when it is left out; peak memory; the work that is left."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.session import Session
from scripts.benchmarks import memory, timing
from scripts.benchmarks import workloads as w
from scripts.benchmarks.memory import PeakMemory
from scripts.benchmarks.peers import OURS, UPSTREAM, Peer
from scripts.benchmarks.records import Timing
from scripts.benchmarks.timing import Rules
from scripts.benchmarks.work_left import flops_left
from tests.helpers.checkpoints import make_model

MEGABYTE = 2**20


@dataclass
class Bench:
    """Peers that take as long as they are told, by a clock of their own."""

    now: float = 0.0
    calls: dict[str, list[int]] = field(default_factory=dict)

    def peer(self, name: str, seconds: Callable[[int], float], sizes: tuple[int, ...] = ()) -> Peer:
        """A peer that answers a call of n rows in seconds(n)."""
        self.calls[name] = []

        def answer(work: w.Workload) -> Tensor:
            self.calls[name].append(work.rows)
            self.now += seconds(work.rows)
            return torch.arange(2.0 * 3).expand(work.rows, 6).reshape(work.rows, 2, 3)

        return Peer(name, lambda: answer, sizes=sizes)

    def ours(self, seconds: Callable[[int], float]) -> Peer:
        """The same with a session, which nobody opens."""

        def session() -> tuple[Session, Limits]:
            raise AssertionError

        return replace(self.peer(OURS, seconds), session=session)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    monkeypatch.setattr(timing, "perf_counter", lambda: made.now)
    return made


def compare(
    peers: list[Peer], work: w.Workload, rounds: int, ideal: float | None = None, **rules: float
) -> dict[str, Timing]:
    """What is known of every peer in the end."""
    found = timing.compare(peers, work, Rules(rounds, **rules), ideal)  # type: ignore[arg-type]
    return {each.peer: each for each in found}


@pytest.mark.parametrize(("seconds", "alive"), [(30.0, [0, 0, 0]), (6.0, [0, 1, 2])])
def test_what_is_timed_once_is_let_go(bench: Bench, seconds: float, alive: list[int]) -> None:
    """Sessions keep what a batch took; a large one would not fit in memory beside all before it."""
    held: list[weakref.ref[object]] = []
    found: list[int] = []

    def holding(peer: Peer) -> Peer:
        answer = peer.open()

        def open_it() -> Callable[[w.Workload], Tensor]:
            found.append(sum(ref() is not None for ref in held))
            memory = bench.ours(lambda rows: 0.0)  # anything that can be referred to
            held.append(weakref.ref(memory))
            return lambda work: answer(work) if memory else torch.empty(0)

        return replace(peer, open=open_it)

    compare(
        [holding(bench.peer(name, lambda _: seconds)) for name in (UPSTREAM, "a", "b")], w.univariate(20), 1
    )
    assert found == alive


def test_ratios_are_taken_within_a_round(bench: Bench) -> None:
    """The machine slows down by half from round to round: times drift, ratios do not."""
    slowness = {UPSTREAM: 0, OURS: 0}

    def slowing(name: str, seconds: float) -> Callable[[int], float]:
        def cost(rows: int) -> float:
            if rows == 20:  # not the warm-up
                slowness[name] += 1
            return seconds * 1.5 ** slowness[name]

        return cost

    peers = [bench.peer(UPSTREAM, slowing(UPSTREAM, 6.0)), bench.ours(slowing(OURS, 2.0))]
    found = compare(peers, w.univariate(20), rounds=3, ideal=1.5)
    assert found[UPSTREAM].ratio == pytest.approx(3)
    assert found[UPSTREAM].spread == pytest.approx((3, 3))
    assert found[OURS].seconds == pytest.approx(2.0 * 1.5**3)  # after a warm-up, the median of three
    assert found[OURS].of_peak == pytest.approx(1.5 / 6.75)
    assert found[UPSTREAM].of_peak is None
    assert found[UPSTREAM].error == found[OURS].error == 0


@pytest.mark.parametrize(("fixed", "a_row", "best"), [(0.0, 0.01, 1), (10.0, 0.001, 40), (1.0, 0.01, 10)])
def test_the_best_size_of_a_call_stands(bench: Bench, fixed: float, a_row: float, best: int) -> None:
    """A call costs something by itself, and a part that grows with the square of its rows."""
    peer = bench.peer("swept", lambda rows: fixed + a_row * rows**2, sizes=(1, 5, 10, 20, 100))
    found = compare([peer], w.univariate(40), rounds=1, longest=100)[peer.name]
    assert found.note == f"rows per call: {best}, the best of 1, 5, 10, 20, 40"
    assert bench.calls["swept"][-1] == best
    assert found.seconds == pytest.approx(40 / best * (fixed + a_row * best**2))


def test_groups_are_never_cut(bench: Bench) -> None:
    compare([bench.peer("swept", lambda rows: rows**2, sizes=(1, 5, 20, 40))], w.groups_of_20(60), rounds=1)
    assert set(bench.calls["swept"]) == {4, 20, 40}  # the warm-up, and whole groups
    work = w.skewed(20)
    assert work.cut(1) == (1,) * 15 + (5,)
    assert work.cut(7) == (7, 7, 6)
    assert [piece.rows for piece in work.pieces((7, 7, 6))] == [7, 7, 6]
    assert torch.cat([piece.context for piece in work.pieces((7, 7, 6))]).equal(work.context)


def test_the_same_calls_are_timed_once(bench: Bench) -> None:
    """A swept peer whose best is one call is the peer that makes one call."""
    one = bench.peer(UPSTREAM, lambda rows: 8.0 + rows)
    swept = Peer("swept", one.open, sizes=(5, 20))
    found = compare([one, swept], w.univariate(20), rounds=2)
    assert found["swept"].seconds == found[UPSTREAM].seconds
    assert found["swept"].note == f"rows per call: 20, the best of 5, 20; as {UPSTREAM}"
    assert bench.calls[UPSTREAM].count(20) == 1 + 2


def test_what_is_slow_is_timed_once_and_what_is_slower_is_not_run(bench: Bench) -> None:
    times = {UPSTREAM: 90.0, "quick": 5.0, "slow": 20.0, "slower": 90.0}
    peers = [bench.peer(name, lambda rows, s=seconds: s * rows / 20) for name, seconds in times.items()]  # type: ignore[misc]
    found = compare(peers, w.univariate(20), rounds=2, longest=10)
    assert {name: calls.count(20) for name, calls in bench.calls.items()} == {
        UPSTREAM: 1 + 2,  # the warm-up
        "quick": 2,
        "slow": 1,
        "slower": 0,
    }
    assert found["slow"].note == "timed once"
    assert found["slower"].note == "not waited for: about 90 s per batch"
    assert found["slower"].seconds is None


def test_what_is_made_ready_by_the_first_batch_is_not_counted(bench: Bench) -> None:
    """Code compiled for the shapes of the batch, say."""
    compiling = [90.0]
    peer = bench.peer("compiled", lambda rows: compiling.pop() if rows == 20 and compiling else rows / 4)
    found = compare([peer], w.univariate(20), rounds=1, longest=100)[peer.name]
    assert found.seconds == pytest.approx(5.0)


def test_our_sessions_are_warmed_up_on_the_whole_batch(bench: Bench) -> None:
    """A runtime makes code and packed weights for the first call of a shape, however soon it is done."""
    first = [2.5]
    ours = bench.ours(lambda rows: first.pop() if rows == 20 and first else rows / 10)
    found = compare([ours], w.univariate(20), rounds=1)[OURS]
    assert found.seconds == pytest.approx(2.0)


def test_quick_batches_get_more_rounds(bench: Bench) -> None:
    compare([bench.peer("quick", lambda rows: 3.6)], w.univariate(1), rounds=2)
    assert len(bench.calls["quick"]) == 1 + 6  # the warm-up; 6 x 3.6 s
    compare([bench.peer("instant", lambda rows: 0.01)], w.univariate(1), rounds=2)
    assert len(bench.calls["instant"]) == 1 + Rules().most


def test_a_peer_that_fails_is_listed_with_its_reason() -> None:
    def refuse() -> None:
        raise RuntimeError("no memory\nat line 3")

    peer = Peer("broken", refuse)  # type: ignore[arg-type]
    assert compare([peer], w.univariate(2), 1) == {
        "broken": Timing("univariate, 2 rows", "broken", 2, "float32", note="no memory")
    }


def test_a_peer_is_told_of_before_the_next_is_opened(bench: Bench) -> None:
    """A run that is cut off keeps it."""
    opened: list[str] = []

    def opening(peer: Peer) -> Peer:
        return replace(peer, open=lambda: (opened.append(peer.name), peer.open())[1])

    peers = [opening(bench.peer("first", lambda _: 3.0)), opening(bench.peer("baseline", lambda _: 1.0))]
    found = timing.compare(peers, w.univariate(20), Rules(1, baseline="baseline"))
    first = next(found)
    assert (first.peer, first.seconds, first.ratio, opened) == ("first", 3.0, None, ["first"])
    *_, first, baseline = found
    assert (first.peer, first.ratio, baseline.ratio) == ("first", 3.0, 1.0)


def test_errors_are_of_the_rows_whose_right_forecast_is_known(bench: Bench) -> None:
    right = torch.arange(6.0).expand(4, 6).reshape(4, 2, 3)
    wrong = bench.peer("wrong", lambda _: 30.0)
    plain = wrong.open()

    def answer(work: w.Workload) -> Tensor:
        out = plain(work).clone()
        out[2:] += 1
        return out

    changed = replace(wrong, open=lambda: answer)
    for known, error in ((right[:2], 0.0), (right[:3], 1 / float(right[0].std()))):
        *_, found = timing.compare([changed], w.univariate(4), Rules(1), right=known)
        assert found.error == pytest.approx(error)


def test_peak_memory_counts_what_is_freed_again() -> None:
    held = torch.ones(32 * MEGABYTE // 4)
    peak = PeakMemory()
    if peak.bytes() is None:
        pytest.skip("this system does not tell its peak")
    assert peak.bytes() < 4 * MEGABYTE  # what was held before does not count
    del held
    torch.ones(64 * MEGABYTE // 4).add_(1)
    found = peak.bytes()
    assert found is not None
    assert 30 * MEGABYTE < found < 68 * MEGABYTE  # at most 32 of the 64 took the place of what was held
    assert PeakMemory().bytes() < 4 * MEGABYTE  # each begins anew


def test_peak_memory_counts_what_takes_the_place_of_what_was_freed() -> None:
    """The C library keeps small blocks that are freed while something behind them is in use."""

    def blocks() -> list[bytearray]:
        return [bytearray(b"x" * 100_000) for _ in range(300)]

    before, _behind = blocks(), bytearray(b"x" * 100_000)
    del before
    peak = PeakMemory()
    again = blocks()
    found = peak.bytes()
    if found is None:
        pytest.skip("this system does not tell its peak")
    assert found > 0.9 * sum(len(block) for block in again)


def test_no_peak_where_linux_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PROC", tmp_path / "nowhere")
    assert PeakMemory().bytes() is None


@pytest.mark.parametrize("work", [w.univariate(3), w.groups_of_20(40), w.one_group(5), w.ragged(1)])
def test_work_left_is_what_the_rewritten_model_computes(work: w.Workload) -> None:
    """Counted by PyTorch, product by product, but for those inside of group attention."""
    upstream = make_model("small")
    observed = int((~work.context[0].isnan()).sum())
    context, future = work.context[:, -observed:], torch.full((work.rows, work.horizon), torch.nan)
    model = rewrite(upstream)
    lone = univariate(model)
    of_a_group = work.rows // work.samples

    def attention(query: torch.Size, *_: object, **__: object) -> int:
        return 2 * 2 * query.numel() * of_a_group

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.chronos.group_attention: attention})
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        if of_a_group == 1:
            lone(context, future)
        else:
            model(context, work.group_ids, future)
    assert flops_left(upstream.config, work) == counter.get_total_flops()
