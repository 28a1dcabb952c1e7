// GroupAttention as TensorRT sees it: one plugin, one creator, no state but the two attributes of the node.
//
// Only interfaces that are the same in TensorRT 10.13, 11.x and TensorRT-RTX are used, and nothing of
// libnvinfer is linked, so one binary serves all of them.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace chronos {

inline constexpr char kName[] = "GroupAttention";
inline constexpr char kVersion[] = "1";
inline constexpr char kNamespace[] = "chronos";
inline constexpr char kNumHeads[] = "num_heads";
inline constexpr char kAllowTf32[] = "allow_tf32";  // A plugin is not told of BuilderFlag::kTF32; 0 if it is not given.

// Positions of the tensors, as TensorRT counts them: inputs first, then the output.
enum Tensor : int32_t { kQuery, kKey, kValue, kSegmentBegin, kSegmentEnd, kKeyMask, kInputs, kOutput = kInputs };

class GroupAttention final : public nvinfer1::IPluginV3,
                             public nvinfer1::IPluginV3OneCore,
                             public nvinfer1::IPluginV3OneBuild,
                             public nvinfer1::IPluginV3OneRuntime {
public:
    GroupAttention(int32_t numHeads, int32_t allowTf32) noexcept;
    GroupAttention(GroupAttention const&) = delete;
    GroupAttention& operator=(GroupAttention const&) = delete;

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    char const* getPluginName() const noexcept override { return kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }

    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t nbOutputs, nvinfer1::DataType const* inputs,
                               int32_t nbInputs) const noexcept override;
    int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t nbInputs, nvinfer1::DimsExprs const* shapeInputs,
                            int32_t nbShapeInputs, nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
                            nvinfer1::IExprBuilder& builder) noexcept override;
    bool supportsFormatCombination(int32_t pos, nvinfer1::DynamicPluginTensorDesc const* tensors, int32_t nbInputs,
                                   int32_t nbOutputs) noexcept override;
    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
                            nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t nbOutputs) noexcept override;

    int32_t onShapeChange(nvinfer1::PluginTensorDesc const* inputs, int32_t nbInputs,
                          nvinfer1::PluginTensorDesc const* outputs, int32_t nbOutputs) noexcept override;
    int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const* outputDesc,
                    void const* const* inputs, void* const* outputs, void* workspace,
                    cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override { return &mFields; }

private:
    int32_t mNumHeads;
    int32_t mAllowTf32;
    nvinfer1::PluginField mFieldList[2];
    nvinfer1::PluginFieldCollection mFields;
};

class GroupAttentionCreator final : public nvinfer1::IPluginCreatorV3One {
public:
    char const* getPluginName() const noexcept override { return kName; }
    char const* getPluginVersion() const noexcept override { return kVersion; }
    char const* getPluginNamespace() const noexcept override { return kNamespace; }

    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override;
    nvinfer1::IPluginV3* createPlugin(char const* name, nvinfer1::PluginFieldCollection const* fields,
                                      nvinfer1::TensorRTPhase phase) noexcept override;
};

// The one creator of this library; lives as long as the library.
GroupAttentionCreator& creator() noexcept;

}  // namespace chronos
