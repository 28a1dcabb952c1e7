"""The peers forecast what upstream does, and are what they say they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from chronos.chronos2 import Chronos2Model
from torch import Tensor

from chronos_export.artifact.engine_info import Profile
from chronos_export.errors import ChronosExportError, MachineError
from chronos_export.graph_contract import UNIVARIATE
from chronos_export.validation.exact import in_float64
from chronos_export.validation.tolerance import NOISE_FACTOR
from scripts.benchmarks import cuda_peers, variants
from scripts.benchmarks import workloads as w
from scripts.benchmarks.peers import (
    CONTIGUOUS,
    DENSE_ONNX,
    OURS,
    SIZES,
    UPSTREAM,
    UPSTREAM_BEST,
    Peer,
    cpu_peers,
)
from scripts.benchmarks.subject import Subject, of_config
from scripts.benchmarks.variants import contiguous_mask, padded, per_group
from tests.helpers.checkpoints import make_config, make_model
from tests.helpers.stand_in import INFO


def short(work: w.Workload) -> w.Workload:
    return w.Workload(work.name, work.context[:, -200:], work.group_ids, horizon=40)


MIXED = w.Workload("mixed", short(w.ragged(9)).context, torch.tensor([5, 5, 5, 2, 8, 8, 8, 8, 0]), horizon=40)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return of_config(make_config("small"), tmp_path_factory.mktemp("subject"))


@pytest.fixture(scope="module")
def peers(subject: Subject) -> dict[str, Peer]:
    return {peer.name: peer for peer in cpu_peers(subject)}


def forward(model: Chronos2Model, work: w.Workload) -> Tensor:
    patches = -(-work.horizon // 16)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        out: Tensor = model(
            work.context.to(dtype), group_ids=work.group_ids, num_output_patches=patches
        ).quantile_preds
    return out[:, :, : work.horizon]


def assert_exact(found: Tensor, model: Chronos2Model, work: w.Workload) -> None:
    """As validation judges: within ten times upstream's own error on the row, or on a typical row."""
    upstream, truth = forward(model, work).double(), forward(in_float64(model), work)
    scale = truth.std((1, 2))
    noise = (upstream - truth).abs().amax((1, 2)) / scale
    error = (found - upstream).abs().amax((1, 2)) / scale
    assert (error <= NOISE_FACTOR * noise.clamp(min=float(noise.median()))).all()


@pytest.mark.parametrize("variant", [contiguous_mask, per_group, padded])
def test_variants_forecast_as_upstream(variant: Callable[[Chronos2Model], Chronos2Model]) -> None:
    model = make_model("small")
    changed = variant(model)
    assert_exact(forward(changed, MIXED), model, MIXED)
    assert {id(p) for p in changed.parameters()} == {id(p) for p in model.parameters()}
    assert_exact(forward(model, MIXED), model, MIXED)  # and upstream's own is as it was


def test_only_the_contiguous_mask_is_contiguous() -> None:
    model = make_model("toy")
    arguments = (torch.arange(4), torch.ones(4, 7), torch.float32)
    build = "_construct_and_invert_group_time_mask"
    theirs, ours = (getattr(m.encoder, build)(*arguments) for m in (model, contiguous_mask(model)))
    assert (theirs.stride(-1), ours.stride(-1)) != (1, 1)
    assert ours.is_contiguous()
    assert ours.equal(theirs)


def test_groups_are_attended_one_by_one_or_padded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    attend = variants._attend
    monkeypatch.setattr(
        variants, "_attend", lambda q, *rest: (shapes.append(q.shape[:2]), attend(q, *rest))[1]
    )
    model = make_model("toy")
    forward(per_group(model), MIXED)
    assert shapes == 2 * [(1, 1), (1, 1), (1, 3), (1, 4)]  # two layers
    shapes.clear()
    forward(padded(model), MIXED)
    assert shapes == 2 * [(4, 4)]


def test_padding_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants.psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    with pytest.raises(MachineError, match="16 groups padded to 5 rows need"):
        forward(padded(make_model("small")), w.skewed(20))


@pytest.mark.parametrize(
    "work", [MIXED, short(w.groups_of_20(40)), short(w.univariate(3))], ids=lambda w: w.name
)
def test_every_float32_peer_forecasts_as_upstream(
    work: w.Workload, subject: Subject, peers: dict[str, Peer]
) -> None:
    missing = set()
    for peer in peers.values():
        if peer.dtype != "float32":
            continue
        try:
            answer = peer.open()
        except ChronosExportError:
            missing.add(peer.name)
        else:
            assert_exact(answer(work), subject.model, work)
    assert missing <= {"upstream, torch.compile", "ours, TensorRT", "ours, openvino"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile
def test_who_is_compared(subject: Subject, peers: dict[str, Peer]) -> None:
    assert {UPSTREAM, UPSTREAM_BEST, DENSE_ONNX, OURS} < peers.keys()
    swept = {name for name, peer in peers.items() if len(peer.sizes) > 1}
    assert swept == {UPSTREAM_BEST, DENSE_ONNX, "upstream, bfloat16 autocast at its best batch_size"}
    assert all(peers[name].sizes == SIZES for name in swept)
    with pytest.raises(MachineError, match="not asked: --compile"):
        peers["upstream, torch.compile"].open()
    with pytest.raises(MachineError, match=r"python -m scripts\.benchmarks --device cuda"):
        peers["ours, TensorRT"].open()
    compiled = {peer.name: peer for peer in cpu_peers(subject, compiled=True)}
    assert callable(compiled["upstream, torch.compile"].open())
    ours = {peer.name: peer.dtype for peer in peers.values() if peer.session}
    assert ours == {
        OURS: "float32",
        "ours, openvino": "float32",
        "ours, bfloat16": "bfloat16",
        "ours, int8": "int8",
    }


def test_autocast_is_narrow(subject: Subject, peers: dict[str, Peer]) -> None:
    """Wrong by more than float32 is, by less than a tenth of what there is to forecast."""
    upstream = forward(subject.model, MIXED)
    for name, dtype in (
        ("upstream, bfloat16 autocast", "bfloat16"),
        ("upstream, float16 autocast", "float16"),
    ):
        assert peers[name].dtype == dtype
        error = (peers[name].open()(MIXED) - upstream).square().mean().sqrt() / upstream.std()
        assert 1e-4 < error < 0.1


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bfloat16"])
def test_the_peers_of_a_gpu_forecast_as_upstream(subject: Subject, dtype: str) -> None:
    """Where they can be opened without one: upstream, and ours in PyTorch."""
    upstream = forward(subject.model, MIXED)
    answered = set()
    for peer in cuda_peers.cuda_peers(subject, dtype, rows=2000, device="cpu"):
        assert peer.dtype == dtype
        try:
            answer = peer.open()
        except ChronosExportError:
            continue
        answered.add(peer.name.removesuffix(f", {dtype}"))
        if dtype == "bfloat16":
            error = (answer(MIXED) - upstream).square().mean().sqrt() / upstream.std()
            assert 1e-4 < error < 0.1
        else:
            assert_exact(answer(MIXED), subject.model, MIXED)
    ours = {cuda_peers.REWRITTEN, cuda_peers.ACCELERATED}
    assert answered == {UPSTREAM, UPSTREAM_BEST, CONTIGUOUS, *ours}


def test_engines_come_first_and_few_rows_are_tried_without_launches(subject: Subject) -> None:
    names = [peer.name for peer in cuda_peers.cuda_peers(subject, "float32", 2000, "cuda")]
    few = [peer.name for peer in cuda_peers.cuda_peers(subject, "float32", 20, "cuda")]
    assert names[0] == cuda_peers.ENGINE
    assert set(few) - set(names) == {
        f"{cuda_peers.ENGINE} {cuda_peers.CAPTURED}",
        f"{cuda_peers.REWRITTEN} {cuda_peers.CAPTURED}",
        "upstream, torch.compile (reduce-overhead)",
        "upstream, torch.compile (default)",
    }
    assert len(set(few)) == len(few)
    assert all("torch.compile" in name for name in few[-2:])  # minutes of compiling come last


def test_an_engine_that_was_not_built_says_so(subject: Subject) -> None:
    with pytest.raises(MachineError, match="no engine was built"):
        cuda_peers.open_engine(subject, "tf32")


def test_groups_and_univariate_rows_have_an_engine_each(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "float16"
    general = replace(INFO, path=folder / "engines" / "a.plan")
    univariate = replace(
        general, path=folder / "engines" / "b.plan", graph=UNIVARIATE, profiles=(Profile(80, 64),)
    )
    folder.mkdir()
    entries = [info.as_entry(folder) for info in (univariate, general)]
    (folder / cuda_peers.INFO).write_text(json.dumps(entries))
    monkeypatch.setattr(cuda_peers, "why_not_here", lambda info: "")
    monkeypatch.setattr(cuda_peers, "_loaded", lambda info: info)
    monkeypatch.setattr(cuda_peers, "TensorRtSession", lambda *engines, graphs: engines)
    session, limits = cuda_peers.open_engine(replace(subject, work=tmp_path), "float16")
    assert session == (general, univariate)
    assert (limits.profiles, limits.univariate_profiles) == (general.profiles, univariate.profiles)
