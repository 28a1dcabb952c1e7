"""Which shapes get a CUDA graph, which give way, and that captures stay rare."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chronos_export.runtime.cuda_graphs import PATIENCE, REMEMBERED, GraphCache


class Cache:
    """A cache whose graphs are numbers; `used` is what each call was answered by, None without a graph."""

    def __init__(self, limit: int = 2) -> None:
        self.cache: GraphCache[int] = GraphCache(limit)
        self.numbers, self.captures = count(1), 0

    def use(self, *shapes: object) -> list[int | None]:
        return [self.cache.find(shape, self.capture) for shape in shapes]

    def capture(self) -> int:
        self.captures += 1
        return next(self.numbers)


def test_without_then_captured_then_replayed() -> None:
    assert Cache().use("a", "a", "a", "a") == [None, 1, 1, 1]


def test_every_shape_has_its_own() -> None:
    assert Cache().use("a", "b", "a", "b", "b", "a") == [None, None, 1, 2, 2, 1]


def test_a_shape_that_comes_back_too_late_is_new() -> None:
    others = range(REMEMBERED)
    assert Cache().use("a", *others[1:], "a")[-1] == 1
    assert Cache().use("a", *others, "a")[-1] is None


def test_a_third_shape_does_not_take_the_place_of_one_in_use() -> None:
    cache = Cache()
    cache.use("a", "a", "b", "b")
    assert set(cache.use(*"cab" * PATIENCE)) == {None, 1, 2}
    assert cache.captures == 2


def test_the_graph_used_longest_ago_gives_way() -> None:
    cache = Cache()
    cache.use("a", "a", "b", "b", "a")
    assert cache.use(*"ca" * PATIENCE)[-2:] == [3, 1]
    assert cache.use("b", "b") == [None, None]


def test_none_are_captured_where_none_may_be() -> None:
    cache = Cache(0)
    assert set(cache.use(*"aaaa")) == {None}
    assert cache.captures == 0


def test_a_capture_that_fails_is_the_last_one() -> None:
    cache = Cache()
    cache.use("a", "a")
    assert cache.cache.find("b", pytest.fail) is None
    assert cache.cache.find("b", lambda: None) is None
    assert cache.use(*"bbbcca") == [None] * 5 + [1]
    assert cache.captures == 1


@given(st.lists(st.integers(0, 9), max_size=400), st.integers(0, 4))
def test_never_more_graphs_than_the_limit_and_never_anothers(shapes: list[int], limit: int) -> None:
    cache: GraphCache[list[int]] = GraphCache(limit)
    for number, shape in enumerate(shapes):
        graph = cache.find(shape, lambda shape=shape: [shape])
        assert graph is None or graph == [shape]
        assert graph is None or shape in shapes[:number]
        assert len(cache._graphs) <= limit
