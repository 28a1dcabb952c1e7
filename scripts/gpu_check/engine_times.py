"""TensorRT at full size: times beside the other contenders', and what CUDA graphs are worth.

Last comes the same graph with TensorRT's own attention, where it has one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from . import small_batch, whole_model
from .accuracy import NARROW
from .engines import RIVAL, build, not_built, options_here, rival_here
from .models import CONTENDERS, HORIZON, MODES, Batch, Forward, make_batch, make_upstream
from .setting import GROUP, Record, Setting, failure
from .timing import latency_ms, matmul_rate


def time_engines(setting: Setting) -> Iterator[Record]:
    """Per type: the build, the times at every number of rows, and one group of 20 with and without graphs.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos import Chronos2Pipeline

    from chronos_export.checkpoint.loading import load_checkpoint
    from chronos_export.errors import BuildError

    options, obstacle = options_here(setting, context=setting.context, horizon=HORIZON)
    if options is None:
        yield {"check": "engines", "good": None, "detail": obstacle}
        return
    upstream = make_upstream(setting)
    with tempfile.TemporaryDirectory() as folder:
        Chronos2Pipeline(model=upstream).save_pretrained(Path(folder, "full"))
        checkpoint = load_checkpoint(str(Path(folder, "full")))
        right = CONTENDERS["upstream"](upstream.to(setting.device), "float32")(
            make_batch(whole_model.REFERENCE_ROWS, setting)
        )
        for mode in MODES:
            (work := Path(folder, mode)).mkdir()
            try:
                info = build(checkpoint, work, (GROUP, *setting.rows), options, mode)
            except BuildError as error:
                yield not_built(mode, error.summary)
                continue
            yield _build_record(info, mode)
            yield from _time_engine(info, mode, setting, upstream.config, right)
        rival, _ = rival_here(context=setting.context, horizon=HORIZON)
        for mode in NARROW if rival else ():
            (work := Path(folder, f"rival {mode}")).mkdir()
            try:
                info = build(checkpoint, work, setting.rows, rival, mode)
            except BuildError as error:
                yield {"table": whole_model.TABLE, "type": mode, "contender": RIVAL, **failure(RIVAL, error)}
                continue
            yield _build_record(info, mode)
            yield from _time_rows(RIVAL, _sessions(info)[0], mode, setting, upstream.config, right)


def _build_record(info: Any, mode: str) -> Record:
    return {
        "table": "engines",
        "type": mode,
        "runtime": info.runtime,
        "attention": info.attention,
        "build, s": info.build_seconds,
        "plan, MB": info.bytes / 1e6,
        "peak RSS, GB": info.peak_rss_bytes / 1e9,
    }


def _time_engine(
    info: Any, mode: str, setting: Setting, config: Any, right: torch.Tensor
) -> Iterator[Record]:
    name = f"ours, {info.runtime}"
    graphs, plain = _sessions(info)
    yield _same_bits(graphs, plain, mode, setting)
    batches = [make_batch(GROUP, setting, seed) for seed in range(2)]
    on_host = [Batch(batch.context.cpu(), batch.group_ids.cpu()) for batch in batches]
    for contender, session, given in (
        (f"{name}, {small_batch.CAPTURED}", graphs, batches),
        (f"{name}, {small_batch.CAPTURED}, from the CPU", graphs, on_host),
        (name, plain, batches),
    ):
        ms = latency_ms(_forward(session), given)
        yield {"table": small_batch.TABLE, "type": mode, "contender": contender, "ms": ms}
    yield from _time_rows(name, graphs, mode, setting, config, right)


def _sessions(info: Any) -> tuple[Any, Any]:
    """Of one engine: in CUDA graphs, and without."""
    from chronos_export.artifact.hashing import hash_file
    from chronos_export.machine.compiled import plugin_library
    from chronos_export.runtime.tensorrt_loading import load_engine
    from chronos_export.runtime.tensorrt_session import TensorRtSession

    loaded = load_engine(info, hash_file(info.path).sha256, plugin_library(), "")
    return TensorRtSession(loaded, info), TensorRtSession(loaded, info, graphs=0)


def _time_rows(
    name: str, session: Any, mode: str, setting: Setting, config: Any, right: torch.Tensor
) -> Iterator[Record]:
    rate = matmul_rate(mode, setting.device)
    for rows in setting.rows:
        batch = make_batch(rows, setting)
        per_second = rate / whole_model.work(config, rows, setting)
        record = whole_model.measure(name, mode, _forward(session), batch, right, per_second)
        record.pop(whole_model.PEAK, None)  # PyTorch counts what an engine is given, not what it takes
        yield record


def _same_bits(graphs: Any, plain: Any, mode: str, setting: Setting) -> Record:
    """Shapes that take turns, other rows every time, from the GPU and from the CPU."""
    same = True
    for seed in range(6):
        for steps in (setting.context, setting.context // 2):
            batch = make_batch(GROUP - seed, setting, seed)
            batch = Batch(batch.context[:, -steps:], batch.group_ids)
            if seed % 2:
                batch = Batch(batch.context.cpu(), batch.group_ids.cpu())
            same &= torch.equal(_forward(graphs)(batch), _forward(plain)(batch))
    return {"check": f"engine in CUDA graphs: the same bits, {mode}", "good": same}


def _forward(session: Any) -> Forward:
    return lambda batch: session.run(batch.context, batch.group_ids, batch.future)
