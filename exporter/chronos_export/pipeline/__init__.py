"""An artifact behind upstream's `Chronos2Pipeline`."""
