"""Run upstream's own tests of its Chronos-2 pipeline on ours: `python -m scripts.upstream_tests CHECKOUT`.

CHECKOUT is a clone of chronos-forecasting, of the installed version or near it; its tests need the packages
fev and datasets. Its dummy model is exported with embeddings, and `load` stands in for its fixture.
Tests that make a pipeline of their own are left out, as they would test upstream; so are those that train,
which a graph does not, and those that need a network. Exit status: pytest's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from chronos_export import export, load

FIXTURE = "pipeline"
TRAINING, NETWORK = ("finetun",), ("fev",)  # in the names of tests


class OnOurs:
    """Replaces the fixture, and leaves out what is not for it.

    Args:
        artifact: Loaded anew by every test.
    """

    def __init__(self, artifact: Path) -> None:
        self.artifact = artifact
        self.left_out = {"a pipeline of their own": 0, "training": 0, "a network": 0}

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        """Give `load(artifact)` for the fixture; leave others to pytest."""
        if fixturedef.argname != FIXTURE:
            return None
        pipeline = load(self.artifact)
        fixturedef.cached_result = pipeline, fixturedef.cache_key(request), None
        return pipeline

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keep the tests that are for `load`."""
        kept = []
        for item in items:
            if reason := _left_out(item):
                self.left_out[reason] += 1
            else:
                kept.append(item)
        items[:] = kept

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how many were left out, and why."""
        counts = ", ".join(f"{count} for {reason}" for reason, count in self.left_out.items())
        terminalreporter.write_line(f"left out: {counts}")


def main(checkout: Path) -> int:
    """Run the tests and return pytest's exit status."""
    tests = checkout / "test"
    with TemporaryDirectory() as folder:
        artifact = export(
            str(tests / "dummy-chronos2-model"), output=Path(folder) / "artifact", embeddings=True
        ).path
        sys.path.insert(0, str(checkout))  # its tests import `test.util`
        options = ["-q", "-c", "/dev/null", "--rootdir", str(checkout), "-p", "no:cacheprovider"]
        return int(pytest.main([*options, str(tests / "test_chronos2.py")], plugins=[OnOurs(artifact)]))


def _left_out(item: Any) -> str:
    if FIXTURE not in item.fixturenames:
        return "a pipeline of their own"
    if any(word in item.name for word in TRAINING):
        return "training"
    return "a network" if any(word in item.name for word in NETWORK) else ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
