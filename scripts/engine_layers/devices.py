"""What GPUs can do at most, as their makers publish it: dense rates, no sparsity, sums in float32."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        name: As it is sold.
        bandwidth: Of its memory, bytes a second.
        float32: Multiplications and additions a second outside of the tensor cores.
        tf32: The same in the tensor cores.
        half: The same for float16 and bfloat16.
        source: Where the numbers stand.
    """

    name: str
    bandwidth: float
    float32: float
    tf32: float
    half: float
    source: str

    def rate(self, dtype: str) -> float:
        """Operations a second of products in a `--dtype`."""
        return {"float32": self.float32, "tf32": self.tf32}.get(dtype, self.half)


DEVICES = (
    Device("H200", 4.8e12, 67e12, 494.7e12, 989.4e12, "NVIDIA H200 datasheet, SXM; Hopper whitepaper"),
    Device("H100", 3.35e12, 67e12, 494.7e12, 989.4e12, "NVIDIA H100 datasheet, SXM; Hopper whitepaper"),
    Device("A100", 2.039e12, 19.5e12, 156e12, 312e12, "NVIDIA A100 datasheet, SXM 80 GB"),
    Device(
        "L4",
        0.3e12,
        30.3e12,
        60e12,
        121e12,
        "NVIDIA L4 datasheet, its rates with sparsity halved",
    ),
    Device("RTX 4090", 1.008e12, 82.6e12, 82.6e12, 165.2e12, "NVIDIA Ada whitepaper, appendix A"),
)
