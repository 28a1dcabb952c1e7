"""The accuracy contract on a device: every case, ours in PyTorch against upstream on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .compiling import use_kernel
from .setting import Record, Setting
from .timing import tf32

SOURCE = "demo"
EXACT, NARROW = ("float32", "tf32"), ("bfloat16", "float16")


def check_accelerated(setting: Setting) -> Iterator[Record]:
    """One record a case and type: the accelerated pipeline; in narrow types the rewritten model.

    Raises:
        ImportError: chronos-forecasting or this package's needs are not installed.
    """
    from chronos_export import accelerate
    from chronos_export.checkpoint.loading import load_checkpoint, load_reference
    from chronos_export.graph.precision import precision_of
    from chronos_export.model.rewrite import rewrite, univariate
    from chronos_export.validation.comparison import validate
    from chronos_export.validation.proof import cases_of
    from tests.helpers.torch_session import TorchSession

    if setting.device == "cuda":
        use_kernel()
    checkpoint = load_checkpoint(SOURCE)
    reference, cases = load_reference(checkpoint).model, cases_of(checkpoint.config)
    model = accelerate(load_reference(checkpoint)).model.to(setting.device)
    for mode in EXACT if setting.device == "cuda" else EXACT[:1]:
        with tf32(mode == "tf32"):
            verdict = validate(reference, {"accelerated": ModelSession(model)}, cases, precision_of(mode))
        yield from as_records(verdict.results, mode)
    for mode in NARROW if setting.device == "cuda" else NARROW[:1]:
        general = rewrite(load_reference(checkpoint).model)
        narrow = [m.to(setting.device, getattr(torch, mode)) for m in (general, univariate(general))]
        session = OnDevice(TorchSession(*narrow), setting.device)
        verdict = validate(reference, {"rewritten": session}, cases, precision_of(mode))
        yield from as_records(verdict.results, mode)


class ModelSession:
    """An upstream model, accelerated or not, behind the call of `chronos_export.runtime.session.Session`."""

    def __init__(self, model: Any) -> None:
        self.model, self.device = model, model.device
        self._patch = model.chronos_config.output_patch_size

    @torch.inference_mode()
    def run(self, context: Tensor, group_ids: Tensor, future_covariates: Tensor) -> Tensor:
        """Covariates in whole patches, as upstream's pipeline feeds them."""
        rows, horizon = future_covariates.shape
        patches = -(-horizon // self._patch)
        rest = future_covariates.new_full((rows, patches * self._patch - horizon), torch.nan)
        future = torch.cat([future_covariates, rest], dim=1)
        inputs = (context, group_ids, future)
        context, group_ids, future = (x.to(self.device) for x in inputs)
        out: Tensor = self.model(
            context=context, group_ids=group_ids, future_covariates=future, num_output_patches=patches
        ).quantile_preds
        return out

    def run_univariate(self, context: Tensor, future_covariates: Tensor) -> Tensor:
        """Every row a group of its own."""
        return self.run(context, torch.arange(len(context)), future_covariates)


class OnDevice:
    """A session whose inputs may be anywhere."""

    def __init__(self, session: Any, device: str) -> None:
        self.session, self.device = session, torch.device(device)

    def run(self, *inputs: Tensor) -> Tensor:
        """See `chronos_export.runtime.session.Session`."""
        out: Tensor = self.session.run(*(x.to(self.device) for x in inputs))
        return out

    def run_univariate(self, *inputs: Tensor) -> Tensor:
        """See `chronos_export.runtime.session.Session`."""
        out: Tensor = self.session.run_univariate(*(x.to(self.device) for x in inputs))
        return out


def as_records(results: Iterable[Any], mode: str) -> Iterator[Record]:
    """Results of `chronos_export.validation.comparison` as this script's records."""
    for result in results:
        detail = result.problem or f"{result.worst_of_limit:.3f} of what is allowed"
        yield {
            "check": f"{result.runner}, {mode}: {result.case}",
            "good": not result.problem,
            "detail": detail,
        }
