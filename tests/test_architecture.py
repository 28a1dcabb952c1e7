"""The house: rooms in one order, and a run wing that needs nothing of the export wing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact

PACKAGE = Path(__file__).parents[1] / "exporter" / "chronos_export"

# Each room may import itself and what stands before it.
ORDER = (
    *("errors", "progress", "interruption", "graph_contract"),
    *("untrusted", "machine", "artifact", "checkpoint", "model", "graph", "engine"),
    *("runtime", "forecaster", "pipeline", "validation", "exporting"),
    *("serving", "bulk", "bench", "cli", "__main__"),
)
RUN_WING = {
    *("errors", "progress", "interruption", "graph_contract"),
    *("untrusted", "machine", "artifact", "runtime", "forecaster", "pipeline", "serving", "bulk"),
}
EXPORT_ONLY = ("torch", "transformers", "chronos", "onnx", "polygraphy", "tensorrt", "tensorrt_rtx", "pandas")


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """The rooms that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "chronos_export":
            names = [f"chronos_export.{alias.name}" for alias in node.names]
        else:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            package, _, rest = name.partition(".")
            if package == "chronos_export" and rest:
                yield rest.partition(".")[0]


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE or file.stem in ORDER]


def test_every_module_has_a_room() -> None:
    homeless = [file.name for file in PACKAGE.glob("*.py") if file.stem not in {*ORDER, "__init__"}]
    assert homeless == []
    assert {room_of(file) for file in FILES} <= set(ORDER)


@pytest.mark.parametrize("room", sorted({room_of(file) for file in FILES}))
def test_no_import_runs_back(room: str) -> None:
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {other}"
        for file in FILES
        if room_of(file) == room
        for other in imports(file)
        if other in ORDER and ORDER.index(other) > ORDER.index(room)
    ]
    assert wrong == []


def test_the_run_wing_imports_nothing_of_the_export_wing() -> None:
    wrong = [
        f"{file.relative_to(PACKAGE)} imports {other}"
        for file in FILES
        if room_of(file) in RUN_WING
        for other in imports(file)
        if other in ORDER and other not in RUN_WING
    ]
    assert wrong == []


FORECAST = f"""
import sys
for name in {EXPORT_ONLY!r}:
    sys.modules[name] = None
import numpy as np
from chronos_export import Forecaster
forecaster = Forecaster(sys.argv[1], sys.argv[2], "cpu")
target, weather = np.ones(40), np.array(["fair", "rain"] * 20)
item = {{"target": target, "past_covariates": {{"weather": weather}}}}
(out,) = forecaster.predict([item], 5)
print(out.shape, np.isfinite(out).all())
print(forecaster.predict([target], 2000)[0].shape)  # further than it was trained for
if sys.argv[2] == "onnxruntime":
    import polars
    days = polars.date_range(polars.date(2024, 1, 31), polars.date(2024, 12, 31), "1mo", eager=True)
    frame = polars.DataFrame({{"item_id": "a", "timestamp": days, "target": target[:12]}})
    print(forecaster.predict_df(frame, prediction_length=2)["timestamp"].to_list()[-1])
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_run_wing_forecasts_without_what_exports(
    runtime: str, artifact_of: Callable[[str], Artifact]
) -> None:
    command = [sys.executable, "-c", FORECAST, str(artifact_of("toy").path), runtime]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frame = "2025-02-28\n" if runtime == "onnxruntime" else ""
    assert done.stdout == "(1, 21, 5) True\n(1, 21, 2000)\n" + frame
