"""What this machine has: GPUs, TensorRT, the compiled kernel and plugin."""
