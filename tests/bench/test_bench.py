"""A whole run of the bench on a tiny model: what it writes, when, and that every aim has its line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.bench import cold_start, machine, measure, run
from chronos_export.bench import scaling as scaled
from chronos_export.bench.aims import GPU_AIMS, aims
from chronos_export.bench.cold_start import (
    EXPORT,
    Start,
    _first_forecast,
    cold_starts,
    engines,
    export,
    first_forecasts,
)
from chronos_export.bench.measure import Timing
from chronos_export.bench.peers import OURS, UPSTREAM, UPSTREAM_BEST, peers_of
from chronos_export.bench.report import as_markdown
from chronos_export.bench.results import Results
from chronos_export.bench.run import run_bench
from chronos_export.bench.subject import Subject, random_subject
from chronos_export.bench.workloads import all_workloads
from chronos_export.cli.main import main
from chronos_export.errors import UsageError
from chronos_export.machine.packages import is_installed
from tests.helpers.checkpoints import make_config

MISSING = {"upstream, torch.compile", "ours, TensorRT"}
OPENVINO = {"ours, openvino", "ours, bfloat16"}
OPENVINO_AIMS = {"ahead of every bfloat16 peer in every workload", "bfloat16 2x our float32"}


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    config = make_config("toy")
    config.num_layers = 1
    return random_subject(config, tmp_path_factory.mktemp("subject"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def results(subject: Subject, folder: Path) -> Iterator[Results]:
    starts = [Start("demo", "upstream", {"import": 2.0}), Start("demo", "ours", {"import": 1.0})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "QUICK", 0.0)
        patch.setattr(scaled, "ROUNDS", 1)
        patch.setattr(run, "cold_starts", lambda *_: iter(starts))
        patch.setattr(run, "matmul_peak", lambda: machine.matmul_peak(seconds=0.01))
        patch.setattr(run, "copy_bandwidth", lambda: machine.copy_bandwidth(seconds=0.01))
        yield run_bench(subject, folder, rows=59, rounds=1)


def sections(markdown: str) -> dict[str, list[list[str]]]:
    """Title -> the cells of its table, without head and rule."""
    found = {}
    for part in markdown.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        rows = [line for line in rest.splitlines() if line.startswith("|")]
        found[title] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    return found


def test_every_peer_has_a_line_in_every_workload(subject: Subject, results: Results, folder: Path) -> None:
    tables = sections((folder / "cpu.md").read_text())
    names = [peer.name for peer in peers_of(subject)]
    for work in all_workloads(40):
        assert [row[0] for row in tables[work.name]] == names
        missing = {peer: note for peer, seconds, *_, note in tables[work.name] if seconds == "-"}
        assert missing.keys() <= MISSING | (set() if is_installed("openvino") else OPENVINO)
        assert all(missing.values())


def test_every_aim_has_a_line(results: Results, folder: Path) -> None:
    table = sections((folder / "cpu.md").read_text())["Aims"]
    assert [row[0] for row in table] == [aim.name for aim in aims(results)]
    assert {row[2] for row in table} <= {"yes", "no", "-"}
    assert [row[1] for row in table[-len(GPU_AIMS) :]] == len(GPU_AIMS) * [
        "not yet measured: `python3 -m scripts.gpu_check`"
    ]
    unmeasured = {row[0] for row in table if row[1] == "not measured"}
    assert unmeasured == (set() if is_installed("openvino") else OPENVINO_AIMS)


def test_the_report(results: Results, folder: Path) -> None:
    markdown = (folder / "cpu.md").read_text()
    tables = sections(markdown)
    assert list(tables)[:2] == ["Aims", "Time over ours on onnxruntime"]
    assert list(tables)[-4:] == [
        "Seconds a sample as the batch grows, two layers, groups of 20",
        "Peak MB as the batch grows, two layers, groups of 20",
        "Host side: time outside of the session",
        "Cold start",
    ]
    growing = tables["Seconds a sample as the batch grows, two layers, groups of 20"]
    assert [row[0] for row in growing] == [str(rows) for rows in scaled.ROWS]
    assert all(float(cell) > 0 for row in growing for cell in row[1:])
    calls = {(row[0], row[1]) for row in tables["Host side: time outside of the session"]}
    assert {(OURS, "predict, groups of 20"), (OURS, "predict_df, single series")} <= calls
    assert all(0 < time.inside < time.seconds for time in results.host)
    assert f"model: {results.subject}" in markdown
    for t in results.timings:
        if t.seconds is not None:
            assert t.memory is None or t.memory >= 0
            assert (t.of_peak is not None) == t.peer.startswith("ours")
            assert t.error is not None
    assert (folder / "cpu.png").stat().st_size > 10_000


def test_the_numbers(results: Results, folder: Path) -> None:
    stored = json.loads((folder / "cpu.json").read_text())
    assert stored == json.loads(json.dumps(results.as_dict()))
    assert len(stored["timings"]) == len(results.timings)
    assert stored["rows"] == 40  # whole groups of 20
    best = {name: results.of("groups of 20, 40 rows")[name].seconds for name in (UPSTREAM, UPSTREAM_BEST)}
    assert all(best.values())


def test_a_stopped_run_keeps_what_it_has(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def compare(_: Any, work: Any, *__: Any) -> list[Timing]:
        if len(timed) == 2:
            raise KeyboardInterrupt
        timed.append(work.name)
        return [Timing(work.name, OURS, work.rows, "float32", seconds=1.0, seconds_a_sample=1.0)]

    monkeypatch.setattr(run, "compare", compare)
    monkeypatch.setattr(run, "matmul_peak", lambda: {"torch": 1e9})
    monkeypatch.setattr(run, "copy_bandwidth", lambda: 1e9)
    with pytest.raises(KeyboardInterrupt):
        run_bench(subject, tmp_path, rows=20)
    assert [t["workload"] for t in json.loads((tmp_path / "cpu.json").read_text())["timings"]] == timed
    assert set(timed) < set(sections((tmp_path / "cpu.md").read_text()))


def test_first_forecasts_in_fresh_processes(artifact_of: Callable[[str], Artifact], toy: Path) -> None:
    upstream, ours = first_forecasts("toy", {"upstream": toy, "ours": artifact_of("toy").path})
    assert list(upstream.steps) == ["python", "import", "open", "first call"]
    assert list(ours.steps) == ["python", "import, verify and open", "first call"]
    assert all(0 <= seconds < 100 for start in (upstream, ours) for seconds in start.steps.values())
    assert upstream.steps["import"] > 0.5  # nothing heavy is imported before the clock runs
    assert ours.steps["import, verify and open"] > 0.5


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    exported = export("nothing", tmp_path / "nothing", tmp_path / "artifact")
    assert (exported.what, exported.steps) == (EXPORT, {})
    assert "nothing" in exported.note or "fix" in exported.note
    forecast = _first_forecast("nothing", "ours", tmp_path)
    assert forecast.steps == {}
    assert forecast.note


def test_an_engine_of_an_export_has_its_own_line(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"bytes": 17.4e6, "peak_rss_bytes": 372e6, "profiles": [100, 2000], "build_seconds": 4.25}
    manifest = SimpleNamespace(engines=[entry])
    monkeypatch.setattr(cold_start, "read_manifest", lambda path: manifest)
    starts = list(engines("toy", tmp_path))
    wanted = "| toy | TensorRT-RTX engine, with no GPU | 4.2 | build 4.2; rows [100, 2000], 17 MB,"
    assert wanted in as_markdown(replace(results, starts=starts))


def test_an_artifact_is_not_exported_again(
    artifact_of: Callable[[str], Artifact], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Path]] = []
    monkeypatch.setattr(cold_start, "export", lambda name, *_: Start(name, EXPORT, {"export": 1.0}))
    monkeypatch.setattr(
        cold_start, "first_forecasts", lambda name, folders: (asked.append((name, folders["ours"])), [])[1]
    )
    monkeypatch.setattr(cold_start, "engines", lambda *_: iter(()))
    published = replace(subject, name="published", artifact=artifact_of("toy"))
    starts = list(cold_starts(published))
    assert [start.model for start in starts] == ["demo"]
    assert asked[1] == ("published", artifact_of("toy").path)


def test_one_workload_can_be_timed_by_itself(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "QUICK", 0.0)
    monkeypatch.setattr(run, "matmul_peak", lambda: machine.matmul_peak(seconds=0.01))
    monkeypatch.setattr(run, "copy_bandwidth", lambda: machine.copy_bandwidth(seconds=0.01))
    found = run_bench(subject, tmp_path, rows=20, rounds=1, only=("single rows, 20", "one group"))
    assert {t.workload for t in found.timings} == {"single rows, 20 rows", "one group of 20"}
    assert found.host == []
    with pytest.raises(UsageError, match="no workload is called 'one row'") as raised:
        run_bench(subject, tmp_path, rows=20, only=("one row",))
    assert "single rows, 1 row, " in raised.value.allowed


def test_what_an_earlier_run_found_of_other_workloads_is_kept(
    subject: Subject, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "QUICK", 0.0)
    monkeypatch.setattr(run, "matmul_peak", lambda: results.peaks)
    earlier = replace(results, timings=list(results.timings))
    earlier.write(tmp_path, "")
    assert Results.read(tmp_path) == earlier
    found = run_bench(subject, tmp_path, rows=40, rounds=1, only=("single rows, 1 row",))
    names = {timing.workload for timing in earlier.timings}
    assert {timing.workload for timing in found.timings} == names
    assert [timing.workload for timing in found.timings] == [timing.workload for timing in earlier.timings]
    assert len(found.timings) == len(earlier.timings)
    assert found.of("single rows, 1 row") != earlier.of("single rows, 1 row")
    assert found.of("one group of 40") == earlier.of("one group of 40")
    assert (found.host, found.scaling, found.starts) == (earlier.host, earlier.scaling, earlier.starts)
    replace(earlier, subject="another").write(tmp_path, "")
    found = run_bench(subject, tmp_path, rows=40, rounds=1, only=("single rows, 1 row",))
    assert {timing.workload for timing in found.timings} == {"single rows, 1 row"}


def test_layers_are_not_asked_of_an_artifact(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "some-artifact", "--layers", "2"])
    assert ended.value.code == 2
    assert "chronos-export bench some-artifact" in capsys.readouterr().err
