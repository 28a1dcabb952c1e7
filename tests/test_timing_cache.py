"""The timing cache on disk: what was written comes back, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from chronos_export import timing_cache

BLOB = bytes(range(256)) + b"\n\n{}\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    path = tmp_path / "timings"
    timing_cache.write(path, "tensorrt", "10.16.1", BLOB)
    return path


def read(path: Path) -> tuple[bytes, str]:
    return timing_cache.read(path, "tensorrt", "10.16.1")


def test_what_was_written_comes_back(cache: Path) -> None:
    assert read(cache) == (BLOB, "")
    timing_cache.write(cache, "tensorrt", "10.16.1", b"")
    assert read(cache) == (b"", "")
    assert [path.name for path in cache.parent.iterdir()] == ["timings"]


def test_no_cache_yet_is_no_problem(tmp_path: Path) -> None:
    assert read(tmp_path / "timings") == (b"", "")


@pytest.mark.parametrize(("target", "version"), [("tensorrt", "11.4.0"), ("tensorrt-rtx", "10.16.1")])
def test_a_foreign_cache_is_ignored_and_both_makers_named(cache: Path, target: str, version: str) -> None:
    blob, problem = timing_cache.read(cache, target, version)
    assert blob == b""
    assert "made by tensorrt 10.16.1" in problem
    assert f"this is {target} {version}" in problem


def test_every_truncation_is_noticed(cache: Path) -> None:
    whole = cache.read_bytes()
    for length in range(len(whole)):
        cache.write_bytes(whole[:length])
        blob, problem = read(cache)
        assert blob == b"", length
        assert str(cache) in problem, length


def test_every_flipped_byte_is_noticed(cache: Path) -> None:
    """A flip inside the header may make the cache foreign instead of corrupt: ignored all the same."""
    whole = cache.read_bytes()
    for index in range(len(whole)):
        cache.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        assert read(cache)[0] == b"", index


@pytest.mark.parametrize("header", ["[]", "{}", "null", '{"target": 1, "version": 2, "sha256": 3}'])
def test_a_header_of_another_shape(cache: Path, header: str) -> None:
    magic, _, blob = cache.read_bytes().split(b"\n", 2)
    cache.write_bytes(b"\n".join((magic, header.encode(), blob)))
    assert read(cache)[0] == b""
    assert "ignored" in read(cache)[1]


def test_a_folder_is_ignored(tmp_path: Path) -> None:
    assert read(tmp_path)[0] == b""
    assert "cannot be read" in read(tmp_path)[1]


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    """Four processes each add their number to the cache, 10 times; without the lock some get lost."""
    script = f"""
        import json, sys
        from pathlib import Path
        from chronos_export import timing_cache
        path = Path({str(tmp_path / "deep" / "timings")!r})
        for _ in range(10):
            with timing_cache.locked(path):
                found, _ = timing_cache.read(path, "tensorrt", "10")
                numbers = json.loads(found or b"[]") + [int(sys.argv[1])]
                timing_cache.write(path, "tensorrt", "10", json.dumps(numbers).encode())
    """
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(number)]) for number in range(4)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 4
    blob, _ = timing_cache.read(tmp_path / "deep" / "timings", "tensorrt", "10")
    assert sorted(json.loads(blob)) == sorted([0, 1, 2, 3] * 10)
