"""The whole export: from a checkpoint to a published artifact."""

from chronos_export.machine.packages import require_upstream

require_upstream("an export", "export")
