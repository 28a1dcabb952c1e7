"""What is timed: random weights, upstream's model of them, and their exported graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chronos.chronos2 import Chronos2Model
from chronos.chronos2.config import Chronos2CoreConfig

from chronos_export.bench.comparison import write_graphs
from chronos_export.bench.weights import full_config, random_model
from chronos_export.checkpoint.quiet import quiet

TINY = {"d_model": 64, "d_kv": 16, "d_ff": 64, "num_heads": 4}


@dataclass(frozen=True)
class Subject:
    """One set of weights.

    Attributes:
        model: Upstream's model, float32, in eval mode, on the CPU.
        work: A folder for graphs and engines.
    """

    model: Chronos2Model
    work: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The checkpoint's `chronos_config`."""
        settings: dict[str, Any] = self.model.config.chronos_config
        return settings

    @property
    def checkpoint(self) -> Path:
        """A folder that upstream loads, written when it is first asked for."""
        folder = self.work / "checkpoint"
        if not folder.exists():
            with quiet():
                self.model.save_pretrained(folder)
        return folder

    def graphs_in(self, dtype: str) -> Path:
        """The folder of the graphs in one of `precision.PRECISIONS`, written when it is first asked for."""
        return write_graphs(self.model, self.work / dtype, dtype)


def subject(layers: int, work: Path, tiny: bool = False) -> Subject:
    """Random weights in the sizes of amazon/chronos-2, but for the number of layers; or tiny ones."""
    return of_config(full_config(num_layers=layers, **(TINY if tiny else {})), work)


def of_config(config: Chronos2CoreConfig, work: Path) -> Subject:
    """Random weights of any sizes."""
    return Subject(random_model(config), work)


def name_of(layers: int, tiny: bool) -> str:
    """How a report calls a subject."""
    width = TINY["d_model"] if tiny else full_config().d_model
    return f"random weights, layers: {layers}, width: {width}"
