"""chronos-export: Chronos-2 as one ONNX graph and TensorRT engines, proven equal to upstream."""

__version__ = "0.1.0"
