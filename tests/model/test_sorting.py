"""Group ids to segments: in PyTorch and in the ONNX graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from chronos_export.graph import assembling
from chronos_export.graph import chronos2 as onnx_graph
from chronos_export.graph.builder import GraphBuilder
from chronos_export.graph.precision import precision_of
from chronos_export.model.sorting import sort_rows
from tests.helpers.memory import in_a_fresh_process

LOWEST, HIGHEST = -(2**63), 2**63 - 1
Ints = NDArray[np.int64]
Sorter = Callable[[Ints], tuple[Ints, ...]]

# Few values, so that groups are large; neighbours of the extremes, which no float can tell apart.
ids = st.lists(
    st.one_of(
        st.integers(0, 4),
        st.integers(-3, 3),
        st.sampled_from([LOWEST, LOWEST + 1, HIGHEST - 1, HIGHEST, 2**31, 2**32]),
        st.integers(LOWEST, HIGHEST),
    ),
    min_size=1,
    max_size=40,
)


def by_torch(group_ids: Ints) -> tuple[Ints, ...]:
    segments = sort_rows(torch.from_numpy(group_ids))
    assert (segments.order.dtype, segments.rank.dtype) == (torch.int64, torch.int64)
    assert (segments.begin.dtype, segments.end.dtype) == (torch.int32, torch.int32)
    return tuple(t.numpy() for t in (segments.order, segments.rank, segments.begin, segments.end))


@pytest.fixture(scope="module")
def by_onnx() -> Sorter:
    """The sorting part of the exported graph, on onnxruntime."""
    g = GraphBuilder(precision_of("float32"))
    made = onnx_graph.sort_rows(g)
    kinds = {made.order: 7, made.rank: 7, made.begin: 6, made.end: 6}
    graph = helper.make_graph(
        g.nodes,
        "sort",
        [helper.make_tensor_value_info("group_ids", TensorProto.INT64, ["rows"])],
        [helper.make_tensor_value_info(name, kind, ["rows"]) for name, kind in kinds.items()],
        list(g.initializers.values()),
    )
    opset = helper.make_opsetid("", assembling.OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=assembling.IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda group_ids: tuple(session.run(list(kinds), {"group_ids": group_ids}))


def check(group_ids: Ints, sort: Sorter) -> None:
    order, rank, begin, end = sort(group_ids)
    positions = np.arange(len(group_ids))
    np.testing.assert_array_equal(order[rank], positions)
    np.testing.assert_array_equal(rank[order], positions)
    np.testing.assert_array_equal(order, np.argsort(group_ids, kind="stable"))
    sorted_ids = group_ids[order]
    for i in positions:
        same = np.flatnonzero(sorted_ids == sorted_ids[i])
        assert (begin[i], end[i]) == (same[0], same[-1] + 1)
        assert end[i] - begin[i] == len(same)  # side by side


@given(ids)
@example([HIGHEST, HIGHEST - 1, LOWEST + 1, LOWEST, HIGHEST])
def test_segments_are_the_groups(values: list[int]) -> None:
    check(np.array(values, dtype=np.int64), by_torch)


@given(values=ids)
@example(values=[HIGHEST, HIGHEST - 1, LOWEST + 1, LOWEST, HIGHEST])
def test_the_graph_sorts_likewise(by_onnx: Sorter, values: list[int]) -> None:
    check(np.array(values, dtype=np.int64), by_onnx)


@pytest.mark.parametrize("rows", [1, 2, 3839, 3841])  # TensorRT's TopK would end at 3840
def test_any_number_of_rows(by_onnx: Sorter, rows: int) -> None:
    group_ids = np.random.default_rng(0).integers(-rows // 3, rows // 3 + 1, rows)
    for one, other in zip(by_torch(group_ids), by_onnx(group_ids), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_example_of_the_docstring() -> None:
    order, rank, begin, end = by_torch(np.array([7, 3, 7, 3, 9]))
    assert order.tolist() == [1, 3, 0, 2, 4]
    assert rank.tolist() == [2, 0, 3, 1, 4]
    assert begin.tolist() == [0, 0, 2, 2, 4]
    assert end.tolist() == [2, 2, 4, 4, 5]


MEASURE = """
import torch
from chronos_export.model.sorting import sort_rows
from tests.helpers.memory import peaks
ids = torch.arange(20000) // 2
sort_rows(ids[:100])
print(peaks(lambda: sort_rows(ids)))
"""


def test_20000_rows_are_not_compared_with_each_other() -> None:
    (peak,) = in_a_fresh_process(MEASURE)
    assert peak < 20000**2 // 10  # a byte for each pair would be 400 MB
