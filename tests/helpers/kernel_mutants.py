"""Bugs planted into the kernel, one at a time; the emulator's checks must notice every one.

Run by `make kernel` and by the slow test; alone: `python3 tests/kernel/mutants.py [PART OF A NAME]`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SOURCE_FOLDER = Path(__file__).resolve().parents[2] / "plugins" / "group_attention"
sys.path.insert(0, str(SOURCE_FOLDER))

import build  # noqa: E402

CASES = (
    *("edges", "ragged", "twenties", "huge", "dead", "singles", "poisoned", "fused", "head-dim-40"),
    *("any-segments", "each-its-layout"),
)


@dataclass(frozen=True)
class Mutant:
    """One change of one place. `sanitized` ones read memory they may not, which only ASan sees."""

    name: str
    file: str
    old: str
    new: str
    sanitized: bool = False


_DONE = "    __syncthreads();  // everyone is done with this tile\n"
_LANDED = "    wait_for_copies();\n    __syncthreads();\n"

MUTANTS = (
    Mutant("mma: no barrier before a tile is overwritten", "mma_kernel.cuh", _DONE, ""),
    Mutant("mma: no barrier after a tile has landed", "mma_kernel.cuh", _LANDED, "    wait_for_copies();\n"),
    Mutant("mma: copies not waited for", "mma_kernel.cuh", _LANDED, "    __syncthreads();\n"),
    Mutant("fma: no barrier before a tile is overwritten", "fma_kernel.cuh", _DONE, ""),
    Mutant("fma: no barrier after a tile has landed", "fma_kernel.cuh", _LANDED, "    wait_for_copies();\n"),
    Mutant("fma: copies not waited for", "fma_kernel.cuh", _LANDED, "    __syncthreads();\n"),
    Mutant(
        "fma: a barrier that some warps skip",
        "fma_kernel.cuh",
        "  const int seat = lane % kSeats;\n  const int end",
        "  const int seat = lane % kSeats;\n  if (lane < 16) __syncthreads();\n  const int end",
    ),
    Mutant(
        "segment end one too far",
        "rows.cuh",
        "bits_below(window.end - first)",
        "bits_below(window.end + 1 - first)",
    ),
    Mutant(
        "mma: values by key's strides",
        "mma_kernel.cuh",
        "values, p.value, p.value_stride",
        "values, p.value, p.key_stride",
    ),
    Mutant(
        "fma: values by key's strides",
        "fma_kernel.cuh",
        "values, p.value, p.value_stride",
        "values, p.value, p.key_stride",
    ),
    Mutant(
        "row kernel: keys by query's strides",
        "row_kernel.cuh",
        "p.key, p.key_stride",
        "p.key, p.query_stride",
    ),
    Mutant("mask taken for packed", "rows.cuh", "row * p.key_mask_row_stride", "row * p.tokens"),
    Mutant(
        "segment bounds taken as they are",
        "rows.cuh",
        "return min(max(bound, 0), p.rows);",
        "return p.rows < 0 ? 0 : bound;",
        sanitized=True,
    ),
    Mutant(
        "segment begin one too late",
        "rows.cuh",
        "~bits_below(window.begin - first)",
        "~bits_below(window.begin + 1 - first)",
    ),
    Mutant(
        "block window ignores the upper rows",
        "rows.cuh",
        "join(window_of_row(low), window_of_row(high))",
        "window_of_row(low)",
    ),
    Mutant("dead keys attended", "rows.cuh", "key < end && is_alive(p, key, token)", "key < end"),
    Mutant(
        "dead query answered", "rows.cuh", "if (!is_alive(p, row, token)) return {begin, end, kDead};", ""
    ),
    Mutant(
        "mask of the wrong token",
        "rows.cuh",
        "token * p.key_mask_token_stride",
        "0 * p.key_mask_token_stride",
    ),
    Mutant(
        "mask read past the last row",
        "rows.cuh",
        "key < end && is_alive(p, key, token)",
        "is_alive(p, key, token) && key < end",
        sanitized=True,
    ),
    Mutant(
        "rows past the end read",
        "rows.cuh",
        "if (row >= p.rows) return {0, 0, kOutside};",
        "",
        sanitized=True,
    ),
    Mutant(
        "keys read past the end", "copy.cuh", "source, done + row < rows)", "source, true)", sanitized=True
    ),
    Mutant(
        "head stride used for tokens",
        "rows.cuh",
        "token * stride.token + head * stride.head;\n}\n\ntemplate",
        "token * stride.head + head * stride.head;\n}\n\ntemplate",
    ),
    Mutant(
        "values read by the keys' place",
        "mma_kernel.cuh",
        "values, p.value, p.value_stride",
        "values, p.key, p.value_stride",
    ),
    Mutant(
        "single row copies its key",
        "copy.cuh",
        "at<Storage>(p.value, p.value_stride",
        "at<Storage>(p.key, p.value_stride",
    ),
    Mutant("pairs taken for singles", "rows.cuh", "end - begin == 1 ? kSingle", "end - begin <= 2 ? kSingle"),
    Mutant("mma: no rescale", "mma_kernel.cuh", "rows.sum[n][e] *= factor[e / 2]", "rows.sum[n][e] *= 1.0f"),
    Mutant("fma: no rescale", "fma_kernel.cuh", "rows.sum[r][d] *= factor;", "rows.sum[r][d] *= 1.0f;"),
    Mutant("sum of the weights not rescaled", "softmax.cuh", "    sum *= factor;\n", ""),
    Mutant("largest score forgotten", "softmax.cuh", "largest = fmaxf(largest, score);", "largest = score;"),
    Mutant("fully masked pieces make NaN", "softmax.cuh", "largest == -INFINITY ? 0.0f : largest", "largest"),
    Mutant("mma: the largest of two lanes only", "mma_kernel.cuh", "max_of_lanes<4>", "max_of_lanes<2>"),
    Mutant("fma: the sum of four lanes only", "fma_kernel.cuh", "sum_of_lanes<kSeats>", "sum_of_lanes<4>"),
    Mutant(
        "mma: keys and weights in different orders",
        "mma_values.cuh",
        "(lane % 16 / 8 * 8 + key_of_column(lane % 8))",
        "(lane % 16)",
    ),
    Mutant(
        "mma: weights of two fragments swapped",
        "mma_values.cuh",
        "Element::pack(low[2], low[3]),\n                                 Element::pack(high[0], high[1])",
        "Element::pack(high[0], high[1]),\n                                 Element::pack(low[2], low[3])",
    ),
    Mutant(
        "mma: query halves swapped",
        "mma_kernel.cuh",
        "rows.query[2 * i][r + 2] = numbers.y;\n      rows.query[2 * i + 1][r] = numbers.z;",
        "rows.query[2 * i][r + 2] = numbers.z;\n      rows.query[2 * i + 1][r] = numbers.y;",
    ),
    Mutant(
        "mma: output pieces not transposed back",
        "mma_values.cuh",
        "      transpose_in_quad(piece, part);\n",
        "",
    ),
    Mutant("tf32: taken without leave", "group_attention.cu", "if (fast && p.allow_tf32)", "if (fast)"),
    Mutant("tf32: leave not taken", "group_attention.cu", "if (fast && p.allow_tf32)", "if (false)"),
    Mutant("tf32: where rows are not aligned", "group_attention.cu", "fast && p.allow_tf32", "p.allow_tf32"),
    Mutant(
        "tf32: queries truncated",
        "mma_kernel.cuh",
        "Element::operands(reinterpret_cast<const uint4*>(query)[4 * i + lane % 4])",
        "reinterpret_cast<const uint4*>(query)[4 * i + lane % 4]",
    ),
    Mutant(
        "tf32: keys truncated",
        "mma_kernel.cuh",
        "Element::operands(load_shared16(mine + 8 * n * kPitch<Element> + 4 * i))",
        "load_shared16(mine + 8 * n * kPitch<Element> + 4 * i)",
    ),
    Mutant(
        "tf32: values of half the keys truncated",
        "mma_values.cuh",
        "Tf32::operands(load_shared16(chunk))",
        "load_shared16(chunk)",
    ),
    Mutant(
        "tf32: weights in the order of the sums",
        "mma_values.cuh",
        "Tf32::round(w[2]), Tf32::round(w[1])",
        "Tf32::round(w[1]), Tf32::round(w[2])",
    ),
    Mutant(
        "tf32: keys and weights in different orders",
        "mma_values.cuh",
        "values + lane % 4 * kPitch<Tf32>",
        "values + key_of_column(lane % 4) * kPitch<Tf32>",
    ),
    Mutant(
        "tf32: values and sums in different orders",
        "mma_values.cuh",
        "kPitch<Tf32> + key_of_column(lane / 4)",
        "kPitch<Tf32> + lane / 4",
    ),
    Mutant(
        "tf32: the second key of a pair is its neighbour",
        "mma_values.cuh",
        "chunk + 4 * kPitch<Tf32>",
        "chunk + 1 * kPitch<Tf32>",
    ),
    Mutant(
        "tf32: output chunks swapped",
        "mma_values.cuh",
        "n = chunk / 2 * 4, e = 2 * r + chunk % 2",
        "n = chunk % 2 * 4, e = 2 * r + chunk / 2",
    ),
    Mutant(
        "tf32: sums of the wrong row scaled",
        "mma_values.cuh",
        "rows.sum[n + 3][e] * scale[r]",
        "rows.sum[n + 3][e] * scale[0]",
    ),
    Mutant(
        "mma: shared memory one row short",
        "mma_kernel.cuh",
        "16 * (2 * kMmaKeysPerTile<Element> * kPitch",
        "16 * ((2 * kMmaKeysPerTile<Element> - 1) * kPitch",
    ),
    Mutant(
        "fma: keys of an earlier step counted twice", "fma_kernel.cuh", " & ~bits_below(next - first);", ";"
    ),
    Mutant(
        "fma: unfilled rows of a tile read",
        "fma_kernel.cuh",
        "filled - kSeats * turns",
        "kFmaKeysPerTile - kSeats * turns",
    ),
    Mutant(
        "poisoned tiles not answered again",
        "mma_kernel.cuh",
        "  if (broken) return answer_rows_again<Element>(p, place, first, lane);\n",
        "  (void)broken;\n",
    ),
    Mutant(
        "shared memory one row short",
        "fma_kernel.cuh",
        "16 * (kRowsPerBlock + 2",
        "16 * (kRowsPerBlock - 1 + 2",
    ),
    Mutant(
        "scores scaled by 1/8",
        "row_kernel.cuh",
        "score = sum_of_lanes<32>(score);",
        "score = sum_of_lanes<32>(score) / 8;",
    ),
    Mutant(
        "row kernel: last dimensions dropped",
        "row_kernel.cuh",
        "if (d < head_dim) row[d]",
        "if (d < head_dim / 16 * 16) row[d]",
    ),
)


def kill(mutant: Mutant) -> str:
    """Plant one bug and run the checks; returns how it was noticed, or "" if it survived.

    Raises:
        ValueError: The place to change is not there exactly once.
        build.CompilerError: The changed source does not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "group_attention"
        shutil.copytree(SOURCE_FOLDER, changed, ignore=shutil.ignore_patterns("tensorrt", "__pycache__"))
        path = changed / mutant.file
        source = path.read_text()
        if source.count(mutant.old) != 1:
            raise ValueError(f"{mutant.name}: the text to replace occurs {source.count(mutant.old)} times")
        path.write_text(source.replace(mutant.old, mutant.new))
        check = Path(folder) / "check"
        build.build_check(check, changed, sanitize=mutant.sanitized, warn=False)
        done = subprocess.run([check, *CASES], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return _noticed_by(done.stdout, done.stderr)


def _noticed_by(stdout: str, stderr: str) -> str:
    for line in stderr.splitlines():
        if line.startswith("emulator: "):
            return line.removeprefix("emulator: ").split(" (")[0]
        if "ERROR: AddressSanitizer" in line:
            return line.split("AddressSanitizer: ")[1].split(" on ")[0]
    failed = [line for line in stdout.splitlines() if line.endswith("FAILED")]
    return "case " + " ".join(failed[0].split()[:2]) if failed else "crash"


def kill_all(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str]]:
    """`kill` each, two at a time, in order."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from zip(mutants, pool.map(kill, mutants), strict=True)


def main() -> int:
    """One line a bug. Exit status 1 if one survives."""
    wanted = [m for m in MUTANTS if not sys.argv[1:] or any(part in m.name for part in sys.argv[1:])]
    survived = 0
    for mutant, noticed_by in kill_all(wanted):
        print(f"{mutant.name:<50} {noticed_by or 'SURVIVED'}", flush=True)
        survived += not noticed_by
    print(f"{len(wanted) - survived} of {len(wanted)} planted bugs noticed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
