"""A hub id, a folder or "demo" to upstream's pipeline; weights are checked, adapters merged."""

from chronos_export.machine.packages import require_upstream

require_upstream("an export", "export")
