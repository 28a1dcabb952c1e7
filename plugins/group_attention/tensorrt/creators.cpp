// What IPluginRegistry::loadLibrary asks a plugin library for, and all that this one exports.
#include "../group_attention.h"
#include "plugin.h"

extern "C" CHRONOS_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) noexcept {
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&chronos::creator()};
    count = 1;
    return creators;
}

// The plugin says nothing, so it needs no logger. TensorRT requires the symbol.
extern "C" CHRONOS_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder*) noexcept {}
