"""`scripts/gpu_check` where there is no GPU: its peers against float64, its page, its dry run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from scripts.gpu_check import peers, report
from scripts.gpu_check.correctness import attempt
from scripts.gpu_check.layer import TABLE
from scripts.gpu_check.problem import answer, make_problem
from scripts.gpu_check.sections import SECTIONS
from scripts.gpu_check.setting import OURS, Record

ROOT = Path(__file__).resolve().parents[2]

COMMAND = [sys.executable, "-m", "scripts.gpu_check"]


@pytest.mark.parametrize("name", ["dense masked SDPA", "padded [groups, longest] SDPA", "loop over groups"])
@pytest.mark.parametrize("length", [1, 5, 20])
def test_a_peer_computes_the_same(name: str, length: int) -> None:
    problem = make_problem([length] * (40 // length), 3, 2, 64, torch.float32, device="cpu")
    got = peers.PEERS[name](problem)(problem)
    assert float((got - answer(problem).output).abs().max()) < 1e-5


@pytest.mark.parametrize("name", ["torch varlen_attn", "nested tensor SDPA", "flex_attention"])
def test_a_peer_without_a_key_mask_refuses_dead_tokens(name: str) -> None:
    problem = make_problem([5] * 4, 3, 2, 64, torch.float32, device="cpu", dead=0.5)
    with pytest.raises(ValueError, match="takes no key mask"):
        peers.PEERS[name](problem)


@pytest.mark.parametrize("length", [1, 5, 20])
def test_fused_attention_takes_the_bias_of_a_padded_peer_as_it_lies(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It copies a mask whose strides are not multiples of 8, in every call."""
    problem = make_problem([length] * 4, 3, 2, 64, torch.float32, device="cpu")
    taken: list[torch.Tensor] = []

    def attention(
        query: torch.Tensor, *_: torch.Tensor, attn_mask: torch.Tensor, scale: float
    ) -> torch.Tensor:
        taken.append(attn_mask)
        return query

    monkeypatch.setattr(peers.F, "scaled_dot_product_attention", attention)
    peers.padded(problem)(problem)
    (bias,) = taken
    assert bias.shape == (4, 6, length, length)
    assert bias.stride(-1) == 1
    assert not any(stride % 8 for stride in bias.stride()[:-1])


def test_what_a_check_raises_is_its_failure_after_what_it_found() -> None:
    def check() -> Iterator[Record]:
        yield {"check": "a", "good": True}
        raise RuntimeError("CUDA error: operation not permitted")

    first, second = attempt("launches", check())
    assert first == {"check": "a", "good": True}
    assert (second["check"], second["good"]) == ("launches", False)
    assert second["why"] == "RuntimeError: CUDA error: operation not permitted"


def page(section: str, *records: dict[str, object], **result: object) -> str:
    sections = {section: {"records": list(records), **result}}
    return report.markdown({"environment": {}, "dry_run": False, "sections": sections})


def test_the_page_compares_with_the_best_peer() -> None:
    common = {"table": TABLE, "type": "float32", "segment": 20}
    shown = page(
        "one layer",
        {**common, "contender": OURS, "ms": 0.5, "of copy bandwidth": 0.8},
        {**common, "contender": "slow", "ms": 3.0},
        {**common, "contender": "fast", "ms": 1.0},
        {**common, "contender": "absent", "ms": None, "why": "no such thing"},
    )
    assert "| float32 | 20 | 0.500 | 3.000 | 1.000 | - | 80% | 2.00x |" in shown
    assert "float32 20 absent no such thing" in shown


def test_the_page_names_every_failure() -> None:
    shown = page(
        "correctness",
        {"check": "a", "good": True},
        {"check": "b", "good": False, "detail": "1.5 of the bound"},
        {"table": "whole model", "contender": "c", "ms": 1.0, "good": False},
        why="stopped after 90 s",
    )
    assert "1 of 2 passed." in shown
    assert "FAILED: b 1.5 of the bound" in shown
    assert "FAILED: c" in shown
    assert "Not all of it was run: stopped after 90 s" in shown


def test_a_table_shows_every_column_that_any_record_has() -> None:
    shown = page("a", {"table": "t", "rows": 20, "ms": 1.23456}, {"table": "t", "rows": 40, "MB": 7.0})
    assert "| rows | ms | MB |" in shown
    assert "| 20 | 1.235 | - |" in shown
    assert "| 40 | - | 7 |" in shown


def test_what_matters_most_fits_into_ten_minutes() -> None:
    """Sections are cut short when time runs out, the last ones first."""
    without_tensorrt = sum(s.limit_s for name, s in SECTIONS.items() if name in list(SECTIONS)[:5])
    assert list(SECTIONS)[:5] == ["build", "correctness", "whole model", "one layer", "one group of 20"]
    assert without_tensorrt <= 540


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--dry-run" in done.stderr


@pytest.mark.slow
def test_the_dry_run_passes() -> None:
    done = subprocess.run([*COMMAND, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert done.stdout.count("Not all of it was run") == 1  # the engines at full size
