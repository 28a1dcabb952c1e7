"""Upstream and our sessions as Polygraphy runs them, and what is left of a run for its command line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np
import torch
from chronos.chronos2 import Chronos2Model
from numpy.typing import NDArray
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, RunResults
from polygraphy.json import save_json
from polygraphy.logger import G_LOGGER
from torch import Tensor

from chronos_export.graph_contract import INPUTS, OUTPUT
from chronos_export.runtime.session import Session
from chronos_export.validation.cases import Case
from chronos_export.validation.tf32 import InTf32

REFERENCE = "upstream"
Floats = NDArray[np.floating[Any]]
Upstream: TypeAlias = Chronos2Model | InTf32


@torch.no_grad()
def upstream_forecast(model: Upstream, case: Case, dtype: torch.dtype) -> Tensor:
    """Upstream's forward in `dtype`, fed as upstream's pipeline feeds it: covariates in whole patches.

    Returns:
        [rows, quantiles, horizon rounded up to whole patches].
    """
    patch = model.chronos_config.output_patch_size
    future = torch.from_numpy(case.future_covariates).to(dtype)
    patches = -(-future.shape[1] // patch)
    padding = torch.full((len(future), patches * patch - future.shape[1]), torch.nan, dtype=dtype)
    out: Tensor = model(
        context=torch.from_numpy(case.context).to(dtype),
        group_ids=torch.from_numpy(case.group_ids),
        future_covariates=torch.cat([future, padding], dim=1),
        num_output_patches=patches,
    ).quantile_preds
    return out


class _Runner(BaseRunner, ABC):  # type: ignore[misc]
    """A runner of the graph contract; subclasses say how it forecasts."""

    @abstractmethod
    def forecast(self, feed: dict[str, Any]) -> Floats:
        """float32 [rows, quantiles, steps]."""

    def infer_impl(self, feed_dict: dict[str, Any]) -> dict[str, Any]:
        begin = perf_counter()
        out = self.forecast(feed_dict)
        self.inference_time = perf_counter() - begin
        return {OUTPUT: out}

    def get_input_metadata_impl(self) -> TensorMetadata:
        return (
            TensorMetadata()
            .add("context", np.float32, (None, None))
            .add("group_ids", np.int64, (None,))
            .add("future_covariates", np.float32, (None, None))
        )


class UpstreamRunner(_Runner):
    """Polygraphy runner of the untouched upstream model."""

    def __init__(self, model: Chronos2Model) -> None:
        super().__init__(name=REFERENCE)
        self.model = model

    def forecast(self, feed: dict[str, Any]) -> Floats:
        return upstream_forecast(self.model, Case("", **feed), torch.float32).numpy()


class SessionRunner(_Runner):
    """Polygraphy runner of one of our sessions, on its general or its univariate graph."""

    def __init__(self, session: Session, name: str, univariate: bool = False) -> None:
        super().__init__(name=name)
        self.session, self.univariate = session, univariate

    def forecast(self, feed: dict[str, Any]) -> Floats:
        context, group_ids, future = (feed[name] for name in INPUTS)
        if self.univariate:
            return self.session.run_univariate(context, future)
        return self.session.run(context, group_ids, future)


def ask(runner: BaseRunner, case: Case) -> Floats:
    """A runner's answer to a case, through Polygraphy's comparator: float32 [rows, quantiles, steps]."""
    results = Comparator.run([runner], data_loader=[case.feed])
    return np.asarray(results[runner.name][0][OUTPUT])


def save_answers(folder: Path, cases: Sequence[Case], answers: Sequence[Floats]) -> None:
    """Write the inputs and upstream's answers in Polygraphy's format, and the names of the cases.

    A case whose squares overflow float32 is left out: Polygraphy sums them over the whole answer.
    """
    kept = [(case, answer) for case, answer in zip(cases, answers, strict=True) if _is_measurable(answer)]
    save_json([case.feed for case, _ in kept], str(folder / "inputs.json"))
    golden = RunResults()
    golden.add([{OUTPUT: answer} for _, answer in kept], runner_name=REFERENCE)
    golden.save(str(folder / "golden.json"))
    names = "\n".join(f"{number}\t{case.name}" for number, (case, _) in enumerate(kept))
    (folder / "cases.tsv").write_text(names + "\n")


def _is_measurable(answer: Floats) -> bool:
    return bool(np.square(answer, dtype=np.float64).sum() < np.finfo(np.float32).max)


@contextmanager
def quiet_polygraphy() -> Iterator[None]:
    """Without what Polygraphy logs of every run."""
    with G_LOGGER.verbosity(G_LOGGER.ERROR):
        yield
