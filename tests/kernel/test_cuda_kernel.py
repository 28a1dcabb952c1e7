"""The ctypes binding, over the emulated library: same C interface, host memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import build
from chronos_export.errors import MachineError, UsageError
from chronos_export.model.cuda_kernel import Kernel
from chronos_export.model.group_attention import Arguments, group_attention_reference
from scripts.benchmarks.timing import tf32
from tests.helpers.attention_problem import (
    LAYOUTS,
    MODES,
    Problem,
    answer,
    make_problem,
    share_of_bound,
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Kernel:
    library = tmp_path_factory.mktemp("emulated") / "libemulated.so"
    build.build_emulated_library(library)
    return Kernel(library)


def problem_of(dtype: torch.dtype = torch.float32, layout: str = "rows", head_dim: int = 64) -> Problem:
    return make_problem([1, 20, 2, 17], 2, 2, head_dim, dtype, device="cpu", layout=layout, dead=0.2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", MODES)
def test_every_layout_and_type(kernel: Kernel, mode: str, layout: str) -> None:
    problem, in_tf32 = problem_of(MODES[mode], layout), mode == "tf32"
    with tf32(in_tf32):
        got = kernel.run(Arguments(*problem.arguments), stream=0)
    assert share_of_bound(got, answer(problem, tf32=in_tf32)) <= 1
    assert got.stride() == torch.empty_like(problem.query).stride()


@pytest.fixture
def precision() -> Iterator[None]:
    """Any of PyTorch's ways to say how float32 is multiplied may be used; afterwards none was."""
    yield
    torch.backends.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "none"


SWITCHES: list[Callable[[bool], None]] = [
    lambda on: setattr(torch.backends.cuda.matmul, "allow_tf32", on),
    lambda on: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32" if on else "ieee"),
    lambda on: setattr(torch.backends, "fp32_precision", "tf32" if on else "ieee"),
    lambda on: torch.set_float32_matmul_precision("high" if on else "highest"),
]


@pytest.mark.parametrize("switch", SWITCHES)
def test_tf32_is_what_pytorch_allows(kernel: Kernel, precision: None, switch: Callable[[bool], None]) -> None:
    """Off, the error stays inside float32's bound; on, it leaves it, and stays inside tf32's."""
    problem = problem_of()
    for on in (True, False):
        switch(on)
        got = kernel.run(Arguments(*problem.arguments), stream=0)
        assert (share_of_bound(got, answer(problem)) > 1) is on
        assert share_of_bound(got, answer(problem, tf32=on)) <= 1


@pytest.mark.parametrize(
    "segments", [[1] * 70, [20] * 7, [7, 15, 16, 17, 1, 31, 32, 33, 2], [3, 129, 1, 63, 64, 65]]
)
@pytest.mark.parametrize("dead", [0.0, 0.2, 0.95])
def test_ragged_segments_in_tf32(kernel: Kernel, segments: list[int], dead: float) -> None:
    problem = make_problem(segments, 1, 1, 64, torch.float32, device="cpu", dead=dead)
    with tf32(True):
        got = kernel.run(Arguments(*problem.arguments), stream=0)
    assert share_of_bound(got, answer(problem, tf32=True)) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("head_dim", range(8, 129, 8))
def test_every_head_dim(kernel: Kernel, dtype: torch.dtype, head_dim: int) -> None:
    problem = problem_of(dtype, head_dim=head_dim)
    assert share_of_bound(kernel.run(Arguments(*problem.arguments), stream=0), answer(problem)) <= 1


def test_the_reference_is_inside_the_same_bound() -> None:
    problem = problem_of()
    assert share_of_bound(group_attention_reference(Arguments(*problem.arguments)), answer(problem)) <= 1


@pytest.mark.parametrize(("in_tf32", "error"), [(False, 1e-3), (True, 0.2)])
def test_the_bound_is_no_free_pass(kernel: Kernel, in_tf32: bool, error: float) -> None:
    problem = problem_of()
    got = kernel.run(Arguments(*problem.arguments), stream=0)
    assert share_of_bound(got * (1 + error), answer(problem, tf32=in_tf32)) > 1


def test_a_transposed_last_dimension_is_right(kernel: Kernel) -> None:
    problem = problem_of()
    turned = problem.query.transpose(1, 2).contiguous().transpose(1, 2)
    got = kernel.run(Arguments(turned, *problem.arguments[1:]), stream=0)
    assert torch.equal(got, kernel.run(Arguments(*problem.arguments), stream=0))


@pytest.mark.parametrize("head_dim", [64, 40])
@pytest.mark.parametrize("mode", MODES)
def test_every_input_is_read_by_strides_of_its_own(kernel: Kernel, mode: str, head_dim: int) -> None:
    """Laid out each in another way they give the bits that they give laid out alike."""
    problem = problem_of(MODES[mode], head_dim=head_dim)
    query, key, value, begin, end, alive, heads = problem.arguments
    width, tokens = query.shape[2], query.shape[1]
    apart = (
        query.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([key, key + 1], dim=2)[..., :width],
        torch.cat([value, value + 1], dim=1)[:, :tokens],
        torch.stack([begin, begin + 1], dim=1)[:, 0],
        torch.stack([end, end + 1], dim=1)[:, 0],
        alive.T.contiguous().T,
    )
    assert len({x.stride() for x in (problem.query, *apart[:3])}) == 4
    assert alive.stride() != apart[-1].stride()
    with tf32(mode == "tf32"):
        together = kernel.run(Arguments(*problem.arguments), stream=0)
        assert torch.equal(kernel.run(Arguments(*apart, heads), stream=0), together)


def test_no_rows(kernel: Kernel) -> None:
    problem = problem_of()
    tensors = [x[:0] for x in problem.arguments[:-1]]
    assert kernel.run(Arguments(*tensors, problem.heads), stream=0).shape == (0, 2, 128)


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("query", lambda x: x.double(), "query is torch.float64"),
        ("key", lambda x: x.half(), "key is torch.float16"),
        ("value", lambda x: x[:-1], "value is"),
        ("segment_begin", lambda x: x.long(), "segment_begin is torch.int64"),
        ("key_mask", lambda x: x.int(), "key_mask is torch.int32"),
        ("num_heads", lambda _: 3, "with 3 heads"),
        ("num_heads", lambda _: 32, "head_dim is 4"),
        ("dropout", lambda _: 0.1, "dropout is 0.1"),
    ],
)
def test_what_does_not_fit_is_refused(
    kernel: Kernel, field: str, change: Callable[[Any], Any], message: str
) -> None:
    arguments = Arguments(*problem_of().arguments)
    with pytest.raises(UsageError, match=message):
        kernel.run(arguments._replace(**{field: change(getattr(arguments, field))}), stream=0)


def test_a_missing_library(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not exist"):
        Kernel(tmp_path / "nothing.so")


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("not a library")
    with pytest.raises(MachineError, match="cannot be used"):
        Kernel(tmp_path / "x.so")


@pytest.mark.parametrize(("source", "message"), [("", "cannot be used"), ("2", "has ABI 2")])
def test_another_library(tmp_path: Path, source: str, message: str) -> None:
    body = f'extern "C" int chronos_group_attention_abi() {{ return {source}; }}' if source else "int other;"
    (tmp_path / "x.cpp").write_text(body)
    build._run("g++", "-shared", "-fPIC", tmp_path / "x.cpp", "-o", tmp_path / "x.so")
    with pytest.raises(MachineError, match=message):
        Kernel(tmp_path / "x.so")
