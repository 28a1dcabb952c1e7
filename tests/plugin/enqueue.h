// The plugin's enqueue against float64: on the host, on a GPU, or refused where there is none.
#pragma once

#include <cuda_runtime_api.h>

#include <cmath>

#include "calls.h"

template <class T>
constexpr DataType kTypeOf = DataType::kFLOAT;
template <>
constexpr DataType kTypeOf<__half> = DataType::kHALF;
template <>
constexpr DataType kTypeOf<__nv_bfloat16> = DataType::kBF16;

template <class T>
double worstError(Problem<T> const& p) {
    double worst = 0;
    for (size_t i = 0; i < p.wanted.size(); ++i) {
        double const error = std::fabs(static_cast<float>(p.output[i]) - p.wanted[i]);
        worst = error <= worst ? worst : error;  // A NaN stays.
    }
    return worst;
}

template <class T>
int32_t enqueue(Plugin const& plugin, std::vector<void*> const& tensors, cudaStream_t stream) {
    Tensors const described(wellFormed(kTypeOf<T>));
    return plugin.runtime->enqueue(described.fixed.data(), described.fixed.data() + kOutput, tensors.data(),
                                   tensors.data() + kOutput, nullptr, stream);
}

// What the kernel refuses is refused to TensorRT as well.
inline void checkRefusedEnqueue(Plugin const& plugin) {
    Tensors const described(wellFormed(DataType::kINT8));
    void* const nothing[kOutput + 1] = {};
    EXPECT(plugin.runtime->enqueue(described.fixed.data(), described.fixed.data() + kOutput, nothing,
                                   nothing + kOutput, nullptr, nullptr) != 0);
}

template <class T>
std::vector<void*> addressesOf(Problem<T>& p) {
    return {p.query.data(), p.key.data(), p.value.data(), p.begin.data(), p.end.data(), p.mask.data(), p.output.data()};
}

template <class T>
void* toDevice(std::vector<T> const& values) {
    void* device = nullptr;
    EXPECT(cudaMalloc(&device, values.size() * sizeof(T)) == cudaSuccess);
    EXPECT(cudaMemcpy(device, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    return device;
}

// Returns whether it ran, on the GPU; without one it must be refused.
template <class T>
bool enqueueOnDevice(Plugin const& plugin, Problem<T>& p) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        EXPECT(enqueue<T>(plugin, addressesOf(p), nullptr) != 0);
        std::printf("no GPU: enqueue refused\n");
        return false;
    }
    std::vector<void*> const tensors{toDevice(p.query), toDevice(p.key),  toDevice(p.value), toDevice(p.begin),
                                     toDevice(p.end),   toDevice(p.mask), toDevice(p.output)};
    cudaStream_t stream = nullptr;
    EXPECT(cudaStreamCreate(&stream) == cudaSuccess);
    EXPECT(enqueue<T>(plugin, tensors, stream) == 0);
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
    EXPECT(cudaMemcpy(p.output.data(), tensors[kOutput], p.output.size() * sizeof(T), cudaMemcpyDeviceToHost) ==
           cudaSuccess);
    std::printf("GPU: enqueue ran\n");
    return true;
}

template <class T>
bool enqueueAnywhere(Plugin const& plugin, Problem<T>& p, bool onHost) {
    if (!onHost) {
        return enqueueOnDevice(plugin, p);
    }
    EXPECT(enqueue<T>(plugin, addressesOf(p), nullptr) == 0);
    return true;
}

template <class T>
void checkEnqueue(Plugin const& plugin, bool onHost) {
    Problem<T> p = makeProblem<T>();
    if (enqueueAnywhere(plugin, p, onHost)) {
        EXPECT(worstError(p) <= p.bound);
    }
}

// float32 with leave for tf32 takes the leave.
inline void checkTf32Enqueue(Plugin const& plugin, bool onHost) {
    Problem<float> p = makeProblem<float>();
    if (enqueueAnywhere(plugin, p, onHost)) {
        EXPECT(worstError(p) <= p.tf32Bound);
        EXPECT(worstError(p) > p.bound);
    }
}
