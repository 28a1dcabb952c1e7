// The few device operations the kernels are written in: CUDA's under nvcc, the host emulator's under g++.
#pragma once

#include "group_attention.h"

#ifndef __CUDACC__
#include "emulator/device.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>

namespace chronos {

// Shared memory of the block: 16-byte chunks, as many as the launch asked for.
__device__ __forceinline__ uint4* shared_chunks() {
  extern __shared__ uint4 chunks[];
  return chunks;
}

// Start copying 16 bytes from global to shared memory; zeros are written where `valid` is false.
__device__ __forceinline__ void copy16_async(uint4* shared, const void* global, bool valid) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(bytes));
}

// Wait for every copy this thread has started; other threads see it after the next __syncthreads().
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

__device__ __forceinline__ uint4 load_shared16(const uint4* shared) { return *shared; }

// Four 8x8 tiles of 16-bit numbers, transposed. Lane l gives the address of row l % 8 of tile l / 8 and
// receives, of every tile, rows 2 (l % 4) and 2 (l % 4) + 1 of column l / 4.
__device__ __forceinline__ void load_tiles_transposed(uint32_t (&tiles)[4], const uint4* row) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
               : "r"(address)
               : "memory");
}

struct Float32 {
  using Storage = float;
  static __device__ __forceinline__ float load(float x) { return x; }
  static __device__ __forceinline__ float store(float x) { return x; }
};

// float32 in memory, 10 bits of mantissa in the tensor cores.
struct Tf32 : Float32 {
  static __device__ __forceinline__ uint32_t round(float x) {  // to nearest, ties away from 0
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
  }
  static __device__ __forceinline__ uint4 operands(const uint4& x) {
    return {round(__uint_as_float(x.x)), round(__uint_as_float(x.y)), round(__uint_as_float(x.z)),
            round(__uint_as_float(x.w))};
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

struct Float16 {
  using Storage = uint16_t;
  static __device__ __forceinline__ uint4 operands(const uint4& x) { return x; }
  static __device__ __forceinline__ float load(uint16_t x) { return __half2float(__ushort_as_half(x)); }
  static __device__ __forceinline__ uint16_t store(float x) { return __half_as_ushort(__float2half_rn(x)); }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

struct BFloat16 {
  using Storage = uint16_t;
  static __device__ __forceinline__ uint4 operands(const uint4& x) { return x; }
  static __device__ __forceinline__ float load(uint16_t x) { return __uint_as_float(static_cast<uint32_t>(x) << 16); }
  static __device__ __forceinline__ uint16_t store(float x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const uint32_t&>(pair);
  }
  static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

// One word of a chunk of its own: read it back with load_shared16().
__device__ __forceinline__ void store_shared_word(uint4* shared, uint32_t word) { shared->x = word; }

// e^x, 2 units in the last place; results under 1e-38 are 0.
__device__ __forceinline__ float exponential(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * 1.4426950408889634f));
  return power;
}

// 1 / x to one unit in the last place, for normal x.
__device__ __forceinline__ float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

// The emulator counts these: on finite numbers the slow path must never be taken.
__device__ __forceinline__ void note_slow_path() {}

inline const char* runtime_message(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

using Kernel = void (*)(ChronosGroupAttentionParams);

// Enqueue a kernel, with the largest shared memory partition, so that as many blocks as possible fit.
inline int launch(Kernel kernel, dim3 grid, unsigned threads, int shared_bytes, cudaStream_t stream,
                  ChronosGroupAttentionParams params) {
  const void* entry = reinterpret_cast<const void*>(kernel);
  cudaError_t error = cudaFuncSetAttribute(entry, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error == cudaSuccess)
    error = cudaFuncSetAttribute(entry, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (error != cudaSuccess) return error;
  void* arguments[] = {&params};
  return cudaLaunchKernel(entry, grid, dim3(threads), arguments, shared_bytes, stream);
}

}  // namespace chronos
#endif
