"""How many times faster than upstream: who is asked, how often, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from chronos_export.artifact.reading import Artifact
from chronos_export.bench import comparison
from chronos_export.bench.comparison import (
    UPSTREAM,
    UPSTREAM_NARROW,
    Comparison,
    Speed,
    compare_speed,
    forecaster,
)
from chronos_export.bench.weights import full_config, random_model
from chronos_export.checkpoint.loading import load_checkpoint
from chronos_export.cli.main import main
from chronos_export.errors import MachineError
from chronos_export.machine.packages import is_installed
from chronos_export.progress import ignore
from tests.helpers.checkpoints import make_config, make_model

WORKLOADS = ["groups of 20", "univariate"]
DTYPES = ["float32", *(["bfloat16"] if is_installed("openvino") else []), "int8"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of toy size, and one round."""
    monkeypatch.setattr(comparison, "full_config", lambda: make_config("toy"))
    monkeypatch.setattr(comparison, "ROUNDS", 1)
    monkeypatch.setattr(comparison, "MOST_ROWS", 40)


def run(*given: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *given])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_every_dtype_beside_upstream(
    tiny: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], own_signals: None
) -> None:
    picture = tmp_path / "pictures" / "speed.png"
    assert run("-o", str(picture), "--json") == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    found = events[-1]
    assert [(s["workload"], s["peer"]) for s in found["speeds"]] == [
        (workload, peer) for workload in WORKLOADS for peer in (UPSTREAM, UPSTREAM_NARROW, *DTYPES)
    ]
    assert all(s["rows_per_second"] > 0 and s["times_faster"] > 0 for s in found["speeds"])
    assert found["rows"] == 40
    assert f"times faster than upstream in {DTYPES[0]}" in found["sentence"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {e["stage"] for e in events if e["event"] == "stage"} == {"prepare", "compare"}


def test_an_artifact_is_timed_as_load_opens_it(
    tiny: None,
    artifact_of: Callable[[str], Artifact],
    toy: Path,
    tmp_path: Path,
) -> None:
    artifact = artifact_of("toy")
    before = sorted(path.name for path in artifact.path.iterdir())
    found = compare_speed(artifact.path, tmp_path, ignore, str(toy))
    assert found.subject == f"{artifact.path.name} (onnxruntime on cpu)"
    assert {s.peer for s in found.speeds} == {UPSTREAM, UPSTREAM_NARROW, "float32"}
    assert sorted(path.name for path in artifact.path.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_with_its_fix(
    tiny: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    own_signals: None,
) -> None:
    def refuse(dtype: str, has_engine: bool) -> None:
        if dtype == "bfloat16":
            raise MachineError("bfloat16 needs openvino", fix="pip install openvino")

    def no_picture(*_: Any) -> None:
        raise MachineError("the picture needs matplotlib", fix="pip install matplotlib")

    monkeypatch.setattr(comparison, "require_cpu_runtime", refuse)
    monkeypatch.setattr("chronos_export.bench.picture.draw_speeds", no_picture)
    assert run("-o", str(tmp_path / "speed.png")) == 0
    said = capfd.readouterr()
    assert "bfloat16 was not timed: bfloat16 needs openvino" in said.err
    assert "pip install openvino" in said.err
    assert "no picture was drawn: the picture needs matplotlib" in said.err
    assert "times faster than upstream in float32" in said.out
    assert not (tmp_path / "speed.png").exists()


class Clock:
    """Peers that take as long as they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 0.0, dict[str, list[int]]()
        monkeypatch.setattr(comparison, "perf_counter", lambda: self.now)

    def peer(self, name: str, seconds: Callable[[int], float]) -> Callable[[Tensor, Tensor], Tensor]:
        def forecast(context: Tensor, ids: Tensor) -> Tensor:
            self.calls.setdefault(name, []).append(len(ids))
            self.now += seconds(len(ids))
            return context

        return forecast


def test_ratios_are_taken_within_a_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine slows down from round to round: times drift, ratios do not."""
    clock, rounds = Clock(monkeypatch), [0]

    def upstream(rows: int) -> float:
        rounds[0] += 1
        return 0.06 * rows * 1.1 ** rounds[0]

    peers = {
        UPSTREAM: clock.peer(UPSTREAM, upstream),
        UPSTREAM_NARROW: clock.peer("narrow", lambda rows: 0.03 * rows * 1.1 ** rounds[0]),
        "int8": clock.peer("int8", lambda rows: 0.012 * rows * 1.1 ** rounds[0]),
    }
    made = Comparison("full", "cpu")
    monkeypatch.setattr(comparison, "_random", lambda work, step: (made, peers))
    found = compare_speed(None, tmp_path, ignore)
    times = {(s.workload, s.peer): s.times_faster for s in found.speeds}
    for workload in WORKLOADS:
        assert times[workload, UPSTREAM] == 1
        assert times[workload, "int8"] == pytest.approx(5)
        assert times[workload, UPSTREAM_NARROW] == pytest.approx(2)


@pytest.mark.parametrize(
    ("per_row", "rows", "rounds"),
    [(0.001, 200, 5), (0.05, 100, 2), (1.0, 20, 1)],  # a quick machine, one of two cores, a busy one
)
def test_a_machine_is_given_what_it_can_do_in_two_minutes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, per_row: float, rows: int, rounds: int
) -> None:
    clock = Clock(monkeypatch)
    names = (UPSTREAM, UPSTREAM_NARROW, "int8")
    peers = {name: clock.peer(name, lambda count: per_row * count) for name in names}
    monkeypatch.setattr(comparison, "_random", lambda work, step: (Comparison("full", "cpu"), peers))
    assert compare_speed(None, tmp_path, ignore).rows == rows
    assert clock.calls["int8"] == len(WORKLOADS) * [20, *[rows] * rounds]


def test_the_sentence() -> None:
    speeds = [
        Speed(workload, peer, 1.0, times * factor)
        for workload, factor in (("groups of 20", 1.0), ("univariate", 1.2))
        for peer, times in ((UPSTREAM, 1.0), (UPSTREAM_NARROW, 1.9), ("float32", 1.2), ("int8", 3.0))
    ]
    assert Comparison("full", "cpu", 20, speeds).sentence == (
        "On this machine 1.2 to 1.4 times faster than upstream in float32, 3.0 to 3.6 times in int8;"
        " upstream, bfloat16 autocast, 1.9 to 2.3 times."
    )
    one = [speed for speed in speeds if speed.workload == "univariate"]
    assert "3.6 times faster than upstream in int8" in Comparison("", "cpu", 20, one[:2] + one[3:]).sentence


def test_the_weights_are_those_of_full_size_and_matter() -> None:
    one, two = (
        sum(p.numel() for p in random_model(full_config(num_layers=layers)).parameters()) for layers in (1, 2)
    )
    assert one + 11 * (two - one) == 119_477_664  # amazon/chronos-2's
    small = random_model(make_config("small"))
    assert random_model(make_config("small")).state_dict().keys() == small.state_dict().keys()
    first, again = (random_model(make_config("small")).shared.weight for _ in range(2))
    assert torch.equal(first, again)
    context, ids = torch.randn(4, 200).cumsum(1), torch.zeros(4, dtype=torch.int64)
    together, alone = (forecaster(small)(context, x) for x in (ids, torch.arange(4)))
    assert float((together - alone).abs().max()) > 0.1 * float(together.std())


def test_a_forecaster_answers_on_the_host_for_any_horizon(toy: Path) -> None:
    model = load_checkpoint(str(toy)).pipeline.model
    forecast = forecaster(model, horizon=20)(torch.randn(3, 50), torch.arange(3))
    assert forecast.shape == (3, 21, 20)
    assert forecast.dtype == torch.float32
    assert make_model("toy").config.d_model == model.config.d_model
