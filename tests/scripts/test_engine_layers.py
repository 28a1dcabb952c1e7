"""Engines, read layer by layer as TensorRT-RTX builds them: what they hold now may only become less."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from scripts.engine_layers.devices import DEVICES
from scripts.engine_layers.listing import Layer, View, read_layers
from scripts.engine_layers.model import published_call
from scripts.engine_layers.pricing import kind_of, price
from scripts.engine_layers.reading import DTYPES, Engine, read_engine
from scripts.engine_layers.report import as_dict, fill
from tests.helpers.engines import needs_rtx

ROOT = Path(__file__).parents[2]
BLOCKS = 3
CALL = published_call(rows=2000, context=1440, horizon=96, group=20)
SHOWN = """
Name: __mye9_0, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata:\x20
Name: blocks.0/group/q/MatMul_9_U1+blocks.0/group/k/MatMul_8_U2_myl1_1, LayerType: gemm, Inputs: [ { Name: x, Dimensions: [-1,768], Strides: [768,1], StrideOrder: [1,0], Datatype: BFloat16, Format: (Linear) Row major linear format }], Constants: [ { Name: w, Dimensions: [768,1536], Strides: [1536,1], StrideOrder: [1,0], Datatype: BFloat16, Format: (Linear) Row major linear format }, { Name: alpha, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Float, Format: (Linear) Row major linear format }], Outputs: [ { Name: y, Dimensions: [-1,1536], Strides: [1536,1], StrideOrder: [1,0], Datatype: BFloat16, Format: (Linear) Row major linear format }], TacticName: , StreamId: 0, Metadata: [ONNX Layer: blocks.0/group/q/MatMul_9][ONNX Layer: blocks.0/group/k/MatMul_8]
Name: __myl_ReshTran_myl1_2, LayerType: kgen, Inputs: [ { Name: y, Dimensions: [-1,768], Strides: [1536,1], StrideOrder: [1,0], Datatype: BFloat16, Format: (Linear) Row major linear format }], Constants: [], Outputs: [ { Name: z, Dimensions: [2000,-1,768], Strides: [-1,768,1], StrideOrder: [2,1,0], Datatype: BFloat16, Format: (Linear) Row major linear format }], TacticName: __myl_ReshTran_0x1, StreamId: 1, Metadata:\x20

I/O Tensors:
 Name: context
"""  # noqa: E501
TOKENS = 2000 * 97


def test_what_tensorrt_says_is_read() -> None:
    product, copy = read_layers(SHOWN)
    assert product.type == "gemm"
    assert product.nodes == ("blocks.0/group/q/MatMul_9", "blocks.0/group/k/MatMul_8")
    assert (product.inputs, product.outputs) == (
        (View("x", (-1, 768), "BFloat16"),),
        (View("y", (-1, 1536), "BFloat16"),),
    )
    assert [view.dims for view in product.constants] == [(768, 1536), (1,)]
    assert (copy.nodes, copy.outputs[0].dims) == ((), (2000, -1, 768))


def test_what_a_layer_costs_is_computed_from_its_shapes() -> None:
    last = SHOWN.replace("blocks.0", "blocks.1")  # of which few tokens are computed
    last = last.replace("Name: y,", "Name: y1,").replace("Name: z,", "Name: z1,")
    product, copy = price([*read_layers(SHOWN), *read_layers(last)], CALL)[:2]
    assert (product.kind, product.block, copy.kind, copy.block) == ("gemm", 0, "copy", 0)
    assert product.flops == 2 * TOKENS * 768 * 1536
    assert product.bytes == 2 * (TOKENS * (768 + 1536) + 768 * 1536) + 4
    assert (copy.bytes, copy.flops, copy.moved) == (4 * TOKENS * 768, 0, TOKENS * 768)
    h200 = DEVICES[0]
    assert product.seconds(h200, "bfloat16") == product.flops / 989.4e12
    assert copy.seconds(h200, "bfloat16") == copy.bytes / 4.8e12


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("__myl_Resh_myl1_4", "copy"),
        ("__myl_MoveReplConc_myl1_4", "copy"),
        ("__myl_ReshAdd_myl1_4", "other"),
        ("_gemm_mha_v2_myl1_4", "attention"),
    ],
)
def test_kernels_are_told_apart_by_what_they_were_fused_from(name: str, kind: str) -> None:
    assert kind_of(Layer(name, "kgen", (), (), (), ("blocks.0/time/Add_2",))) == kind


# ---- engines of the published width ----

KERNELS_OF_A_BLOCK = {"float32": 23, "tf32": 23, "float16": 18, "bfloat16": 18}
SCRATCH_OF_A_TOKEN = {"float32": 44600, "tf32": 44600, "float16": 21500, "bfloat16": 21500}  # bytes
SHARE_OF_THE_RATE = {"float32": 0.91, "tf32": 0.57, "float16": 0.60, "bfloat16": 0.60}


@cache
def engine(dtype: str, capability: str = "8.9", fewest: int = 2000, univariate: bool = False) -> Engine:
    return read_engine(dtype, BLOCKS, CALL, univariate=univariate, capability=capability, fewest=fewest)


@needs_rtx
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "capability", ["8.9", *(pytest.param(cc, marks=pytest.mark.slow) for cc in ("8.0", "8.6", "12.0"))]
)
def test_an_engine_is_no_worse_than_it_was(dtype: str, capability: str) -> None:
    """The budgets may only fall, and the share may only rise."""
    found = engine(dtype, capability)
    kinds = [cost.kind for cost in found.costs]
    assert kinds.count("plugin") == BLOCKS
    if dtype in ("float16", "bfloat16"):
        assert kinds.count("attention") == BLOCKS
    two_streams = capability == "8.6"  # where the queries of time attention are a product of their own
    assert found.kernels_of_block() <= KERNELS_OF_A_BLOCK[dtype] + two_streams
    assert found.scratch_bytes <= SCRATCH_OF_A_TOKEN[dtype] * TOKENS
    assert found.share(DEVICES[0]) >= SHARE_OF_THE_RATE[dtype]


@needs_rtx
def test_any_number_of_rows_takes_the_same_kernels() -> None:
    """So a profile need not fix its rows. At the entry, where rows are sorted, one more step is fused."""
    fixed, free = (engine("bfloat16", fewest=fewest) for fewest in (2000, 1))
    assert len(free.costs) == len(fixed.costs)
    assert [steps(cost.layer.name) for cost in free.costs if cost.block is not None] == [
        steps(cost.layer.name) for cost in fixed.costs if cost.block is not None
    ]
    assert free.scratch_bytes == fixed.scratch_bytes


def steps(name: str) -> str:
    """A layer's name without the numbers that it got in its engine."""
    return name.partition("_myl1_")[0].partition("_U")[0]


@needs_rtx
def test_univariate_rows_take_an_engine_without_plugin_or_copies() -> None:
    found = engine("bfloat16", univariate=True)
    kinds = {cost.kind for cost in found.costs}
    assert "plugin" not in kinds
    assert found.copies == []
    # Of the 16 products of [D, D] in a block: query, key and output of group attention are one less each.
    assert found.block_flops() / engine("bfloat16").block_flops() == pytest.approx(13 / 16)


@needs_rtx
def test_the_instrument_is_a_command() -> None:
    command = [sys.executable, "-m", "scripts.engine_layers", "--dtype", "float16", "--layers", "2", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["plugins"] == found["fused_time_attention"] == found["layers"] == 2
    assert {"kernels", "copies", "scratch_bytes", "predicted_share"} <= found.keys()
    assert len(found["list"]) == found["kernels"]
    assert {device.name for device in DEVICES} == found["predicted"].keys()


@needs_rtx
def test_a_document_is_filled_where_it_says_so() -> None:
    marks = "\n".join(f"<!-- {name} -->\nold\n<!-- /{name} -->" for name in ("kernels", "times", "kinds"))
    text = fill(f"# Title\n{marks}\nend", [engine("bfloat16")])
    assert "old" not in text
    assert text.startswith("# Title\n") and text.endswith("\nend")
    share = as_dict(engine("bfloat16"))["predicted_share"]
    assert f"{share:.0%}" in text
