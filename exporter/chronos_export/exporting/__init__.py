"""The whole export: from a checkpoint to a published artifact."""
