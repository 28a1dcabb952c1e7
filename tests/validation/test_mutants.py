"""The proof can fail: every wrong export is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from chronos.chronos2 import Chronos2Model

from chronos_export.checkpoint.loading import Checkpoint, load_checkpoint, load_reference
from chronos_export.checkpoint.quiet import quiet
from chronos_export.errors import AccuracyError
from chronos_export.exporting import export as exporting
from chronos_export.graph.precision import precision_of
from chronos_export.runtime.onnxruntime_session import OrtSession
from chronos_export.runtime.session import Folder
from chronos_export.validation import comparison as validation
from chronos_export.validation import proof, tolerance
from chronos_export.validation import runners as polygraphy_runners
from chronos_export.validation.cases import Case
from tests.helpers.checkpoints import make_checkpoint, make_ill_conditioned
from tests.helpers.wrong_exports import MUTANTS, Mutant

NAMES = [mutant.name for mutant in MUTANTS]


@pytest.fixture(scope="module", params=["small", pytest.param("ill-conditioned", marks=pytest.mark.slow)])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A small model with limits near enough for every case to be quick."""
    folder = tmp_path_factory.mktemp("short")
    if request.param == "small":
        make_checkpoint(folder, "small", context_length=256, max_output_patches=8)
    else:
        with quiet():
            make_ill_conditioned(seed=5).save_pretrained(folder)
    return load_checkpoint(str(folder))


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint) -> Chronos2Model:
    return load_reference(checkpoint).model


@pytest.fixture(scope="module")
def upstream_once() -> Iterator[None]:
    """Upstream's answers are the same for every mutant, so each is computed once."""
    compute, answers = validation.upstream_forecast, {}

    def remembered(model: Chronos2Model, case: Case, dtype: torch.dtype) -> torch.Tensor:
        weights = (weight.flatten()[0].item() for weight in model.parameters())
        key = (dtype, *weights, *(array.tobytes() for array in case.feed.values()))
        if key not in answers:
            answers[key] = compute(model, case, dtype)
        return answers[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (validation, tolerance, polygraphy_runners):
            patch.setattr(module, "upstream_forecast", remembered)
        yield


def prove(checkpoint: Checkpoint, reference: Chronos2Model, folder: Path) -> validation.Verdict:
    exporting.write_graphs(checkpoint, folder, precision_of("float32"))
    session = OrtSession(Folder(folder), threads=1)
    return validation.validate(reference, {"onnxruntime": session}, proof.cases_of(checkpoint.config))


@pytest.mark.usefixtures("upstream_once")
def test_the_true_export_passes(checkpoint: Checkpoint, reference: Chronos2Model, tmp_path: Path) -> None:
    proof.refuse_failures(prove(checkpoint, reference, tmp_path))


@pytest.mark.usefixtures("upstream_once")
@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_a_mutant_is_refused(
    mutant: Mutant,
    checkpoint: Checkpoint,
    reference: Chronos2Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant.plant(monkeypatch)
    verdict = prove(checkpoint, reference, tmp_path)
    print(f"killed by {len(verdict.failures)}:", *(result.case for result in verdict.failures))
    with pytest.raises(AccuracyError):
        proof.refuse_failures(verdict)
