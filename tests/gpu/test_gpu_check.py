"""`scripts/gpu_check` where there is no GPU, and its peers against float64."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from scripts.gpu_check import peers, report  # noqa: E402
from scripts.gpu_check.layer import OURS  # noqa: E402
from scripts.gpu_check.problem import answer, make_problem  # noqa: E402

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


def test_the_page_compares_with_the_best_peer() -> None:
    common = {"dtype": "float32", "segment": 20}
    section = {
        "copy_bandwidth": 4e12,
        "matmul": {"float32": 5e13},
        "times": [
            {**common, "name": OURS, "ms": 0.5, "bandwidth_share": 0.8},
            {**common, "name": "slow", "ms": 3.0},
            {**common, "name": "fast", "ms": 1.0},
            {**common, "name": "absent", "ms": None, "why": "no such thing"},
        ],
    }
    page = report.markdown({"environment": {}, "sections": {"layer": section}})
    assert "| float32 | 20 | 0.500 | 3.000 | 1.000 | - | 80 % | 2.00x |" in page
    assert "absent (float32, 20): no such thing" in page


def test_the_page_names_every_failure() -> None:
    records = [{"check": "a", "good": True}, {"check": "b", "good": False, "detail": "1.5 of the bound"}]
    page = report.markdown({"environment": {}, "sections": {"correctness": {"records": records}}})
    assert "1 of 2 passed." in page
    assert "FAILED: b 1.5 of the bound" in page


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
