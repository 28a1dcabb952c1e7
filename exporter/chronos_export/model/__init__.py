"""Upstream's weights as the segmented model in PyTorch."""
