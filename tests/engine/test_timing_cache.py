"""The timing cache on disk: what was written comes back, and nothing else does."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from chronos_export.engine import timing_cache

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


@pytest.mark.parametrize(("runtime", "version"), [("tensorrt", "11.4.0"), ("tensorrt-rtx", "10.16.1")])
def test_a_foreign_cache_is_ignored_and_both_makers_named(cache: Path, runtime: str, version: str) -> None:
    blob, problem = timing_cache.read(cache, runtime, version)
    assert blob == b""
    assert "made by tensorrt 10.16.1" in problem
    assert f"this is {runtime} {version}" in problem


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


NUMBERS = json.dumps({"runtime": 1, "version": 2, "sha256": sha256(BLOB).hexdigest()})


@pytest.mark.parametrize("header", ["[]", "{}", "null", '{"runtime": "tensorrt"}', NUMBERS])
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
        from chronos_export.engine import timing_cache
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


# ---- what a build makes of it, with a stand-in for TensorRT ----


@dataclass
class Cache:
    """An ITimingCache of names."""

    names: set[bytes]

    def combine(self, other: Cache, ignore_mismatch: bool) -> None:
        assert not ignore_mismatch
        self.names |= other.names

    def serialize(self) -> bytes:
        return b" ".join(sorted(self.names))


@dataclass
class Config:
    """An IBuilderConfig on a GPU that refuses the caches of others."""

    refused: bytes = b"other-gpu"
    cache: Cache = field(default_factory=lambda: Cache(set()))

    def create_timing_cache(self, blob: bytes) -> Cache:
        return Cache(set(blob.split()))

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if self.refused in cache.names:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Cache:
        return self.cache


def build(path: Path, meanwhile: bytes = b"", runtime: str = "tensorrt") -> tuple[set[bytes], list[str]]:
    """A build that times `mine` while another saves `meanwhile`; the timings it began with, its warnings."""
    config, said = Config(), list[str]()
    cache = timing_cache.TimingCache(config, str(path), runtime, "10.16.1", said.append)
    begun = set(config.cache.names)
    config.cache.names.add(b"mine")
    if meanwhile:
        timing_cache.write(path, "tensorrt", "10.16.1", meanwhile)
    cache.save()
    return begun, said


def test_a_build_extends_the_cache_and_what_others_saved_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    assert build(path) == (set(), [])
    assert build(path, meanwhile=b"theirs") == ({b"mine"}, [])
    assert read(path) == (b"mine theirs", "")


@pytest.mark.parametrize(
    ("runtime", "version", "blob", "told"),
    [
        ("tensorrt", "9.3.0", b"old", "made by tensorrt 9.3.0, this is tensorrt 10.16.1"),
        ("tensorrt-rtx", "10.16.1", b"old", "made by tensorrt-rtx 10.16.1"),
        ("tensorrt", "10.16.1", b"old other-gpu", "made for another GPU"),
    ],
)
def test_a_build_ignores_a_foreign_cache_with_a_warning(
    tmp_path: Path, runtime: str, version: str, blob: bytes, told: str
) -> None:
    path = tmp_path / "timings"
    timing_cache.write(path, runtime, version, blob)
    begun, (warning,) = build(path)
    assert begun == set()
    assert str(path) in warning
    assert "ignored" in warning
    assert told in warning


def test_a_build_replaces_a_corrupt_cache_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"chronos-export timing cache 1\nthen the disk was full")
    begun, (warning,) = build(path)
    assert begun == set()
    assert f"{path} ignored" in warning
    assert read(path) == (b"mine", "")


def test_a_build_goes_on_where_the_cache_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"")
    begun, warnings = build(tmp_path / "a file" / "timings")
    assert begun == set()
    assert [warning.split(": ")[-1] for warning in warnings] == ["File exists", "File exists"]
    assert "ignored" in warnings[0]
    assert "not written" in warnings[1]


def test_tensorrt_rtx_says_that_it_times_nothing(tmp_path: Path) -> None:
    _, (warning,) = build(tmp_path / "timings", runtime="tensorrt-rtx")
    assert "not used: tensorrt-rtx" in warning
    assert not (tmp_path / "timings").exists()
