"""ONNX graphs as TensorRT plans."""
