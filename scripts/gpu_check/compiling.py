"""What is compiled for this card: the kernel, and the TensorRT plugin where TensorRT's headers are."""

from __future__ import annotations

from collections.abc import Iterator

from .setting import Record, Setting

EMULATED = "libchronos_group_attention_emulated.so"


def build_kernel(setting: Setting) -> Iterator[Record]:
    """One record a kernel: whether it keeps to its budget of registers."""
    import build
    from chronos_export.machine.compiled import KERNEL_NAME

    for r in build.build_library(setting.folder / KERNEL_NAME, (setting.architecture,)):
        yield {"check": r.kernel, "good": r.within_budget, "detail": f"{r.registers} registers"}
    if setting.device == "cpu":
        build.build_emulated_library(setting.folder / EMULATED)
        yield {"check": "emulated library compiles", "good": True}


def use_kernel() -> None:
    """Have the operator run the compiled kernel on the GPU.

    Raises:
        RuntimeError: It was not compiled. PyTorch's own operators would be checked and timed in its place.
    """
    from chronos_export.model.cuda_kernel import register_built

    if register_built() is None:
        raise RuntimeError("the kernel was not compiled, see the section build")


def compile_plugin(setting: Setting) -> Iterator[Record]:
    """The plugin that engines need to run; TENSORRT_INCLUDE_DIR says where the headers are."""
    from chronos_export.engine.plugin_build import build_plugin, find_headers
    from chronos_export.errors import MachineError

    name = "the plugin compiles"
    if find_headers(None) is None:
        yield {"check": name, "good": None, "detail": "TENSORRT_INCLUDE_DIR was not given"}
        return
    try:
        build_plugin(None, setting.folder, architectures=[str(setting.architecture)])
    except MachineError as error:
        yield {"check": name, "good": None, "detail": error.summary}
        return
    yield {"check": name, "good": True}
