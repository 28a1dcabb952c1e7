"""An artifact behind upstream's `Chronos2Pipeline`."""

from chronos_export.machine.packages import require_upstream

require_upstream("a Chronos2Pipeline", "pipeline")
