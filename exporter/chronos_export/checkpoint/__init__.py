"""A hub id, a folder or "demo" to upstream's pipeline; weights are checked, adapters merged."""
