"""A real server for tests that leave it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chronos_export.artifact.reading import Artifact
from tests.helpers.serving import Server, assert_serves, serving


@pytest.fixture(scope="session")
def artifact(artifact_of: Callable[[str], Artifact]) -> Path:
    return artifact_of("toy").path


@pytest.fixture(scope="session")
def server(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for tests that leave it as it was."""
    options = ("--timeout", "3", "--max-rows", "100", "--max-steps", "50000")
    with serving(artifact, tmp_path_factory.mktemp("server"), *options) as found:
        yield found
        assert_serves(found)
