"""Wrong exports, each one edit of the package's own source away from the right one.

An edit names the text it replaces, which must occur exactly once: when the package changes under a mutant,
the mutant says so instead of becoming harmless.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from types import ModuleType

import pytest

from chronos_export.exporting import export as exporting
from chronos_export.graph import chronos2 as onnx_graph
from chronos_export.graph import group_attention as group_attention_onnx
from chronos_export.graph import writing as onnx_export
from chronos_export.model import rewrite

# Where the functions of a module are called from, so that an edited twin of it is what runs.
_CALLERS = {
    onnx_graph: [(onnx_export, "write_graph")],
    group_attention_onnx: [(group_attention_onnx, "function_body")],
    rewrite: [(exporting, "rewrite"), (exporting, "univariate")],
}
_MODULES = {"graph": onnx_graph, "body": group_attention_onnx, "rewrite": rewrite}


@dataclass(frozen=True)
class Mutant:
    """One wrong export.

    Attributes:
        name: What is wrong.
        module: What is edited: `graph`, `body` or `rewrite`.
        edits: Pairs of what stands there and what shall.
    """

    name: str
    module: str
    edits: tuple[tuple[str, str], ...]

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Export with the mutant until the end of the test."""
        module = _MODULES[self.module]
        twin = _edited(module, self.edits)
        for caller, name in _CALLERS[module]:
            monkeypatch.setattr(caller, name, getattr(twin, name))


def _edited(module: ModuleType, edits: tuple[tuple[str, str], ...]) -> ModuleType:
    source = inspect.getsource(module)
    for old, new in edits:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {module.__name__}"
        source = source.replace(old, new)
    twin = ModuleType(module.__name__)
    exec(compile(source, f"<mutant of {module.__name__}>", "exec"), twin.__dict__)
    return twin


def _graph(name: str, *edits: tuple[str, str]) -> Mutant:
    return Mutant(name, "graph", edits)


def _body(name: str, *edits: tuple[str, str]) -> Mutant:
    return Mutant(name, "body", edits)


def _rewrite(name: str, *edits: tuple[str, str]) -> Mutant:
    return Mutant(name, "rewrite", edits)


ONE = 'g.weight("one_int32", np.ones(1, np.int32))'
ORDERED = "g.Gather(context, segments.order, axis=0), g.Gather(future, segments.order, axis=0)"
RESTORED = "forecast = g.Gather(forecast, segments.rank, axis=0)"
END_OF_SEGMENT = "end = g.Add(begin, count(same))"
GATHERED = "g.Gather(begin, order), g.Gather(end, order)"
CONTEXT_PADDED = "_split_missing(g, context, s.patch, left=True)"
FUTURE_PADDED = "_split_missing(g, future, s.patch, left=False)"
TRUNCATED = "g.Slice(context, g.ints(-s.context_length), g.ints(END), g.ints(1))"
TIME_SCORES = "g.MatMul(query, g.Transpose(key, perm=[0, 1, 3, 2]))"
TIME_BIAS = "g.Where(alive, g.number(0.0), g.number(LOWEST))"
ROTATED = "_rotate(g, query, cos_query, sin_query), _rotate(g, key, cos, sin)"
QUERY_TABLES = "g.Slice(t, first, g.ints(END), g.ints(0)) if first else t"
FEATURES = "for part in (time, x, present)"
NORMALIZED = "g.Div(g.Sub(g.Concat(context, future, axis=1), loc), scale)"
OBSERVED_ONLY = "x = g.Where(g.Greater(present, g.number(0.0)), x, g.number(0.0))"
STEPS = "g.Sub(g.Range(g.integer(0), length, g.integer(1)), start)"
REST = "rest = g.Expand(g.number(1.0), g.Concat(rows, g.Add(ahead, g.ints(1)), axis=0))"
CLAMPED = "clamped = g.Max(g.Min(clamped, g.number(-LOWEST)), g.number(LOWEST))"
REST_OF_CLAMPED = "g.ReduceSum(g.Mul(observed, g.Sub(x, clamped)), g.ints(1))"
CENTRED = "centred = g.Mul(g.Sub(x, loc), observed)"
COUNT = "count = g.ReduceSum(observed, g.ints(1))"
HIDDEN = "hidden = encode(g, model.encoder, tokens, alive, first, segments)"
OUT_SHAPE = "g.ints(0, -1, s.quantiles, s.patch)"
OUT_ORDER = "g.Transpose(out, perm=[0, 2, 1, 3])"
UNSCALED = "str(g.Add(g.Mul(out, scale), loc))"
GROUP_INPUTS = 'query, key, value = (_product(g, name, getattr(block.group, name), x) for name in "qkv")'
VALUES = "values: NDArray[np.float32] = tensor.detach().float().cpu().numpy()"
ROPE_BY_ROW = """
    turned = [g.Unsqueeze(t, g.ints(1, 2)) for t in _rope(g, s, g.Transpose(x, perm=[1, 0, 2]))]
    split, joined = g.ints(0, 0, s.num_heads, s.head_dim), g.ints(0, 0, s.num_heads * s.head_dim)
    query = g.Reshape(_rotate(g, g.Reshape(query, split), *turned), joined)
    key = g.Reshape(_rotate(g, g.Reshape(key, split), *turned), joined)
"""
BLOCKS = "blocks = [_block(block, sizes) for block in encoder.block]"
LANE_QUERY = "query_lane_{n} = Transpose <perm: ints = [0, 2, 3, 1, 4]> (query_split_{n})"
EQUAL_QUERY = "query_parts = Transpose <perm: ints = [0, 2, 1, 3]> (query_split)"
ALIVE_KEYS = "inside_alive_{n} = And (mask_split_{n}, inside_tokens_{n})"

MUTANTS = [
    # rows and groups
    _graph("inverse permutation missing", (RESTORED, "forecast = g.Identity(forecast)")),
    _graph("permuted instead of restored", (RESTORED, RESTORED.replace("rank", "order"))),
    _graph("covariates not sorted", (ORDERED, "g.Gather(context, segments.order, axis=0), future")),
    _graph("context not sorted", (ORDERED, "context, g.Gather(future, segments.order, axis=0)")),
    _graph("segment end one early", (END_OF_SEGMENT, f"end = g.Sub(g.Add(begin, count(same)), {ONE})")),
    _graph("segment end one late", (END_OF_SEGMENT, f"end = g.Add(g.Add(begin, count(same)), {ONE})")),
    _graph(
        "segment begin one late", (GATHERED, f"g.Add(g.Gather(begin, order), {ONE}), g.Gather(end, order)")
    ),
    _graph(
        "segment begin one early", (GATHERED, f"g.Sub(g.Gather(begin, order), {ONE}), g.Gather(end, order)")
    ),
    _graph("segments not sorted", (GATHERED, "begin, end")),
    _graph(
        "one group of all rows",
        (GATHERED, "g.Sub(begin, begin), g.Add(g.Sub(end, end), g.Cast(rows, to=TensorProto.INT32))"),
    ),
    _graph("ties ranked alike", ("count(g.And(same, before))", "count(g.And(same, g.Not(same)))")),
    _graph(
        "group ids as int32",
        ('g.Unsqueeze("group_ids", g.ints(1))', 'g.Unsqueeze(g.Cast("group_ids", to=6), g.ints(1))'),
        ('g.Unsqueeze("group_ids", g.ints(0))', 'g.Unsqueeze(g.Cast("group_ids", to=6), g.ints(0))'),
    ),
    _graph(
        "group ids as float64",
        ('g.Unsqueeze("group_ids", g.ints(1))', 'g.Unsqueeze(g.Cast("group_ids", to=11), g.ints(1))'),
        ('g.Unsqueeze("group_ids", g.ints(0))', 'g.Unsqueeze(g.Cast("group_ids", to=11), g.ints(0))'),
    ),
    # group attention
    _body(
        "group scores scaled by 1/8",
        (
            LANE_QUERY,
            LANE_QUERY.replace("query_lane", "raw") + "\n"
            "eighth_{n} = Constant <value_float: float = 0.125> ()\n"
            "query_lane_{n} = Mul (raw_{n}, eighth_{n})",
        ),
    ),
    _body(
        "dead tokens attended in a group",
        (
            ALIVE_KEYS,
            "any_{n} = Equal (mask_split_{n}, mask_split_{n})\n"
            "inside_alive_{n} = And (any_{n}, inside_tokens_{n})",
        ),
    ),
    _body("padding of a lane attended", (ALIVE_KEYS, ALIVE_KEYS.replace("inside_tokens", "mask_split"))),
    _body(
        "every row given its segment's first row",
        ("Add (segment_row_{n}, place)", "Identity (segment_row_{n})"),
    ),
    _body("lanes laid over each other", ("Add (row_in_lane_{n}, taken_{p})", "Add (row_in_lane_{n}, rows)")),
    _body(
        "lane bound exclusive",
        ("beyond_{n} = Greater (length, bound_{n})", "beyond_{n} = Less (bound_{p}, length)"),
    ),
    _body(
        "scores of equal groups scaled by 1/8",
        (
            EQUAL_QUERY,
            EQUAL_QUERY.replace("query_parts", "raw") + "\n"
            "eighth = Constant <value_float: float = 0.125> ()\n"
            "query_parts = Mul (raw, eighth)",
        ),
    ),
    _body(
        "dead tokens attended in equal groups",
        (
            "alive_parts = Expand (mask_column, mask_shape)",
            "any = Equal (mask_column, mask_column)\nalive_parts = Expand (any, mask_shape)",
        ),
    ),
    _body(
        "equal groups taken for one",
        ("segments = Div (rows, longest)", "segments = Identity (one)"),
        ("(segments, longest, parts, head_dim)", "(segments, rows, parts, head_dim)"),
        ("(segments, longest, tokens)", "(segments, rows, tokens)"),
        ("(segments, tokens, heads, longest)", "(segments, tokens, heads, rows)"),
    ),
    _body("groups of any length taken for equal", ("And (equal, not_singles)", "Identity (not_singles)")),
    _graph("RoPE on group attention", (GROUP_INPUTS, GROUP_INPUTS + ROPE_BY_ROW)),
    _graph("query and key of group attention swapped", (GROUP_INPUTS, GROUP_INPUTS.replace("qkv", "kqv"))),
    _graph("key and value of group attention swapped", (GROUP_INPUTS, GROUP_INPUTS.replace("qkv", "qvk"))),
    _rewrite(
        "W_v W_o instead of W_o W_v",
        ("_product(block.group.o, block.group.v)", "_product(block.group.v, block.group.o)"),
    ),
    _graph("univariate rows skip W_o W_v", ('return _product(g, "vo", block.group.vo, x)', "return x")),
    # time attention
    _graph("time scores scaled by 1/8", (TIME_SCORES, f"g.Mul({TIME_SCORES}, g.number(0.125))")),
    _graph("padding keys attended in time", (TIME_BIAS, TIME_BIAS.replace("LOWEST", "0.0"))),
    _graph("RoPE missing in time", (ROTATED, "query, key")),
    _graph(
        "RoPE turned the other way",
        ("g.Concat(g.Neg(sin), sin, axis=1)", "g.Concat(sin, g.Neg(sin), axis=1)"),
    ),
    _graph(
        "RoPE of neighbours instead of halves",
        ("g.Concat(upper, lower, axis=-1)", "g.Concat(lower, upper, axis=-1)"),
    ),
    _graph("RoPE base 1000", ("np.float32(s.rope_theta)", "np.float32(1000)")),
    _graph(
        "query positions of the last block from 0",
        (
            QUERY_TABLES,
            "g.Slice(t, g.ints(0), g.Sub(g.Shape(t, start=0, end=1), first), g.ints(0)) if first else t",
        ),
    ),
    _graph(
        "query and key of time attention swapped",
        ("block.time.q, wanted(normed)", "block.time.k, wanted(normed)"),
        ("block.time.k, normed", "block.time.q, normed"),
    ),
    _graph(
        "output and value of time attention swapped",
        ("block.time.v, normed", "block.time.o, normed"),
        ("block.time.o, mixed", "block.time.v, mixed"),
    ),
    # tokens
    _graph(
        "REG not attended",
        (
            REST,
            REST + "\n    dead = g.Expand(g.number(0.0), g.Concat(rows, g.ints(1), axis=0))"
            "\n    rest = g.Concat(dead, g.Slice(rest, g.ints(1), g.ints(END), g.ints(1)), axis=1)",
        ),
    ),
    _graph("REG embedded as PAD", ("model.reg_token[s.reg_token_id]", "model.reg_token[0]")),
    _graph("REG in front", ("g.Concat(before, reg, after, axis=1)", "g.Concat(reg, before, after, axis=1)")),
    _graph(
        "patches alive only when complete",
        ("g.ReduceMax(g.Reshape(observed", "g.ReduceMin(g.Reshape(observed"),
    ),
    _graph(
        "forecast read one token early",
        (
            HIDDEN,
            HIDDEN.replace("first", "g.Sub(first, g.ints(1))")
            + "\n    hidden = g.Slice(hidden, g.ints(0), g.ints(-1), g.ints(1))",
        ),
    ),
    _graph(
        "last block adds to the wrong tokens",
        (
            "x = g.Add(wanted(x),",
            "x = g.Add(g.Slice(x, g.Sub(first, g.ints(1)), g.ints(-1), g.ints(1)) if first else x,",
        ),
    ),
    _graph(
        "context cut at the wrong side",
        (TRUNCATED, "g.Slice(context, g.ints(0), g.ints(s.context_length), g.ints(1))"),
    ),
    _graph("context not cut", (TRUNCATED, "g.Identity(context)")),
    _graph("context padded on the right", (CONTEXT_PADDED, CONTEXT_PADDED.replace("True", "False"))),
    _graph("horizon padded on the left", (FUTURE_PADDED, FUTURE_PADDED.replace("False", "True"))),
    _graph(
        "surplus horizon not masked",
        (
            "future, known = " + FUTURE_PADDED,
            "surplus = g.ints(0, 0, 0, s.patch)\n        "
            f"future, known = (g.Pad(t, surplus) for t in {FUTURE_PADDED})",
        ),
        (UNSCALED, "str(g.Slice(g.Add(g.Mul(out, scale), loc), g.ints(0), g.ints(-s.patch), g.ints(2)))"),
    ),
    # normalization and features
    _graph("arcsinh missing", ("x = _arcsinh(g, x)", "pass")),
    _graph("arcsinh stops at 1e9", ("g.Add(g.Log(g.Add(inner, root)), beyond)", "g.Log(g.Add(inner, root))")),
    _graph("sinh missing", ("if s.use_arcsinh:\n            out = ", "if False:\n            out = ")),
    _graph(
        "statistics include the gaps",
        (COUNT, "count = g.ReduceSum(g.Add(g.Mul(observed, g.number(0.0)), g.number(1.0)), g.ints(1))"),
    ),
    _graph("spread includes the gaps", ("g.Mul(g.Sub(x, loc), observed)", "g.Sub(x, loc)")),
    _graph(
        "sample deviation",
        (CENTRED, CENTRED + "\n    divisor = g.Max(g.Sub(divisor, g.number(1.0)), g.number(1.0))"),
    ),
    _graph("scale of a constant row 1", ("g.number(SCALE_OF_CONSTANT)", "g.number(1.0)")),
    _graph("an overflowing mean not clamped", (CLAMPED, "pass")),
    _graph("an overflowing spread not clamped", ("scale = g.Min(scale, g.number(-LOWEST))", "pass")),
    _graph(
        "a clamped mean taken further",
        (CLAMPED, f"{CLAMPED}\n    clamped = g.Add(clamped, g.Div({REST_OF_CLAMPED}, divisor))"),
    ),
    _graph(
        "scale of an unobserved row 1e-5",
        ("return loc, g.Where(g.Equal(count, g.number(0.0)), g.number(1.0), scale)", "return loc, scale"),
    ),
    _graph(
        "covariates not normalized",
        (NORMALIZED, "g.Concat(g.Div(g.Sub(context, loc), scale), future, axis=1)"),
    ),
    _graph("gaps not 0 after normalization", (OBSERVED_ONLY, "pass")),
    _graph("time encoding one patch off", (STEPS, f"g.Sub({STEPS}, g.integer(s.patch))")),
    _graph("time encoding one step off", (STEPS, f"g.Sub({STEPS}, g.integer(1))")),
    _graph("time encoding from the start", (STEPS, "g.Range(g.integer(0), length, g.integer(1))")),
    _graph(
        "time encoding scaled by the context", ("g.number(s.time_scale)", "g.number(float(s.context_length))")
    ),
    _graph(
        "mask of the covariates missing",
        (FEATURES, "for part in (time, x, g.Concat(observed, g.Mul(known, g.number(0.0)), axis=1))"),
    ),
    _graph(
        "covariates missing",
        (OBSERVED_ONLY, "x = g.Mul(x, g.Concat(observed, g.Mul(known, g.number(0.0)), axis=1))"),
    ),
    _graph("features in another order", (FEATURES, "for part in (x, time, present)")),
    # layers
    _graph("norm epsilon 1e-2", ("g.number(norm.eps)", "g.number(1e-2)")),
    _graph("norm weights missing", ("_values(norm.weight)", "_values(norm.weight) * 0 + 1")),
    _graph(
        "norm subtracts the mean",
        (
            "mean = g.ReduceMean(g.Pow",
            "x = g.Sub(x, g.ReduceMean(x, g.ints(-1)))\n        mean = g.ReduceMean(g.Pow",
        ),
    ),
    _graph("final norm missing", ('return _norm(g, "final_norm", encoder.final_norm, x)', "return x")),
    _graph("GELU for ReLU", ("return str(g.Relu(x))", "return str(g.Gelu(x))")),
    _graph("biases missing", ("if linear.bias is not None:", "if False:")),
    _graph("weights in float16", (VALUES, VALUES.replace(".float().cpu()", ".half().float().cpu()"))),
    _graph(
        "two blocks swapped",
        ("enumerate(encoder.blocks)", "enumerate([encoder.blocks[i] for i in (1, 0, *range(2, last + 1))])"),
    ),
    _rewrite(
        "feed-forward weights of two blocks swapped",
        (
            BLOCKS,
            f"{BLOCKS}\n    one, two = (block.feed_forward for block in blocks[:2])\n"
            "    one.wi, two.wi = two.wi, one.wi",
        ),
    ),
    _rewrite(
        "norms of time and group swapped",
        ("time_norm=_norm(time.layer_norm)", "time_norm=_norm(group.layer_norm)"),
        ("group_norm=_norm(group.layer_norm)", "group_norm=_norm(time.layer_norm)"),
    ),
    # output
    _graph(
        "quantiles and steps transposed",
        (OUT_SHAPE, "g.ints(0, -1, s.patch, s.quantiles)"),
        (OUT_ORDER, "g.Transpose(out, perm=[0, 3, 1, 2])"),
    ),
    _graph("location not added", (UNSCALED, "str(g.Mul(out, scale))")),
    _graph("scale not applied", (UNSCALED, "str(g.Add(out, loc))")),
]
