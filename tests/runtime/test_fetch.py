"""Forecasts are fetched while the next call is under way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.pipeline import model as pipeline
from chronos_export.pipeline.model import SessionModel
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.fetch import Fetch
from tests.helpers.checkpoints import make_model
from tests.helpers.torch_session import TorchSession
from tests.helpers.upstream import assert_forecast_as_upstream


def test_a_forecast_is_fetched_when_the_next_call_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Watched(Fetch):
        def __init__(self, forecast: Tensor) -> None:
            super().__init__(forecast)
            self.number = sum(event.startswith("begun") for event in events)
            events.append(f"begun {self.number}")

        def wait(self) -> Tensor:
            events.append(f"fetched {self.number}")
            return super().wait()

    upstream = make_model("toy")
    segmented = rewrite(upstream)
    session = TorchSession(segmented, univariate(segmented))
    model = SessionModel(session, upstream.config.chronos_config, Limits(tokens=1))
    context = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(pipeline, "Fetch", Watched)
    assert_forecast_as_upstream(model(context).quantile_preds, upstream, context, torch.arange(3))
    assert events == ["begun 0", "begun 1", "fetched 0", "begun 2", "fetched 1", "fetched 2"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU")
def test_fetches_what_a_gpu_has_yet_to_compute() -> None:
    x = torch.randn(2000, 2000, generator=torch.Generator().manual_seed(0))
    fetched = Fetch((x.cuda() @ x.cuda()).round(decimals=1)).wait()
    assert not fetched.is_cuda
    torch.testing.assert_close(fetched, (x.cuda() @ x.cuda()).round(decimals=1).cpu())
