"""The segmented model as ONNX graphs."""
