"""Load a plugin library into the registry of one TensorRT package and make a plugin with it.

    python registry.py MODULE load|dlopen LIBRARY     prints MODULE, its version and "registered"

Run by the interpreter of whatever environment has that package; needs nothing else.
"""

import ctypes
import importlib
import sys
from array import array

module, how, library = sys.argv[1:]
trt = importlib.import_module(module)
registry = trt.get_plugin_registry()
handle = registry.load_library(library) if how == "load" else ctypes.CDLL(library)
creator = registry.get_creator("GroupAttention", "1", "chronos")
assert creator is not None, "not registered"
if how == "load":  # As for a second engine: it is refused, and what is registered stays.
    assert registry.load_library(library) is None
    assert registry.get_creator("GroupAttention", "1", "chronos") is not None
assert [field.name for field in creator.field_names] == ["num_heads", "allow_tf32"]
heads = trt.PluginField("num_heads", memoryview(array("i", [12])), trt.PluginFieldType.INT32)
leave = trt.PluginField("allow_tf32", memoryview(array("i", [1])), trt.PluginFieldType.INT32)
for phase in (trt.TensorRTPhase.BUILD, trt.TensorRTPhase.RUNTIME):
    assert creator.create_plugin("layer", trt.PluginFieldCollection([heads]), phase) is not None
    assert creator.create_plugin("layer", trt.PluginFieldCollection([heads, leave]), phase) is not None
    assert creator.create_plugin("layer", trt.PluginFieldCollection([]), phase) is None
print(module, trt.__version__, "registered")
