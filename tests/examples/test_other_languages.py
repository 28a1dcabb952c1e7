"""The demo's forecast in other languages is Python's forecast."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from chronos_export.artifact.reading import Artifact
from tests.helpers.cached import node_packages

FOLDER = Path(__file__).parents[2] / "examples" / "6_other_languages"
ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
STEPS, MEDIAN = 10, 10

needs_node = pytest.mark.skipif(shutil.which("npm") is None, reason="Node and npm are not installed")
needs_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
needs_headers = pytest.mark.skipif(
    "ONNXRUNTIME_INCLUDE_DIR" not in os.environ or shutil.which("g++") is None,
    reason="ONNXRUNTIME_INCLUDE_DIR is not given, or there is no C++ compiler",
)


@pytest.fixture(scope="module")
def artifact(artifact_of: Callable[[str], Artifact]) -> Path:
    return artifact_of("demo").path


@pytest.fixture(scope="module")
def expected(artifact: Path) -> np.ndarray:
    """The median forecast in Python, as the worked example of docs/artifact-format.md asks for it."""
    series = np.loadtxt(FOLDER / "nile.csv", dtype=np.float32)[None]
    feed = {
        "context": series,
        "group_ids": np.zeros(1, np.int64),
        "future_covariates": np.full((1, STEPS), np.nan, np.float32),
    }
    (out,) = ort.InferenceSession(artifact / "model.onnx").run(None, feed)
    median: np.ndarray = out[0, MEDIAN, :STEPS]
    return median


def assert_same(text: str, expected: np.ndarray) -> None:
    """Three decimals are printed, of values near 1000; another order of sums moves the last of 7 digits."""
    np.testing.assert_allclose([float(line) for line in text.split()], expected, rtol=1e-5, atol=1e-3)


@needs_node
def test_javascript_in_node(artifact: Path, expected: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_packages(ONNXRUNTIME_WEB))
    shutil.copy(FOLDER / "forecast.mjs", tmp_path)
    command = ["node", "forecast.mjs", artifact, FOLDER / "nile.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert_same(done.stdout, expected)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder, on loopback."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@needs_node
@needs_chromium
def test_javascript_in_a_browser_page(artifact: Path, expected: np.ndarray, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(FOLDER, site)
    (site / "artifact").symlink_to(artifact)
    (site / "ort").symlink_to(node_packages(ONNXRUNTIME_WEB) / "onnxruntime-web" / "dist")
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"
    command = ["chromium", "--headless", "--no-sandbox", *quiet.split(), "--disable-component-update"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--dump-dom"]
    with served(site) as address:
        command.append(f"{address}/page.html")
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    shown = done.stdout.split('<pre id="forecast">')[1].split("</pre>")[0]
    assert_same(shown, expected)


@needs_headers
def test_cpp(artifact: Path, expected: np.ndarray, tmp_path: Path) -> None:
    """Against the library in the Python package, which has a versioned name only."""
    (library,) = (Path(ort.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    program = tmp_path / "forecast"
    command = ["g++", "-std=c++17", "-Wall", "-Werror", f"-I{os.environ['ONNXRUNTIME_INCLUDE_DIR']}"]
    command += [str(FOLDER / "forecast.cpp"), f"-L{tmp_path}", "-lonnxruntime", f"-Wl,-rpath,{tmp_path}"]
    subprocess.run([*command, "-o", str(program)], check=True, timeout=120)
    done = subprocess.run(
        [program, artifact, FOLDER / "nile.csv"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert_same(done.stdout, expected)
