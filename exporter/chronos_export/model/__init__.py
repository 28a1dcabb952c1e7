"""Upstream's weights as the segmented model in PyTorch."""

from chronos_export.machine.packages import require_upstream

require_upstream("Chronos-2 in PyTorch", "pipeline")
