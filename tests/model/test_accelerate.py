"""Upstream's pipeline by segments: forecasts, embeddings and training are upstream's."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.model import Chronos2Encoder
from peft import LoraConfig, get_peft_model
from torch import nn

from chronos_export import accelerate
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import UsageError
from chronos_export.model import accelerating as module
from chronos_export.model import segmented as rewritten
from chronos_export.model.accelerating import SegmentedEncoder, _all_single
from chronos_export.validation.exact import in_float64
from tests.helpers.checkpoints import make_checkpoint, make_model
from tests.helpers.memory import in_a_fresh_process
from tests.helpers.upstream import assert_as_upstream, exact_pipeline

RATE, STEPS = 0.05, 4


def pipelines(size: str) -> tuple[Chronos2Pipeline, Chronos2Pipeline]:
    """An accelerated pipeline, and upstream's of the same weights."""
    return accelerate(Chronos2Pipeline(make_model(size))), Chronos2Pipeline(make_model(size))


def groups() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 70), (1, 70), (5, 40), (2, 90), (1, 3)]
    return [torch.randn(*shape, generator=generator).cumsum(-1) for shape in shapes]


@pytest.mark.parametrize("size", ["toy", "small", "quantiles13"])
@pytest.mark.parametrize("cross_learning", [False, True])
def test_predict(size: str, cross_learning: bool) -> None:
    mine, upstream = pipelines(size)
    assert isinstance(mine.model.encoder, SegmentedEncoder)
    assert not isinstance(upstream.model.encoder, SegmentedEncoder)
    answers = [
        pipeline.predict(groups(), 40, cross_learning=cross_learning, unrolled_quantiles=[0.1, 0.5, 0.9])
        for pipeline in (mine, upstream, exact_pipeline(upstream))
    ]
    assert_as_upstream(*answers)


def test_single_series_need_neither_query_nor_key(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, upstream = pipelines("small")
    series = [torch.randn(1, n, generator=torch.Generator().manual_seed(n)).cumsum(-1) for n in (70, 3, 41)]
    series[1][:] = torch.nan
    answers = [pipeline.predict(series, 40) for pipeline in (mine, upstream, exact_pipeline(upstream))]
    assert_as_upstream(*answers)
    for block in mine.model.encoder.block:
        for name in ("q", "k"):
            monkeypatch.setattr(block.layer[1].self_attention, name, None)
    assert all(torch.equal(a, b) for a, b in zip(mine.predict(series, 40), answers[0], strict=True))
    with pytest.raises(TypeError, match="NoneType"):
        mine.predict(series, 40, cross_learning=True)


def test_a_cuda_graph_is_not_asked_whether_all_series_are_single(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is on the GPU, and waiting for it ends the capture."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    ids = Mock(is_cuda=True)
    assert not _all_single(ids)
    ids.unique.assert_not_called()


def test_embed() -> None:
    """Of series of one length: an embedding of a dead token has no meaning, and is not upstream's."""
    mine, upstream = pipelines("small")
    series = torch.randn(4, 3, 80, generator=torch.Generator().manual_seed(0))
    exact = copy.deepcopy(upstream)
    exact.model = in_float64(upstream.model)
    (found, scales), (wanted, their_scales) = mine.embed(series), upstream.embed(series)
    flat = exact.model.encode(series.double().flatten(0, 1), group_ids=torch.arange(4).repeat_interleave(3))
    true = flat[0].last_hidden_state.unflatten(0, (4, 3))
    assert_as_upstream(found, wanted, [t.detach() for t in true])
    for one, other in zip(scales, their_scales, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_embed_of_series_that_begin_at_different_times() -> None:
    """A token before its series begins has no meaning: upstream's depends on the batch, ours does not."""
    mine, upstream = pipelines("small")
    whole, late = torch.randn(2, 90, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    alone, _ = mine.embed([late[-20:]])
    (first, second), _ = mine.embed([whole, late[-20:]])
    their_first, their_second = upstream.embed([whole, late[-20:]])[0]
    dead = len(second[0]) - len(alone[0][0])
    assert dead == 4
    exact = in_float64(upstream.model)
    context = torch.stack([whole, late]).double()
    context[1, :-20] = torch.nan
    true = exact.encode(context, group_ids=torch.arange(2))[0].last_hidden_state.detach()
    assert_as_upstream(
        [first, second[:, dead:]], [their_first, their_second[:, dead:]], [true[:1], true[1:, dead:]]
    )
    (_, other), _ = mine.embed([whole.flip(0), late[-20:]])
    assert torch.equal(other, second)
    (_, other), _ = upstream.embed([whole.flip(0), late[-20:]])
    assert not torch.equal(other[:, :dead], their_second[:, :dead])


def test_the_class_accelerates_whatever_it_is_made_of(tmp_path: Path) -> None:
    mine, _ = pipelines("toy")
    checkpoint = make_checkpoint(tmp_path, "toy")
    with quiet():
        loaded = type(mine).from_pretrained(checkpoint)
    assert isinstance(loaded.model.encoder, SegmentedEncoder)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (SimpleNamespace(model=nn.Linear(1, 1)), "SimpleNamespace of a Linear"),
        (Chronos2Pipeline(SimpleNamespace()), "Chronos2Pipeline of a SimpleNamespace"),
        ("amazon/chronos-2", "str"),
    ],
)
def test_what_is_no_pipeline_of_pytorch_is_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=f"accelerate was given {said}\n") as error:
        accelerate(given)
    assert "from_pretrained" in error.value.fix


def training(size: str, dropout: float = 0.0) -> Chronos2Model:
    """An upstream model in float64 that trains, with one dropout everywhere."""
    model = in_float64(make_model(size)).train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = dropout
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = dropout
    return model


def step(model: Any) -> dict[str, torch.Tensor]:
    """The loss of a ragged batch and its gradient by every weight."""
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(9, 77, dtype=torch.float64, generator=generator).cumsum(1)
    context[2, :50] = torch.nan
    torch.manual_seed(0)
    loss = model(
        context=context,
        group_ids=torch.tensor([3, 1, 3, 2, 1, 3, 7, 1, 3]),
        future_target=torch.randn(9, 32, dtype=torch.float64, generator=generator),
        num_output_patches=2,
    ).loss
    names, weights = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, weights)
    return {"loss": loss.detach(), **dict(zip(names, gradients, strict=True))}


def assert_same_step(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Sums of a few thousand float64 products: 1e-16 each, 1e-9 leaves room and shows any wrong term."""
    assert found.keys() == wanted.keys()
    for name, right in wanted.items():
        assert right.abs().max() > 0, name
        assert (found[name] - right).abs().max() <= 1e-9 * right.abs().max(), name


@pytest.mark.parametrize("size", ["toy", "small"])
def test_gradients_of_the_loss_by_every_weight(size: str) -> None:
    upstream = training(size)
    mine = copy.deepcopy(upstream)
    module._use_segments(mine)
    assert_same_step(step(mine), step(upstream))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_step_can_be_compiled_as_one_graph(dropout: float) -> None:
    """Traced and differentiated ahead of time, then run by PyTorch, which draws the same numbers."""
    model = training("toy", dropout)
    module._use_segments(model)
    wanted = step(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = {name.removeprefix("_orig_mod."): value for name, value in step(compiled).items()}
    assert_same_step(found, wanted)


def test_attention_weights_are_still_to_be_had() -> None:
    mine, upstream = pipelines("toy")
    call = {"context": torch.randn(3, 40), "group_ids": torch.tensor([0, 1, 0]), "output_attentions": True}
    found, wanted = (p.model(**call).enc_group_self_attn_weights for p in (mine, upstream))
    assert len(found) == len(wanted) == 2
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def fit(pipeline: Chronos2Pipeline, folder: Path, **options: Any) -> Chronos2Pipeline:
    """A few steps of plain gradient descent; Adam would turn a rounding error into a full step."""
    torch.manual_seed(0)
    np.random.seed(0)
    series = [torch.randn(3, 200, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    with quiet():
        return pipeline.fit(
            series,
            prediction_length=20,
            context_length=64,
            num_steps=STEPS,
            batch_size=12,
            output_dir=folder,
            learning_rate=RATE,
            optim="sgd",
            max_grad_norm=0.0,
            remove_printer_callback=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **options,
        )


def without_dropout(folder: Path, size: str = "small") -> Chronos2Pipeline:
    checkpoint = make_checkpoint(folder, size)
    with quiet():
        return Chronos2Pipeline.from_pretrained(checkpoint, dropout_rate=0.0)


def gradient_noise(model: Chronos2Model) -> float:
    """How far float32 gradients are from those in float64, at worst, in one step of training."""
    exact = in_float64(model)
    generator = torch.Generator().manual_seed(0)
    context, target = (torch.randn(12, n, generator=generator) for n in (64, 20))
    ids = torch.arange(12) // 3
    gradients = []
    for net, kind in ((copy.deepcopy(model).float(), torch.float32), (exact, torch.float64)):
        net(
            context=context.to(kind), group_ids=ids, future_target=target.to(kind), num_output_patches=2
        ).loss.backward()
        gradients.append({name: p.grad.double() for name, p in net.named_parameters()})
    return max(float((gradients[0][n] - gradients[1][n]).abs().max()) for n in gradients[0])


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_fit(mode: str, tmp_path: Path) -> None:
    """Weights may stray by ten times what the noise of the gradients moves them in these steps."""
    start = without_dropout(tmp_path / "start")
    initial = {name: weight.clone() for name, weight in start.model.state_dict().items()}
    theirs = fit(without_dropout(tmp_path / "again"), tmp_path / "theirs", finetune_mode=mode)
    mine = fit(accelerate(start), tmp_path / "mine", finetune_mode=mode)
    assert any(isinstance(part, SegmentedEncoder) for part in mine.model.modules())
    limit = 10 * RATE * STEPS * gradient_noise(make_model("small"))
    found, wanted = mine.model.state_dict(), theirs.model.state_dict()
    assert found.keys() == wanted.keys()
    strayed = max(float((found[name] - wanted[name]).abs().max()) for name in wanted)
    assert strayed <= limit
    moved = {
        name: float((weight - initial.get(name, torch.zeros(()))).abs().max())
        for name, weight in wanted.items()
        if ("lora_B" in name if mode == "lora" else name in initial)
    }
    assert min(moved.values()) > 0
    assert max(moved.values()) > 100 * limit  # training did far more than the comparison forgives
    assert all(torch.equal(start.model.state_dict()[name], initial[name]) for name in initial)


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_what_was_trained_loads_in_upstream(mode: str, tmp_path: Path) -> None:
    trained = fit(accelerate(without_dropout(tmp_path / "start")), tmp_path / "out", finetune_mode=mode)
    with quiet():
        again = Chronos2Pipeline.from_pretrained(tmp_path / "out" / "finetuned-ckpt")
    assert type(again) is Chronos2Pipeline
    assert not any(isinstance(part, SegmentedEncoder) for part in again.model.modules())
    answers = [p.predict(groups(), prediction_length=20) for p in (trained, again, exact_pipeline(again))]
    assert_as_upstream(*answers)


def test_it_trains_with_dropout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of a checkpoint: attention weights are dropped too, singles' included."""
    seen: list[tuple[float, int]] = []
    operator = rewritten.group_attention

    def spied(*args: Any) -> torch.Tensor:
        seen.append((args[7], int(args[8])))
        return operator(*args)

    monkeypatch.setattr(rewritten, "group_attention", spied)
    start = accelerate(Chronos2Pipeline(make_model("toy")))
    assert start.model.config.dropout_rate == 0.1
    trained = fit(start, tmp_path)
    assert [dropout for dropout, _ in seen] == [0.1] * (2 * STEPS)
    assert len({seed for _, seed in seen}) == len(seen)
    changed = trained.model.state_dict()
    assert all(weight.isfinite().all() for weight in changed.values())
    assert any(not torch.equal(changed[n], w) for n, w in start.model.state_dict().items())


def test_an_infinity_stays_in_its_group() -> None:
    mine, _ = pipelines("small")
    series = groups()
    clean = mine.predict(series, prediction_length=16)
    series[2] = series[2].clone()
    series[2][1, 30] = torch.inf
    out = mine.predict(series, prediction_length=16)
    assert all(torch.equal(out[i], clean[i]) for i in (0, 1, 3, 4))


MEASURE = """
import torch
from chronos import Chronos2Pipeline
from tests.helpers.checkpoints import make_model
from chronos_export import accelerate
from tests.helpers.memory import peaks
pipeline = accelerate(Chronos2Pipeline(make_model("toy")))
pipeline.predict(torch.randn(8, 1, 64), prediction_length=16)
print(peaks(lambda: pipeline.predict(torch.randn(4000, 1, 64), prediction_length=16, batch_size=4000)))
"""


def test_4000_rows_need_less_memory_than_a_mask_of_their_pairs() -> None:
    (peak,) = in_a_fresh_process(MEASURE)
    assert 4000 * 64 * 4 < peak < 4000**2 * 4


def watched(pipeline: Chronos2Pipeline, inside: bool = True) -> dict[str, torch.Tensor]:
    """What hooks on every module of the encoder, or on the encoder alone, see of a forecast."""
    seen: dict[str, torch.Tensor] = {}

    def note(name: str, output: Any) -> None:
        seen[name] = (output if isinstance(output, torch.Tensor) else output[0]).detach()

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
        for name, module in pipeline.model.encoder.named_modules()
        if inside or not name
    ]
    pipeline.predict(groups(), 20)
    for handle in handles:
        handle.remove()
    return seen


def test_hooks_see_what_they_would_see_in_upstream() -> None:
    mine, upstream = pipelines("small")
    found, wanted = watched(mine), watched(upstream)
    assert found.keys() == wanted.keys()
    assert len(found) > 32
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_without_hooks_inside_it_runs_by_segments_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = pipelines("small")
    watched(mine)
    monkeypatch.setattr(Chronos2Encoder, "forward", None)
    assert list(watched(mine, inside=False)) == [""]


def dropouts(model: Chronos2Model) -> dict[str, nn.Dropout]:
    return {name: part for name, part in model.encoder.named_modules() if isinstance(part, nn.Dropout)}


@pytest.mark.parametrize("name", dropouts(make_model("toy")))
def test_every_part_is_trained_or_not_as_it_says(name: str) -> None:
    """One that drops everything, in a model that is not trained: no chance is involved."""
    mine, upstream = pipelines("toy")
    still = upstream.predict(groups(), 20)
    for pipeline in (mine, upstream):
        pipeline.model.eval = lambda model=pipeline.model: model  # predict would end what is trained
        dropouts(pipeline.model)[name].p = 1.0
        dropouts(pipeline.model)[name].train()
    flags = {part: module.training for part, module in mine.model.named_modules()}
    found, wanted = mine.predict(groups(), 20), upstream.predict(groups(), 20)
    assert_as_upstream(found, wanted, exact_pipeline(upstream).predict(groups(), 20))
    assert not all(torch.equal(a, b) for a, b in zip(wanted, still, strict=True))
    assert flags == {part: module.training for part, module in mine.model.named_modules()}


@pytest.mark.parametrize("trained", [0, 1])
def test_a_block_that_is_not_trained_drops_no_attention(
    trained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("toy")
    accelerate(Chronos2Pipeline(model))
    model.encoder.block[trained].train()
    seen: list[float] = []
    operator = rewritten.group_attention

    def spied(*args: Any) -> torch.Tensor:
        seen.append(args[7] if len(args) > 7 else 0.0)
        return operator(*args)

    monkeypatch.setattr(rewritten, "group_attention", spied)
    model(torch.randn(3, 64), group_ids=torch.arange(3))
    assert seen == [0.1 * (number == trained) for number in range(2)]


def save_whole(part: str) -> LoraConfig:
    return LoraConfig(r=2, target_modules=["input_patch_embedding.hidden_layer"], modules_to_save=[part])


@pytest.mark.parametrize("part", ["encoder", "final_layer_norm", "output_patch_embedding.output_layer"])
def test_a_part_that_is_trained_as_a_whole_beside_lora(part: str, tmp_path: Path) -> None:
    """PEFT puts a module with two copies of the part in its place."""
    with quiet():
        wrapped = [get_peft_model(make_model("small"), save_whole(part)).eval() for _ in range(2)]
    mine, upstream = accelerate(Chronos2Pipeline(wrapped[0])), Chronos2Pipeline(wrapped[1])
    answers = [pipeline.predict(groups(), 20) for pipeline in (mine, upstream)]
    exact = exact_pipeline(Chronos2Pipeline(make_model("small"))).predict(groups(), 20)
    assert_as_upstream(*answers, exact)
    encoders = [part for part in wrapped[0].modules() if isinstance(part, Chronos2Encoder)]
    assert all(type(encoder) is SegmentedEncoder for encoder in encoders)
    assert len(encoders) == (2 if part == "encoder" else 1)
    mine = fit(
        accelerate(without_dropout(tmp_path)), tmp_path, finetune_mode="lora", lora_config=save_whole(part)
    )
    assert all(forecast.isfinite().all() for forecast in mine.predict(groups(), 20))
