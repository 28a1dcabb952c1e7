#include "plugin.h"

#include "../group_attention.h"

#include <cstring>
#include <initializer_list>
#include <new>

namespace chronos {
namespace {

using nvinfer1::DataType;
using nvinfer1::DimsExprs;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

// What TensorRT gets back: it tells 0 from the rest.
constexpr int32_t kOk = 0;
constexpr int32_t kRefused = 1;

bool isFloating(DataType type) {
    return type == DataType::kFLOAT || type == DataType::kHALF || type == DataType::kBF16;
}

bool isHeadDim(int64_t dim) {
    return dim > 0 && dim <= 128 && dim % 8 == 0;
}

int32_t kernelDtype(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return CHRONOS_FLOAT32;
        case DataType::kHALF: return CHRONOS_FLOAT16;
        case DataType::kBF16: return CHRONOS_BFLOAT16;
        default: return -1;  // The kernel refuses it by name.
    }
}

// Extents agree; -1 stands for one that is not known yet.
bool agree(int64_t a, int64_t b) {
    return a == b || a == -1 || b == -1;
}

bool sameShape(nvinfer1::Dims const& a, nvinfer1::Dims const& b) {
    bool same = a.nbDims == b.nbDims;
    for (int32_t i = 0; same && i < a.nbDims; ++i) {
        same = agree(a.d[i], b.d[i]);
    }
    return same;
}

// [rows, tokens, heads * dim] x3, [rows] x2, [rows, tokens] -> [rows, tokens, heads * dim]
bool shapesFit(nvinfer1::Dims const* const (&dims)[kInputs + 1], int32_t numHeads) {
    nvinfer1::Dims const& query = *dims[kQuery];
    if (query.nbDims != 3) {
        return false;
    }
    for (Tensor tensor : {kKey, kValue, kOutput}) {
        if (!sameShape(*dims[tensor], query)) {
            return false;
        }
    }
    for (Tensor tensor : {kSegmentBegin, kSegmentEnd}) {
        if (dims[tensor]->nbDims != 1 || !agree(dims[tensor]->d[0], query.d[0])) {
            return false;
        }
    }
    nvinfer1::Dims const& mask = *dims[kKeyMask];
    if (mask.nbDims != 2 || !agree(mask.d[0], query.d[0]) || !agree(mask.d[1], query.d[1])) {
        return false;
    }
    int64_t const width = query.d[2];
    return width == -1 || (width % numHeads == 0 && isHeadDim(width / numHeads));
}

nvinfer1::Dims const& dimsOf(PluginTensorDesc const& tensor) {
    return tensor.dims;
}

nvinfer1::Dims const& dimsOf(DynamicPluginTensorDesc const& tensor) {
    return tensor.desc.dims;
}

template <class Desc>
int32_t checkShapes(Desc const* inputs, int32_t nbInputs, Desc const* outputs, int32_t nbOutputs, int32_t numHeads) {
    if (nbInputs != kInputs || nbOutputs != 1) {
        return kRefused;
    }
    nvinfer1::Dims const* dims[kInputs + 1] = {};
    for (int32_t i = 0; i < kInputs; ++i) {
        dims[i] = &dimsOf(inputs[i]);
    }
    dims[kOutput] = &dimsOf(outputs[0]);
    return shapesFit(dims, numHeads) ? kOk : kRefused;
}

// The one int32 of a field, `missing` if there is no such field, or -1 if it holds anything else.
int32_t readField(PluginFieldCollection const* fields, char const* name, int32_t missing) {
    for (int32_t i = 0; fields != nullptr && i < fields->nbFields; ++i) {
        PluginField const& field = fields->fields[i];
        if (field.name == nullptr || std::strcmp(field.name, name) != 0) {
            continue;
        }
        if (field.data == nullptr || field.type != PluginFieldType::kINT32 || field.length != 1) {
            return -1;
        }
        int32_t value = 0;
        std::memcpy(&value, field.data, sizeof value);
        return value;
    }
    return missing;
}

}  // namespace

GroupAttention::GroupAttention(int32_t numHeads, int32_t allowTf32) noexcept
    : mNumHeads(numHeads),
      mAllowTf32(allowTf32),
      mFieldList{PluginField(kNumHeads, &mNumHeads, PluginFieldType::kINT32, 1),
                 PluginField(kAllowTf32, &mAllowTf32, PluginFieldType::kINT32, 1)},
      mFields{2, mFieldList} {}

nvinfer1::IPluginCapability* GroupAttention::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* GroupAttention::clone() noexcept {
    return new (std::nothrow) GroupAttention(mNumHeads, mAllowTf32);
}

nvinfer1::IPluginV3* GroupAttention::attachToContext(nvinfer1::IPluginResourceContext*) noexcept {
    return clone();
}

int32_t GroupAttention::getOutputDataTypes(DataType* outputs, int32_t nbOutputs, DataType const* inputs,
                                           int32_t nbInputs) const noexcept {
    if (nbInputs != kInputs || nbOutputs != 1) {
        return kRefused;
    }
    outputs[0] = inputs[kQuery];
    return kOk;
}

int32_t GroupAttention::getOutputShapes(DimsExprs const* inputs, int32_t nbInputs, DimsExprs const*, int32_t,
                                        DimsExprs* outputs, int32_t nbOutputs, nvinfer1::IExprBuilder&) noexcept {
    if (nbInputs != kInputs || nbOutputs != 1 || inputs[kQuery].nbDims != 3) {
        return kRefused;
    }
    outputs[0] = inputs[kQuery];
    return kOk;
}

bool GroupAttention::supportsFormatCombination(int32_t pos, DynamicPluginTensorDesc const* tensors, int32_t nbInputs,
                                               int32_t nbOutputs) noexcept {
    if (nbInputs != kInputs || nbOutputs != 1 || pos < 0 || pos > kOutput) {
        return false;
    }
    PluginTensorDesc const& tensor = tensors[pos].desc;
    if (tensor.format != nvinfer1::TensorFormat::kLINEAR) {
        return false;
    }
    switch (pos) {
        case kQuery: return isFloating(tensor.type);
        case kSegmentBegin:
        case kSegmentEnd: return tensor.type == DataType::kINT32;
        case kKeyMask: return tensor.type == DataType::kBOOL;
        default: return tensor.type == tensors[kQuery].desc.type;
    }
}

int32_t GroupAttention::configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
                                        DynamicPluginTensorDesc const* outputs, int32_t nbOutputs) noexcept {
    return checkShapes(inputs, nbInputs, outputs, nbOutputs, mNumHeads);
}

int32_t GroupAttention::onShapeChange(PluginTensorDesc const* inputs, int32_t nbInputs,
                                      PluginTensorDesc const* outputs, int32_t nbOutputs) noexcept {
    return checkShapes(inputs, nbInputs, outputs, nbOutputs, mNumHeads);
}

int32_t GroupAttention::enqueue(PluginTensorDesc const* inputDesc, PluginTensorDesc const*, void const* const* inputs,
                                void* const* outputs, void*, cudaStream_t stream) noexcept {
    nvinfer1::Dims const& query = inputDesc[kQuery].dims;
    int64_t const tokens = query.d[1];
    int64_t const width = query.d[2];
    ChronosStrides const packed{tokens * width, width, width / mNumHeads};

    ChronosGroupAttentionParams params{};
    params.query = inputs[kQuery];
    params.key = inputs[kKey];
    params.value = inputs[kValue];
    params.output = outputs[0];
    params.segment_begin = static_cast<int32_t const*>(inputs[kSegmentBegin]);
    params.segment_end = static_cast<int32_t const*>(inputs[kSegmentEnd]);
    params.key_mask = static_cast<uint8_t const*>(inputs[kKeyMask]);
    params.key_mask_row_stride = tokens;
    params.key_mask_token_stride = 1;
    params.query_stride = params.key_stride = params.value_stride = params.output_stride = packed;
    params.rows = static_cast<int32_t>(query.d[0]);
    params.tokens = static_cast<int32_t>(tokens);
    params.heads = mNumHeads;
    params.head_dim = static_cast<int32_t>(width / mNumHeads);
    params.dtype = kernelDtype(inputDesc[kQuery].type);
    params.allow_tf32 = mAllowTf32;
    return chronos_group_attention(&params, stream);
}

PluginFieldCollection const* GroupAttentionCreator::getFieldNames() noexcept {
    static PluginField const names[] = {PluginField(kNumHeads, nullptr, PluginFieldType::kINT32, 1),
                                        PluginField(kAllowTf32, nullptr, PluginFieldType::kINT32, 1)};
    static PluginFieldCollection const collection{2, names};
    return &collection;
}

nvinfer1::IPluginV3* GroupAttentionCreator::createPlugin(char const*, PluginFieldCollection const* fields,
                                                         nvinfer1::TensorRTPhase) noexcept {
    int32_t const numHeads = readField(fields, kNumHeads, -1);
    int32_t const allowTf32 = readField(fields, kAllowTf32, 0);
    bool const valid = numHeads > 0 && (allowTf32 == 0 || allowTf32 == 1);
    return valid ? new (std::nothrow) GroupAttention(numHeads, allowTf32) : nullptr;
}

GroupAttentionCreator& creator() noexcept {
    static GroupAttentionCreator instance;
    return instance;
}

}  // namespace chronos
