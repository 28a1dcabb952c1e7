"""Group attention around TensorRT's packed attention: right, whatever that gives where it promises nothing.

onnxruntime has no such operator, so a function stands in for it: what its documentation says, done densely.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from chronos_export.engine import packed_attention
from chronos_export.engine.attention import graph_with
from chronos_export.graph.group_attention import nodes_of
from tests.helpers.attention import Problem, dense, make_problem
from tests.helpers.attention_node import feed_of, one_node
from tests.helpers.upstream import assert_graph_as_upstream

WHERE = [f"{name}_0" for name in ("query_lengths", "key_lengths", "alive_first")]

# Sequence i has the positions from lengths[i] up to lengths[i + 1]. Values beyond the last sequence are never
# read, and a query without keys gets 0 / 0.
DOCUMENTED = """
<domain: "trt", opset_import: ["" : 20]>
TRT_Attention <query_form, kv_form>
(query, key, value, mask, query_lengths, key_lengths) => (output)
{
    one = Constant <value_ints: ints = [1]> ()
    last = Constant <value_ints: ints = [-1]> ()
    one_two = Constant <value_ints: ints = [1, 2]> ()
    end = Constant <value_ints: ints = [1000000]> ()
    scalar_zero = Constant <value_int: int = 0> ()
    scalar_one = Constant <value_int: int = 1> ()
    zero_float = Constant <value_float: float = 0.0> ()
    lowest = Constant <value_float: float = -3.4e38> ()

    query_shape = Shape <start: int = 0, end: int = 1> (query)
    key_shape = Shape <start: int = 0, end: int = 1> (key)
    queries = Squeeze (query_shape)
    keys = Squeeze (key_shape)
    query_position = Range (scalar_zero, queries, scalar_one)
    key_position = Range (scalar_zero, keys, scalar_one)
    query_column = Unsqueeze (query_position, one)
    key_column = Unsqueeze (key_position, one)
    query_bounds = Cast <to: int = 7> (query_lengths)
    key_bounds = Cast <to: int = 7> (key_lengths)
    query_ends = Slice (query_bounds, one, end)
    key_ends = Slice (key_bounds, one, end)
    query_behind = GreaterOrEqual (query_column, query_ends)
    key_behind = GreaterOrEqual (key_column, key_ends)
    query_behind_one = Cast <to: int = 7> (query_behind)
    key_behind_one = Cast <to: int = 7> (key_behind)
    query_sequence = ReduceSum <keepdims: int = 1> (query_behind_one, one)
    key_sequence = ReduceSum <keepdims: int = 0> (key_behind_one, one)
    same = Equal (query_sequence, key_sequence)

    query_wide = Cast <to: int = 1> (query)
    key_wide = Cast <to: int = 1> (key)
    value_wide = Cast <to: int = 1> (value)
    behind_all = Slice (key_behind, last, end, one)
    behind_all_heads = Unsqueeze (behind_all, one)
    value_read = Where (behind_all_heads, zero_float, value_wide)
    query_heads = Transpose <perm: ints = [1, 0, 2]> (query_wide)
    key_heads = Transpose <perm: ints = [1, 2, 0]> (key_wide)
    value_heads = Transpose <perm: ints = [1, 0, 2]> (value_read)
    products = MatMul (query_heads, key_heads)
    scores = Where (same, products, lowest)
    highest = ReduceMax <keepdims: int = 1> (scores, last)
    below = Sub (scores, highest)
    powers_all = Exp (below)
    powers = Where (same, powers_all, zero_float)
    sums = ReduceSum <keepdims: int = 1> (powers, last)
    weights = Div (powers, sums)
    mixed = MatMul (weights, value_heads)
    output_wide = Transpose <perm: ints = [1, 0, 2]> (mixed)
    output = CastLike (output_wide, query)
}
"""


def runnable(model: onnx.ModelProto) -> bytes:
    """With the stand-in for TensorRT's operator."""
    model.functions.append(onnx.parser.parse_function(DOCUMENTED))
    if "trt" not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(helper.make_opsetid("trt", 1))
    return bytes(model.SerializeToString())


def make_session(heads: int, dtype: torch.dtype) -> ort.InferenceSession:
    """One GroupAttention, packed; its output, and where TensorRT's operator was told that everything is."""
    model = one_node(heads, dtype)
    packed_attention.pack_attention(model)
    kinds = (TensorProto.INT32, TensorProto.INT32, TensorProto.INT64)
    model.graph.output.extend(
        helper.make_tensor_value_info(name, of, [None]) for name, of in zip(WHERE, kinds, strict=True)
    )
    return ort.InferenceSession(runnable(model), providers=["CPUExecutionProvider"])


session = cache(make_session)


def run(problem: Problem, planted: ort.InferenceSession | None = None) -> list[np.ndarray]:
    asked = planted or session(problem.heads, problem.query.dtype)
    found: list[np.ndarray] = asked.run(["out", *WHERE], feed_of(problem))
    return found


def check(problem: Problem, planted: ort.InferenceSession | None = None) -> None:
    """Against the dense definition in float64, with the rounding of two dozen products; the dead hold NaN."""
    right = dense(problem)
    for tensor in (problem.query, problem.key, problem.value):
        tensor[~problem.alive] = torch.nan
    out = torch.from_numpy(run(problem, planted)[0])
    limit = 32 * torch.finfo(problem.query.dtype).eps
    torch.testing.assert_close(out.double(), right, rtol=0, atol=limit)
    assert (out[~problem.alive] == 0).all()


ragged = given(
    lengths=st.lists(st.one_of(st.just(1), st.integers(1, 6), st.integers(1, 20)), min_size=1, max_size=8),
    tokens=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    dead=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)


@settings(max_examples=80, deadline=None)
@ragged
def test_equals_the_definition_on_any_segments(
    lengths: list[int], tokens: int, seed: int, dead: float
) -> None:
    check(make_problem(lengths, tokens=tokens, seed=seed, dead=dead))


@settings(max_examples=80, deadline=None)
@ragged
def test_tensorrt_is_told_what_its_documentation_asks_for(
    lengths: list[int], tokens: int, seed: int, dead: float
) -> None:
    """Counts from 0 that never fall, up to all queries and all alive keys; keys in the order of queries."""
    problem = make_problem(lengths, tokens=tokens, seed=seed, dead=dead)
    _, query_lengths, key_lengths, alive_first = run(problem)
    rows = len(problem.alive)
    alive = problem.alive.T.flatten().numpy()
    position = np.arange(rows * tokens).reshape(rows, tokens).T.flatten()
    for counts, most in ((query_lengths, len(alive)), (key_lengths, alive.sum())):
        assert counts.dtype == np.int32
        assert len(counts) == rows * tokens + 1
        assert (counts[0], counts[-1]) == (0, most)
        assert (np.diff(counts) >= 0).all()
    sequences = np.diff(query_lengths)
    assert sequences[sequences > 0].tolist() == lengths * tokens
    keys = [part.sum() for part in np.split(alive, np.cumsum(lengths * tokens)[:-1])]
    assert np.diff(key_lengths)[sequences > 0].tolist() == keys
    assert alive_first.tolist() == [*position[alive], *position[~alive]]


@pytest.mark.parametrize("lengths", [[1], [1] * 5, [64], [1, 63], [2, 3, 5, 8, 13, 21]], ids=str)
@pytest.mark.parametrize(("heads", "head_dim"), [(1, 8), (3, 4), (2, 64)])
def test_sizes(lengths: list[int], heads: int, head_dim: int) -> None:
    check(make_problem(lengths, heads=heads, head_dim=head_dim))


def test_float16() -> None:
    check(make_problem([1, 5, 2, 9], dtype=torch.float16))


BUGS = {
    "every row is a sequence": ("Add (token_begin, begin)", "Add (token_begin, row)"),
    "all tokens are one sequence": ("Mul (token_column, rows)", "Mul (token_column, zero)"),
    "dead keys are in the sequences": ("Gather <axis: int = 0> (alive_below, bounds)", "Identity (bounds)"),
    "dead keys stay where they are": ("Where (alive, rank_of_alive, rank_of_dead)", "Identity (position)"),
    "alive keys are moved one too far": ("Sub (alive_up_to, alive_one)", "Mul (alive_up_to, one)"),
    "the mask lies as [rows, tokens]": ("Transpose <perm: ints = [1, 0]> (key_mask)", "Identity (key_mask)"),
    "keys are taken as if they lay as queries do": ("(token_column, row_start)", "(token_begin, row)"),
    "queries lie as [rows, tokens]": (
        "Flatten <axis: int = 2> (query_grid)",
        "Flatten <axis: int = 2> (query)",
    ),
    "values are not moved": ("Gather <axis: int = 0> (value_flat, alive_first)", "Identity (value_flat)"),
    "dead queries keep what they got": ("Where (alive, mixed_rows, zero)", "Identity (mixed_rows)"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_are_seen(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = BUGS[bug]
    texts = {name: getattr(packed_attention, name) for name in ("_SEQUENCES", "_BODY")}
    (name,) = (name for name, text in texts.items() if text.count(right) == 1)
    monkeypatch.setattr(packed_attention, name, texts[name].replace(right, wrong))
    planted = make_session(3, torch.float32)
    with pytest.raises(AssertionError, match="not close"):
        check(make_problem([1, 5, 2, 4], tokens=3), planted)


def test_a_whole_model_forecasts_as_upstream(small: Path, small_graphs: Path, tmp_path: Path) -> None:
    copy = graph_with("native", small_graphs / "model.onnx", tmp_path)
    model = onnx.load(copy, load_external_data=False)
    calls = Counter(node.op_type for node in model.graph.node if node.domain == "chronos")
    blocks = len(nodes_of(onnx.load(small_graphs / "model.onnx", load_external_data=False)))
    assert calls == {"PackedGroupAttention": blocks, "PackedSequences": 2}
    copy.write_bytes(runnable(model))
    assert_graph_as_upstream(copy, small)
