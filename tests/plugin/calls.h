// What TensorRT hands to a plugin and keeps of it: tensors' descriptions, the parts of a plugin, its making.
#pragma once

#include <NvInferRuntime.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "problem.h"

using nvinfer1::DataType;
using nvinfer1::PluginCapabilityType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::TensorFormat;
using nvinfer1::TensorRTPhase;

inline int failures = 0;

#define EXPECT(condition)                                                                     \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            ++failures;                                                                       \
            std::printf("%s:%d does not hold: %s\n", __FILE__, __LINE__, #condition);         \
        }                                                                                     \
    } while (false)

// The bases have no public way to be made; TensorRT makes its own.
struct Extent final : nvinfer1::IDimensionExpr {};
struct Builder final : nvinfer1::IExprBuilder {};

struct Description {
    std::vector<int64_t> dims;
    DataType type;
};

constexpr int32_t kOutput = 6;  // after six inputs
inline std::vector<Description> wellFormed(DataType type = DataType::kFLOAT) {
    return {{{kRows, kTokens, kWidth}, type},  {{kRows, kTokens, kWidth}, type},
            {{kRows, kTokens, kWidth}, type},  {{kRows}, DataType::kINT32},
            {{kRows}, DataType::kINT32},       {{kRows, kTokens}, DataType::kBOOL},
            {{kRows, kTokens, kWidth}, type}};
}

inline nvinfer1::PluginTensorDesc describe(Description const& from) {
    nvinfer1::PluginTensorDesc to{};
    to.dims.nbDims = static_cast<int32_t>(from.dims.size());
    for (size_t i = 0; i < from.dims.size(); ++i) {
        to.dims.d[i] = from.dims[i];
    }
    to.type = from.type;
    to.format = TensorFormat::kLINEAR;
    return to;
}

struct Tensors {
    std::vector<nvinfer1::PluginTensorDesc> fixed;
    std::vector<nvinfer1::DynamicPluginTensorDesc> ranged;

    explicit Tensors(std::vector<Description> const& from) {
        for (Description const& one : from) {
            fixed.push_back(describe(one));
            ranged.push_back({fixed.back(), fixed.back().dims, fixed.back().dims, fixed.back().dims});
        }
    }
};

// What one plugin object offers.
struct Plugin {
    std::unique_ptr<nvinfer1::IPluginV3> owner;
    nvinfer1::IPluginV3OneCore* core;
    nvinfer1::IPluginV3OneBuild* build;
    nvinfer1::IPluginV3OneRuntime* runtime;

    explicit Plugin(nvinfer1::IPluginV3* plugin)
        : owner(plugin),
          core(static_cast<nvinfer1::IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE))),
          build(static_cast<nvinfer1::IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD))),
          runtime(static_cast<nvinfer1::IPluginV3OneRuntime*>(
              plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME))) {}
};

inline nvinfer1::IPluginV3* create(nvinfer1::IPluginCreatorV3One& creator, std::vector<PluginField> const& fields) {
    PluginFieldCollection const collection{static_cast<int32_t>(fields.size()), fields.data()};
    return creator.createPlugin("layer", &collection, TensorRTPhase::kBUILD);
}

inline nvinfer1::IPluginV3* create(nvinfer1::IPluginCreatorV3One& creator, int32_t heads) {
    return create(creator, {PluginField("num_heads", &heads, PluginFieldType::kINT32, 1)});
}

inline nvinfer1::IPluginV3* createForTf32(nvinfer1::IPluginCreatorV3One& creator, int32_t heads) {
    int32_t const allowed = 1;
    return create(creator, {PluginField("num_heads", &heads, PluginFieldType::kINT32, 1),
                            PluginField("allow_tf32", &allowed, PluginFieldType::kINT32, 1)});
}
