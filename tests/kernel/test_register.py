"""Who gets the kernel: CUDA tensors, once it was built. The emulated library stands in for it here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from chronos import Chronos2Pipeline
from torch import Tensor
from torch._subclasses import FakeTensorMode

import build
from chronos_export import accelerate
from chronos_export.errors import MachineError
from chronos_export.machine.compiled import KERNEL_NAME
from chronos_export.model import accelerating, cuda_kernel
from chronos_export.model.cuda_kernel import register, register_built
from chronos_export.model.group_attention import Arguments, group_attention_reference
from tests.helpers.attention_problem import answer, make_problem, share_of_bound
from tests.helpers.checkpoints import make_model

Operator = Callable[..., Tensor]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("plugins") / KERNEL_NAME
    build.build_emulated_library(library)
    return library


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Operator]]]:
    """What is registered, and for which device; nothing reaches torch."""
    found: list[tuple[str, Operator]] = []
    operator = SimpleNamespace(
        register_kernel=lambda device: lambda function: found.append((device, function))
    )
    monkeypatch.setattr(cuda_kernel, "group_attention", operator)
    register_built.cache_clear()
    yield found
    register_built.cache_clear()


def test_nothing_is_registered_where_nothing_was_built(
    registered: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    assert register_built() is None
    assert registered == []


def test_what_was_built_is_registered_once(
    registered: list[Any], monkeypatch: pytest.MonkeyPatch, emulated: Path
) -> None:
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(emulated.parent))
    assert register_built() is register_built() is not None
    assert [device for device, _ in registered] == ["cuda"]


def test_a_broken_library_is_an_error_and_not_the_reference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / KERNEL_NAME).write_text("no library")
    monkeypatch.setenv("CHRONOS_EXPORT_PLUGINS", str(tmp_path))
    with pytest.raises(MachineError, match="cannot be used as the kernel library"):
        register_built()


@pytest.fixture
def operator(registered: list[Any], emulated: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """What CUDA tensors would call, on the emulator: no device to choose, no stream."""
    register(emulated)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    ((_, function),) = registered
    return function


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_registered_operator_is_the_kernel(operator: Operator, dtype: torch.dtype) -> None:
    problem = make_problem([1, 20, 2], 2, 2, 64, dtype, device="cpu", dead=0.2)
    got = operator(*problem.arguments)
    assert share_of_bound(got, answer(problem)) <= 1
    reference = group_attention_reference(Arguments(*problem.arguments))
    assert not torch.equal(got, reference)  # sums in another order


@pytest.mark.parametrize(
    ("head_dim", "dtype", "dropout"),
    [(4, torch.half, 0.0), (136, torch.float, 0.0), (64, torch.double, 0.0), (64, torch.float, 0.5)],
)
def test_what_the_kernel_lacks_is_the_reference(
    operator: Operator, head_dim: int, dtype: torch.dtype, dropout: float
) -> None:
    query, *rest = make_problem([1, 5, 2], 2, 2, head_dim, torch.float32, device="cpu").arguments
    tensors = [x.to(dtype) if x.is_floating_point() else x for x in (query, *rest[:-1])]
    arguments = Arguments(*tensors, 2, dropout, torch.tensor(3))
    assert torch.equal(operator(*arguments), group_attention_reference(arguments))


class AskedError(Exception):
    """The encoder asked for the kernel."""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_accelerated_encoder_asks_for_it_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    def ask() -> None:
        raise AskedError

    monkeypatch.setattr(accelerating, "register_built", ask)
    encoder = accelerate(Chronos2Pipeline(make_model("toy"))).model.encoder
    if device == "cpu":
        encoder(torch.randn(2, 3, 6), group_ids=torch.zeros(2, dtype=torch.int64))
        return
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(AskedError):
        encoder(torch.empty(2, 3, 6, device="cuda"), group_ids=torch.zeros(2, dtype=torch.int64))
