// For tools that only dlopen a plugin library: polygraphy --plugins, ONNX Runtime's TensorRT provider, Triton.
//
// This library needs libnvinfer by name, of the major version it was compiled for. Where that TensorRT is not
// to be had, dlopen fails and says so; without the dependency it would succeed and register nothing.
#include "plugin.h"

static bool const registered = getPluginRegistry()->registerCreator(chronos::creator(), chronos::kNamespace);
