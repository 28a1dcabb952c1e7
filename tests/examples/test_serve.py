"""The example of a client, against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from chronos_export.artifact.reading import Artifact
from tests.helpers.serving import serving

EXAMPLE = Path(__file__).parents[2] / "examples" / "3_serve" / "ask.py"


def test_ask(artifact_of: Callable[[str], Artifact], tmp_path: Path) -> None:
    with serving(artifact_of("toy").path, tmp_path) as server:
        command = [sys.executable, EXAMPLE, f"http://127.0.0.1:{server.port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    title, *steps = done.stdout.splitlines()
    assert title == "umbrellas from 2024-01-15T00:00:00"
    assert [len(step.split()) for step in steps] == [3, 3, 3]
