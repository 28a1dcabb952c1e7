"""The peers of one layer's group attention: all compute the same, and none copies its inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from chronos_export.errors import MachineError
from chronos_export.model.group_attention import group_attention_reference
from scripts.benchmarks import layer
from scripts.benchmarks.layer import CALLS, PEERS, Layer, layer_peers, make_layer


def problem(length: int, dtype: str = "float32") -> Layer:
    return make_layer(dtype, length, 40, 3, 2, "cpu")


@pytest.mark.parametrize(
    "name", ["dense masked SDPA", "padded [groups, longest] SDPA", "loop over groups", "nested tensor SDPA"]
)
@pytest.mark.parametrize("length", [1, 5, 20])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_peer_computes_the_same(name: str, length: int) -> None:
    arguments = problem(length).arguments
    got = PEERS[name](arguments)(arguments)
    assert float((got - group_attention_reference(arguments)).abs().max()) < 1e-5


def test_varlen_attention_gets_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """[rows, tokens * heads, 64] and the bounds of the groups; here an attention of PyTorch answers it."""
    from torch.nn.attention import varlen

    arguments = problem(5).arguments
    taken: list[Tensor] = []

    def attend(
        q: Tensor, k: Tensor, v: Tensor, limits: Tensor, _: Tensor, *longest: int, scale: float
    ) -> Tensor:
        taken.extend((q, k, v))
        assert longest == (5, 5)
        parts = zip(*(x.tensor_split(limits[1:-1].tolist()) for x in (q, k, v)), strict=True)
        attended = [
            torch.nn.functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part), scale=scale)
            for part in parts
        ]
        return torch.cat([x.transpose(0, 1) for x in attended])

    monkeypatch.setattr(varlen, "varlen_attn", attend)
    got = PEERS["torch varlen_attn"](arguments)(arguments)
    assert float((got - group_attention_reference(arguments)).abs().max()) < 1e-5
    assert [x.shape for x in taken] == [(40, 6, 64)] * 3
    assert [x.data_ptr() for x in taken] == [x.data_ptr() for x in arguments[:3]]


def test_who_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layer.PEERS, "wrong", lambda arguments: lambda given: given.value)
    wrong = next(peer for peer in layer_peers(problem(5)) if peer.name == "wrong")
    with pytest.raises(MachineError, match="differs from ours by"):
        wrong.open()


def test_a_batch_is_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    count = [0]

    def counting(arguments: Any) -> Any:
        def attend(given: Any) -> Tensor:
            count[0] += 1
            return group_attention_reference(given)

        return attend

    monkeypatch.setitem(layer.PEERS, "counting", counting)
    made = problem(20)
    answer = next(peer for peer in layer_peers(made) if peer.name == "counting").open()
    count[0] = 0
    answer(made.pieces((40,))[0])
    assert count[0] == CALLS
    assert made.bytes_moved == CALLS * 4 * 40 * 3 * 2 * 64 * 4
    assert problem(1).bytes_moved == CALLS * 2 * 40 * 3 * 2 * 64 * 4  # queries and keys are not read
