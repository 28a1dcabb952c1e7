"""A batch through a session: a device answers a call while the one before is taken."""

from __future__ import annotations

import numpy as np

from chronos_export.model.rewrite import rewrite, univariate
from chronos_export.runtime.batched import BatchedSession
from chronos_export.runtime.batching import Limits
from chronos_export.runtime.session import Floats, Ints
from tests.helpers.checkpoints import make_model
from tests.helpers.torch_session import TorchSession
from tests.helpers.upstream import assert_forecast_as_upstream


class Answer:
    """A call of `Device` that was begun."""

    def __init__(self, device: Device, number: int, forecast: Floats) -> None:
        self.device, self.number, self.forecast = device, number, forecast

    def wait(self) -> Floats:
        self.device.events.append(f"taken {self.number}")
        return self.forecast


class Device(TorchSession):
    """A session that answers later."""

    events: list[str]

    def start(self, context: Floats, group_ids: Ints, future_covariates: Floats) -> Answer:
        return self._begin(self.run(context, group_ids, future_covariates))

    def start_univariate(self, context: Floats, future_covariates: Floats) -> Answer:
        return self._begin(self.run_univariate(context, future_covariates))

    def _begin(self, forecast: Floats) -> Answer:
        number = sum(event.startswith("begun") for event in self.events)
        self.events.append(f"begun {number}")
        return Answer(self, number, forecast)


def test_a_call_is_begun_before_the_last_forecast_is_taken() -> None:
    upstream = make_model("toy")
    segmented = rewrite(upstream)
    device = Device(segmented, univariate(segmented))
    device.events = []
    config = upstream.chronos_config
    batched = BatchedSession(
        device,
        Limits(tokens=1),
        patch=config.output_patch_size,
        context_length=config.context_length,
        quantiles=len(config.quantiles),
    )
    context = np.random.default_rng(0).standard_normal((6, 40), dtype=np.float32)
    ids = np.array([0, 0, 1, 1, 2, 3])  # two calls of groups, two of univariate rows
    forecast = batched.forecast(context, ids, 1, None)
    assert_forecast_as_upstream(forecast, upstream, context, ids)
    one_behind = [event for call in range(1, 4) for event in (f"begun {call}", f"taken {call - 1}")]
    assert device.events == ["begun 0", *one_behind, "taken 3"]
