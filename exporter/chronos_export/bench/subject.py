"""What is benched: a checkpoint, upstream's model of it, and its exported graphs."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.artifact.reading import Artifact, open_artifact
from chronos_export.checkpoint.quiet import quiet
from chronos_export.exporting.export import load_source
from chronos_export.graph.precision import PRECISIONS
from chronos_export.graph.writing import export_onnx
from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.session import Folder
from chronos_export.runtime.tuning import tune

FULL = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
QUANTILES = [0.01, *(round(0.05 * i, 2) for i in range(1, 20)), 0.99]


@dataclass(frozen=True)
class Subject:
    """One set of weights.

    Attributes:
        name: As the report shows it.
        model: Upstream's model, float32, in eval mode.
        checkpoint: A folder that upstream loads.
        work: A folder for graphs.
        limits: How large a call of ours is here.
        artifact: What it was published as, or None.
    """

    name: str
    model: Chronos2Model
    checkpoint: Path
    work: Path
    limits: Limits
    artifact: Artifact | None = None

    @property
    def layers(self) -> int:
        layers: int = self.model.config.num_layers
        return layers

    def graphs_in(self, dtype: str) -> Path:
        """The folder of the graphs in one of `precision.PRECISIONS`, written when it is first asked for."""
        if self.artifact is not None and self.artifact.manifest.dtype == dtype:
            return self.artifact.path
        return graphs_of(self.model, self.work / dtype, dtype)


def full_config(layers: int = 12) -> Chronos2CoreConfig:
    """amazon/chronos-2's configuration, with as many layers as asked."""
    limits = {
        "context_length": 8192,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "output_patch_size": 16,
        "max_output_patches": 64,
        "quantiles": QUANTILES,
        "use_reg_token": True,
        "use_arcsinh": True,
        "time_encoding_scale": 8192,
    }
    return Chronos2CoreConfig(
        **{**FULL, "num_layers": layers},
        architectures=["Chronos2Model"],
        chronos_pipeline_class="Chronos2Pipeline",
        chronos_config=limits,
    )


@torch.no_grad()
def _draw_weights(model: Chronos2Model) -> None:
    """Weights that keep activations and scores near 1. As upstream draws them, attention would not matter."""
    for name, weight in model.named_parameters():
        if "layer_norm" in name:
            weight.fill_(1.0)
        elif weight.ndim == 2:
            fan_in = weight.shape[1] * (model.config.d_kv if ".q." in name else 1)
            weight.normal_(std=fan_in**-0.5)


def random_subject(config: Chronos2CoreConfig, work: Path) -> Subject:
    """Random weights of a configuration; the checkpoint and its graphs are written to `work`."""
    model = random_checkpoint(config, work / "checkpoint")
    graphs = OrtSession(Folder(graphs_of(model, work / "float32", "float32")))
    limits = tune(graphs, model.chronos_config.input_patch_size, model.chronos_config.context_length)
    name = f"random weights, layers: {config.num_layers}, width: {config.d_model}"
    return Subject(name, model, work / "checkpoint", work, limits)


def random_checkpoint(config: Chronos2CoreConfig, folder: Path) -> Chronos2Model:
    """Write a checkpoint of random weights, always the same, and return its model."""
    torch.manual_seed(0)
    with quiet():
        model = Chronos2Model(config).eval()
        _draw_weights(model)
        model.save_pretrained(folder)
    return model


def published_subject(path: Path, work: Path) -> Subject:
    """An artifact, with upstream's model from the checkpoint that it was made from.

    Raises:
        ChronosExportError: See `reading.open_artifact` and `export.load_source`.
    """
    artifact = open_artifact(path)
    checkpoint = load_source(artifact)
    return Subject(
        name=f"{path.name}, from {artifact.manifest.checkpoint.source}",
        model=checkpoint.pipeline.model,
        checkpoint=checkpoint.files.folder,
        work=work,
        limits=Limits(**asdict(artifact.manifest.call_size)),
        artifact=artifact,
    )


def with_layers(subject: Subject, layers: int, work: Path) -> Subject:
    """Random weights of the same sizes, but for the number of layers."""
    config = copy.deepcopy(subject.model.config)
    config.num_layers = layers
    return random_subject(config, work)


def graphs_of(model: Chronos2Model, folder: Path, dtype: str) -> Path:
    """`folder` with both graphs of a model, if it is not there yet."""
    if not folder.exists():
        folder.mkdir(parents=True)
        segmented = rewrite(model)
        with quiet():
            export_onnx(segmented, univariate(segmented), folder, {}, PRECISIONS[dtype])
    return folder
