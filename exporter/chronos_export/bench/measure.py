"""Alternating rounds: every peer once a round, ratios taken within a round, so that drift cancels."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import torch
from chronos.chronos2.config import Chronos2CoreConfig
from torch import Tensor

from chronos_export.bench.peers import Peer, in_pieces
from chronos_export.bench.workloads import Workload
from chronos_export.plan import observed_length

REFERENCE = "upstream, batch in one call"
OURS = "ours, onnxruntime"


@dataclass(frozen=True)
class Timing:
    """One peer on one workload.

    Attributes:
        workload: Name of the workload.
        peer: Name of the peer.
        rows: Rows in the batch.
        seconds: Median of a batch; None where it did not run.
        seconds_a_sample: The same for one group.
        ratio: Median over rounds of its time over ours; above 1 means that we are faster.
        spread: Smallest and largest of these ratios.
        error: Largest difference from upstream, over the spread of the row.
        note: The call size chosen, or why it did not run.
    """

    workload: str
    peer: str
    rows: int
    seconds: float | None
    seconds_a_sample: float | None
    ratio: float | None
    spread: tuple[float, float] | None
    error: float | None
    note: str


def compare(
    peers: Iterable[Peer], work: Workload, rounds: int, longest: float, say: Callable[[str], None]
) -> list[Timing]:
    """Time every peer on one workload.

    Args:
        peers: The contenders.
        work: The batch.
        rounds: Rounds after the warm-up.
        longest: Seconds a warm-up may take; a slower peer is timed once and left out of further rounds.
        say: Told what is being timed.
    """
    running: dict[str, Callable[[], Tensor]] = {}
    answers: dict[str, Tensor] = {}
    notes: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    for peer in peers:
        say(f"{work.name}: {peer.name}")
        try:
            run, notes[peer.name] = _best_size(peer, work)
            begin = perf_counter()
            answers[peer.name] = run()
            first = perf_counter() - begin
        except (RuntimeError, MemoryError) as error:
            notes[peer.name] = f"did not run: {str(error).splitlines()[0][:120]}"
            continue
        times[peer.name] = []
        if first > longest:
            times[peer.name] = [first]
            notes[peer.name] += f" timed once: over {longest:.0f} s"
        else:
            running[peer.name] = run
    for number in range(rounds):
        say(f"{work.name}: round {number + 1} of {rounds}")
        for name, run in running.items():
            begin = perf_counter()
            run()
            times[name].append(perf_counter() - begin)
    return [_timing(work, name, notes[name], times, answers) for name in notes]


def _best_size(peer: Peer, work: Workload) -> tuple[Callable[[], Tensor], str]:
    sizes = [size for size in peer.sizes if size <= work.rows] or list(peer.sizes[:1])
    if not sizes:
        return (lambda: peer.answer(work)), ""
    if len(sizes) == 1:
        return (lambda: in_pieces(peer.answer, work, sizes[0])), f"calls of {sizes[0]} rows or one group"
    seconds = {}
    in_pieces(peer.answer, work, sizes[0])
    for size in sizes:
        begin = perf_counter()
        in_pieces(peer.answer, work, size)
        seconds[size] = perf_counter() - begin
    best = min(seconds, key=lambda size: seconds[size])
    return (lambda: in_pieces(peer.answer, work, best)), f"best of {sizes}: {best} rows a call"


def _timing(
    work: Workload, name: str, note: str, times: dict[str, list[float]], answers: dict[str, Tensor]
) -> Timing:
    if name not in times:
        return Timing(work.name, name, work.rows, None, None, None, None, None, note)
    seconds = statistics.median(times[name])
    ratios = [mine / ours for mine, ours in zip(times[name], times.get(OURS, []), strict=False)]
    error = None
    if REFERENCE in answers:
        spread = answers[REFERENCE].std(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        error = float(((answers[name] - answers[REFERENCE]).abs() / spread).max())
    return Timing(
        workload=work.name,
        peer=name,
        rows=work.rows,
        seconds=seconds,
        seconds_a_sample=seconds / work.samples,
        ratio=statistics.median(ratios) if ratios else None,
        spread=(min(ratios), max(ratios)) if ratios else None,
        error=error,
        note=note,
    )


def flops_left(config: Chronos2CoreConfig, work: Workload) -> float:
    """Multiply-adds times two that remain after what can be removed exactly.

    Groups of one need no group query, key or scores and one matrix for W_o W_v; the last block is computed at
    the output tokens, but for its time keys and values.
    """
    d, inner, ff = config.d_model, config.num_heads * config.d_kv, config.d_ff
    patches = -(-work.horizon // 16)
    past = (torch.from_numpy(observed_length(work.context.isnan().numpy())) + 15) // 16
    tokens = (past + 1 + patches).double()
    _, inverse, counts = work.group_ids.unique(return_inverse=True, return_counts=True)
    group = counts[inverse].double()
    alone = group == 1
    group_cost = torch.where(alone, 2.0 * d * d, 2 * 4 * d * inner + 2 * 2 * inner * group)
    each = 2 * 4 * d * inner + group_cost + 2 * 2 * d * ff
    time_scores = 2 * 2 * inner * tokens
    full = tokens * (each + time_scores)
    last = patches * (each - 2 * 2 * d * inner + time_scores) + tokens * (2 * 2 * d * inner)
    entry = (tokens - 1) * 2 * (48 * ff + ff * d + 48 * d)
    q = len(config.chronos_config["quantiles"])
    head = patches * 2 * (d * ff + ff * q * 16 + d * q * 16)
    return float((full * (config.num_layers - 1) + last + entry + head).sum())


def matmul_peak(seconds: float = 2.0) -> float:
    """Best float32 FLOP/s of a large product on this machine: of torch's and onnxruntime's."""
    a, b = torch.randn(1552, 768), torch.randn(768, 3072)
    return max(_rate(lambda: a @ b, a, b, seconds), _rate(_ort_product(a, b), a, b, seconds))


def _rate(run: Callable[[], object], a: Tensor, b: Tensor, seconds: float) -> float:
    best, end = float("inf"), perf_counter() + seconds
    while perf_counter() < end:
        begin = perf_counter()
        run()
        best = min(best, perf_counter() - begin)
    return 2.0 * a.shape[0] * a.shape[1] * b.shape[1] / best


def _ort_product(a: Tensor, b: Tensor) -> Callable[[], object]:
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "product",
        [info("a", TensorProto.FLOAT, list(a.shape))],
        [info("c", TensorProto.FLOAT, [a.shape[0], b.shape[1]])],
        [numpy_helper.from_array(b.numpy(), "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"a": a.numpy()}
    return lambda: session.run(None, feed)
