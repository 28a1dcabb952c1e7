"""A whole run of the benchmarks on a tiny model: what it writes, when, and what an earlier run keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chronos_export.artifact.reading import Artifact
from chronos_export.machine.packages import is_installed
from scripts.benchmarks import __main__ as command
from scripts.benchmarks import cold_start, sections
from scripts.benchmarks.aims import aims
from scripts.benchmarks.cold_start import EXPORT, _first_forecast, engines, export, first_forecasts
from scripts.benchmarks.host import CALLS
from scripts.benchmarks.peers import OURS, UPSTREAM, UPSTREAM_BEST, cpu_peers
from scripts.benchmarks.records import CutOff, Growth, Machine, Record, Results, Start, Timing, read
from scripts.benchmarks.report import GROWTH, as_markdown
from scripts.benchmarks.subject import subject
from scripts.benchmarks.workloads import workloads
from tests.helpers.stand_in import INFO

MISSING = {"upstream, torch.compile", "ours, TensorRT"}
OPENVINO = {"ours, openvino", "ours, bfloat16"}
MACHINE = Machine({"cpu": "a"}, {"torch": 1e9}, 1e9)


def here(
    section: Callable[[], Iterator[Record]], take: Callable[[Record], None], seconds: float | None
) -> str:
    """A section in this process."""
    for record in section():
        take(record)
    return ""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run_apart", here)
    monkeypatch.setattr(sections, "machine", lambda *_: MACHINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("benchmarks")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Results:
    """All sections but the cold starts, of a rehearsal that is written."""
    work = tmp_path_factory.mktemp("work")
    setting = sections.Setting("cpu", 20, 1, 1, False, True, work)
    starts = [Start("demo", "upstream", {"import": 2.0}), Start("demo", "ours", {"import": 1.0})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "run_apart", here)
        patch.setattr(sections, "cold_starts", lambda *_: iter(starts))
        patch.setattr(command, "sections", sections.sections)
        found = command._run(setting, sections.names_of(setting), True, None, folder)
    found.write(folder, as_markdown(found))
    return found


def tables(markdown: str) -> dict[str, list[list[str]]]:
    """Title -> the cells of its table, without head and rule."""
    found = {}
    for part in markdown.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        rows = [line for line in rest.splitlines() if line.startswith("|")]
        found[title] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    return found


def test_every_peer_has_a_line_in_every_workload(results: Results, folder: Path, tmp_path: Path) -> None:
    shown = tables((folder / "cpu.md").read_text())
    names = [peer.name for peer in cpu_peers(subject(1, tmp_path, tiny=True))]
    for work in workloads("cpu", 20):
        assert [row[0] for row in shown[work.name]] == names
        missing = {peer: note for peer, seconds, *_, note in shown[work.name] if seconds == "-"}
        assert missing.keys() <= MISSING | (set() if is_installed("openvino") else OPENVINO)
        assert all(missing.values())


def test_the_report(results: Results, folder: Path) -> None:
    markdown = (folder / "cpu.md").read_text()
    shown = tables(markdown)
    assert [row[0] for row in shown["Aims"]] == [aim.name for aim in aims(results)]
    assert list(shown)[:2] == ["Aims", "Time over ours on onnxruntime"]
    assert list(shown)[-4:] == [
        GROWTH,
        "Peak MB as the batch grows, two layers, groups of 20",
        "Host side: time outside of the session",
        "Cold start",
    ]
    assert [row[0] for row in shown[GROWTH]] == ["20", "40"]
    assert all(float(cell) > 0 for row in shown[GROWTH] for cell in row[1:])
    assert {(OURS, call) for call in CALLS} <= {(time.peer, time.call) for time in results.host}
    assert all(0 < time.inside < time.seconds for time in results.host)
    assert f"model: {results.subject}" in markdown
    for t in results.timings:
        if t.seconds is not None:
            assert t.memory is None or t.memory >= 0
            assert (t.of_peak is not None) == t.is_ours
            assert t.error is not None


def test_the_numbers(results: Results, folder: Path) -> None:
    assert read(folder / "cpu.json") == results
    assert all(
        results.of("groups of 20, 20 rows")[name].seconds is not None for name in (UPSTREAM, UPSTREAM_BEST)
    )
    assert isinstance(results.growth, Growth)
    assert {timing.rows for timing in results.growth.timings} == {20, 40}


def test_what_is_found_again_takes_the_place_of_what_was_found() -> None:
    results = Results("cpu", "full", 12, 100)
    first, second = Timing("w", "a", 1, "float32"), Timing("w", "b", 1, "float32")
    for record in (first, second, MACHINE, CutOff("workloads", "stopped")):
        results.add(record)
    results.add(replace(first, seconds=1.0))
    assert results.timings == [replace(first, seconds=1.0), second]
    assert results.machine == MACHINE
    assert "| workloads | stopped |" in as_markdown(results)
    results.add(CutOff("workloads", ""))
    assert "Not all of it was run" not in as_markdown(results)


def test_a_stopped_run_keeps_what_it_has(
    tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(setting: object, found: object, names: list[str]) -> Iterator[Timing]:
        yield Timing(names[0], OURS, 1, "float32", seconds=1.0, seconds_per_sample=1.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(sections, "_time_workloads", stopping)
    with pytest.raises(KeyboardInterrupt):
        command.main(["--rows", "20", "--layers", "1", "-o", str(tmp_path)])
    stored = json.loads((tmp_path / "cpu.json").read_text())
    assert [t["workload"] for t in stored["timings"]] == ["univariate, 1 row"]
    assert "univariate, 1 row" in tables((tmp_path / "cpu.md").read_text())


def test_what_an_earlier_run_found_of_other_workloads_is_kept(
    tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def timed(setting: object, found: object, names: list[str]) -> Iterator[Timing]:
        yield from (Timing(name, OURS, 1, "float32", seconds=2.0, seconds_per_sample=2.0) for name in names)

    monkeypatch.setattr(sections, "_time_workloads", timed)
    old = Results("cpu", "random weights, layers: 1, width: 768", 1, 20, MACHINE)
    for name in ("univariate, 1 row", "one group of 20"):
        old.add(Timing(name, OURS, 1, "float32", seconds=1.0, seconds_per_sample=1.0))
    old.add(Start("demo", "ours", {"import": 1.0}))
    asked = ["--rows", "20", "--layers", "1", "--workload", "univariate, 1", "-o", str(tmp_path)]
    for written, kept in ((old, 1.0), (replace(old, subject="another"), None)):
        written.write(tmp_path, "")
        assert old.earlier(tmp_path) == (written if kept else None)
        assert command.main(asked) == 0
        found = read(tmp_path / "cpu.json")
        assert {t.workload: t.seconds for t in found.timings} == {
            "univariate, 1 row": 2.0,
            **({"one group of 20": kept} if kept else {}),
        }
        assert found.starts == (old.starts if kept else [])


def test_an_unknown_workload_is_answered_with_one_name_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--workload", "one row", "--rows", "40"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert (
        "no workload is called 'one row'; there are:\n  univariate, 1 row\n  groups of 20, 20 rows\n" in said
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [(["--device", "cuda"], "--dry-run goes as far"), (["--rows", "19"], "one group of 20")],
)
def test_what_cannot_be_run_is_refused(
    given: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        command.main(given)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_gpu_run_gives_a_section_half_of_the_time_that_is_left(
    tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: dict[str, float | None] = {}
    now = [0.0]

    def slow(section: Any, take: Any, seconds: float | None) -> str:
        if seconds is None:
            return here(section, take, seconds)
        limits[str(len(limits))] = seconds
        now[0] += seconds
        return f"stopped after {seconds:.0f} s"

    monkeypatch.setattr(command, "run_apart", slow)
    monkeypatch.setattr(command, "monotonic", lambda: now[0])
    setting = sections.Setting("cuda", 2000, 12, 3, False, False, tmp_path)
    monkeypatch.setattr(sections.Setting, "here", "cpu")
    names = sections.names_of(setting)
    found = command._run(setting, names, True, 9, tmp_path)
    assert list(limits.values())[:3] == [270, 135, 67.5]
    assert [cut.section for cut in found.cut_off] == ["plugin", "engines", *names]
    assert names[:2] == ["groups of 20, 2000 rows", "groups of 20, 400 rows"]
    assert "| engines | stopped after 135 s |" in (tmp_path / "cuda.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_rehearsal_comes_to_its_end(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every section, each in its process, as from the command line; nothing is written."""
    assert command.main(["--device", device, "--dry-run", "-o", "/nowhere"]) == 0
    printed = capsys.readouterr().out
    assert "Not all of it was run" not in printed
    assert "groups of 20, 40 rows" in tables(printed)
    if device == "cuda":
        assert "group attention alone, bfloat16, segments of 20" in tables(printed)


def test_first_forecasts_in_fresh_processes(artifact_of: Callable[[str], Artifact], toy: Path) -> None:
    upstream, ours = first_forecasts("toy", {"upstream": toy, "ours": artifact_of("toy").path})
    assert list(upstream.steps) == ["python", "import", "open", "first call"]
    assert list(ours.steps) == ["python", "import, verify and open", "first call"]
    assert all(0 <= seconds < 100 for start in (upstream, ours) for seconds in start.steps.values())
    assert upstream.steps["import"] > 0.5  # nothing heavy is imported before the clock runs
    assert ours.steps["import, verify and open"] > 0.5
    assert all(re.fullmatch(r"\d+ MB in memory, at most \d+", start.note) for start in (upstream, ours))


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    exported = export("nothing", tmp_path / "nothing", tmp_path / "artifact")
    assert (exported.what, exported.steps) == (EXPORT, {})
    assert "nothing" in exported.note or "fix" in exported.note
    forecast = _first_forecast("nothing", "ours", tmp_path)
    assert forecast.steps == {}
    assert forecast.note


def test_an_engine_of_an_export_has_its_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = replace(INFO, bytes=17_400_000, peak_rss_bytes=372_000_000, build_seconds=4.25)
    entry = replace(engine, path=tmp_path / "engines" / "a.plan").as_entry(tmp_path)
    monkeypatch.setattr(cold_start, "read_manifest", lambda path: SimpleNamespace(engines=[entry]))
    shown = as_markdown(Results("cpu", "full", 12, 100, starts=list(engines("toy", tmp_path))))
    admitted = "up to 40 rows x 128 steps or up to 8 rows x 256 steps"
    took = f"build 4.2; {admitted}; 17 MB, built in 372 MB of memory"
    assert f"| toy | TensorRT-RTX engine, with no GPU, model.onnx | 4.2 | {took} |" in shown


@pytest.mark.parametrize("file", ["cpu", "cpu-zen5", "large-groups/cpu"])
def test_what_was_measured_before_is_shown_as_it_is_shown_now(file: str) -> None:
    stored = Path(__file__).parents[2] / "benchmarks" / f"{file}.json"
    results = read(stored)
    assert asdict(results) == json.loads(stored.read_text(), object_hook=_with_pairs)
    assert stored.with_suffix(".md").read_text() == as_markdown(results)


def _with_pairs(stored: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if k == "spread" and v else v for k, v in stored.items()}
