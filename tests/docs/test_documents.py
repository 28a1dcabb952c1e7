"""What the documents say: every code block runs as it stands there, every link leads somewhere.

A block that a document says is not run (`<!-- not run: why -->` above it) is left out; one that belongs into
an artifact's folder (`<!-- run: in the demo artifact -->`) runs there. The others share a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*) -->\n)?```(?P<language>python|sh)\n(?P<code>.*?)```", re.DOTALL)
IN_ARTIFACT = ("run: in the demo artifact", "polygraphy")


@dataclass(frozen=True)
class Block:
    """A code block of a document, and what the comment above it says."""

    language: str
    code: str
    note: str

    @property
    def is_run(self) -> bool:
        return not self.note.startswith("not run: ")


def blocks_of(document: Path) -> list[Block]:
    found = BLOCK.finditer(document.read_text())
    return [Block(match["language"], match["code"], match["note"] or "") for match in found]


WITH_CODE = [document for document in DOCUMENTS if any(block.is_run for block in blocks_of(document))]


@pytest.mark.parametrize("document", WITH_CODE, ids=lambda path: path.name)
def test_its_code_runs_as_it_stands(
    document: Path, artifact_of: Callable[[str], Artifact], tmp_path: Path
) -> None:
    demo = Path(shutil.copytree(artifact_of("demo").path, tmp_path / "chronos-2-demo"))
    (tmp_path / "exporter").symlink_to(ROOT / "exporter")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks_of(document):
        if not block.is_run:
            continue
        command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*command, block.code],
            cwd=demo if block.note in IN_ARTIFACT else tmp_path,
            env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{block.code}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_its_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_a_block_that_fails_is_noticed(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("```python\nassert False\n```\n\n<!-- not run: needs a GPU -->\n```sh\nfalse\n```\n")
    one, other = blocks_of(document)
    assert (one.is_run, one.code, other.is_run) == (True, "assert False\n", False)
