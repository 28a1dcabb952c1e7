"""One call, rows in and forecasts out, on every runtime; a batch cut into calls."""
