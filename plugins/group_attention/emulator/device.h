// What platform.cuh asks of a device, on the host. Included by it under g++, so that the kernel source compiles as is.
#pragma once

#include <cmath>

#include "shared_memory.h"

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)

using std::isnan;
using std::max;
using std::min;

using uint4 = emulator::Chunk;
struct alignas(16) float4 {
  float x, y, z, w;
};

struct ThreadIndex {
  struct {
    operator unsigned() const { return static_cast<unsigned>(emulator::block.current); }
  } x;
};
static const ThreadIndex threadIdx;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x, unsigned y, unsigned z) : x(x), y(y), z(z) {}
};
inline dim3 blockIdx(0, 0, 0);

inline void __syncthreads() { emulator::wait_for_block(); }

// Every lane gives `mine` and receives what `combine` makes of all 32.
template <class T, class Combine>
T exchange(T mine, Combine combine) {
  static_assert(sizeof(T) == 4, "one word a lane");
  emulator::Warp& warp = emulator::this_warp();
  auto& words = warp.words[warp.generation % 2];
  std::memcpy(&words[emulator::this_lane()][0], &mine, 4);
  emulator::wait_for_warp();
  T all[emulator::kLanes];
  for (int lane = 0; lane < emulator::kLanes; lane++) std::memcpy(&all[lane], &words[lane][0], 4);
  return combine(all);
}

template <class T>
T __shfl_sync(unsigned, T mine, int source, int width = emulator::kLanes) {
  const int first = emulator::this_lane() / width * width;
  return exchange(mine, [=](const T* all) { return all[first + source % width]; });
}
template <class T>
T __shfl_xor_sync(unsigned, T mine, int mask) {
  return exchange(mine, [lane = emulator::this_lane(), mask](const T* all) { return all[lane ^ mask]; });
}
inline uint32_t __ballot_sync(unsigned, bool mine) {
  return exchange(static_cast<uint32_t>(mine), [](const uint32_t* all) {
    uint32_t bits = 0;
    for (int lane = 0; lane < emulator::kLanes; lane++) bits |= all[lane] << lane;
    return bits;
  });
}
inline bool __any_sync(unsigned mask, bool mine) { return __ballot_sync(mask, mine) != 0; }
inline int __reduce_min_sync(unsigned, int mine) {
  return exchange(mine, [](const int* all) { return *std::min_element(all, all + emulator::kLanes); });
}
inline int __reduce_max_sync(unsigned, int mine) {
  return exchange(mine, [](const int* all) { return *std::max_element(all, all + emulator::kLanes); });
}

inline float __uint_as_float(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

namespace chronos {

inline uint4* shared_chunks() { return emulator::shared_memory.chunks.get(); }
inline void copy16_async(uint4* shared, const void* global, bool valid) {
  emulator::shared_memory.start_copy(shared, global, valid);
}
inline void wait_for_copies() { emulator::shared_memory.finish_copies(); }
inline uint4 load_shared16(const uint4* shared) { return emulator::shared_memory.read(shared); }

inline void load_tiles_transposed(uint32_t (&tiles)[4], const uint4* row) {
  emulator::Warp& warp = emulator::this_warp();
  auto& words = warp.words[warp.generation % 2];
  const int lane = emulator::this_lane();
  const uint4 mine = emulator::shared_memory.read(row);
  std::memcpy(words[lane], &mine, 16);
  emulator::wait_for_warp();
  for (int tile = 0; tile < 4; tile++) {
    uint16_t pair[2];
    for (int e = 0; e < 2; e++)
      pair[e] = reinterpret_cast<const uint16_t*>(words[8 * tile + 2 * (lane % 4) + e])[lane / 4];
    std::memcpy(&tiles[tile], pair, 4);
  }
}

inline void store_shared_word(uint4* shared, uint32_t word) { emulator::shared_memory.write(shared, word); }

inline float reciprocal(float x) { return 1.0f / x; }
inline float exponential(float x) { return std::exp(x); }

struct Float32 {
  using Storage = float;
  static float load(float x) { return x; }
  static float store(float x) { return x; }
};

// mma.sync with 8 words of k: of A, a lane holds rows l / 4 and l / 4 + 8 and words l % 4 and l % 4 + 4; of B, those
// words of column l / 4; of C, the same rows as of A and columns 2 (l % 4) + {0, 1}. A word is two 16-bit numbers
// (m16n8k16) or one of tf32 (m16n8k8).
template <class Element>
void multiply_fragments(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  emulator::Warp& warp = emulator::this_warp();
  auto& words = warp.words[warp.generation % 2];
  const int lane = emulator::this_lane();
  for (int i = 0; i < 4; i++) words[lane][i] = a[i];
  words[lane][4] = b0;
  words[lane][5] = b1;
  emulator::wait_for_warp();
  for (int i = 0; i < 4; i++) {
    const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
    for (int k = 0; k < 8; k++) {
      const uint32_t left = words[row % 8 * 4 + k % 4][row / 8 + 2 * (k / 4)];
      const uint32_t right = words[column * 4 + k % 4][4 + k / 4];
      Element::add_product(c[i], left, right);
    }
  }
}

// The tensor cores do not look at the last 13 bits of a word.
struct Tf32 : Float32 {
  static uint32_t round(float x) {  // to nearest, ties away from 0
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return std::isfinite(x) ? (bits + 0x1000) & ~0x1fffu : bits;
  }
  static uint4 operands(const uint4& x) {
    return {round(__uint_as_float(x.x)), round(__uint_as_float(x.y)), round(__uint_as_float(x.z)),
            round(__uint_as_float(x.w))};
  }
  static void add_product(float& sum, uint32_t left, uint32_t right) {
    sum += __uint_as_float(left & ~0x1fffu) * __uint_as_float(right & ~0x1fffu);
  }
  static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_fragments<Tf32>(c, a, b0, b1);
  }
};

template <class Element>
struct Float16Bits {
  using Storage = uint16_t;

  static uint32_t pack(float low, float high) {
    return Element::store(low) | static_cast<uint32_t>(Element::store(high)) << 16;
  }
  static uint4 operands(const uint4& x) { return x; }
  static void add_product(float& sum, uint32_t left, uint32_t right) {
    for (int shift : {0, 16})
      sum += Element::load(static_cast<uint16_t>(left >> shift)) * Element::load(static_cast<uint16_t>(right >> shift));
  }
  static void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    multiply_fragments<Element>(c, a, b0, b1);
  }
};

struct Float16 : Float16Bits<Float16> {
  static float load(uint16_t bits) {
    _Float16 x;
    std::memcpy(&x, &bits, 2);
    return static_cast<float>(x);
  }
  static uint16_t store(float x) {
    const _Float16 rounded = static_cast<_Float16>(x);
    uint16_t bits;
    std::memcpy(&bits, &rounded, 2);
    return bits;
  }
};

struct BFloat16 : Float16Bits<BFloat16> {
  static float load(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
  static uint16_t store(float x) {  // to nearest, ties to even
    if (std::isnan(x)) return 0x7fff;
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
};

inline int slow_paths = 0;
inline void note_slow_path() { slow_paths++; }

inline const char* runtime_message(int) { return "unknown error"; }

using Kernel = void (*)(ChronosGroupAttentionParams);

inline int launch(Kernel kernel, dim3 grid, unsigned threads, int shared_bytes, CUstream_st*,
                  ChronosGroupAttentionParams params) {
  std::mt19937 random(grid.y);
  for (unsigned index = 0; index < grid.x * grid.y * grid.z; index++) {
    blockIdx = dim3(index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y);
    emulator::shared_memory.reset(shared_bytes, threads);
    emulator::run_block(index, threads, random, [=] { kernel(params); });
  }
  return CHRONOS_OK;
}

}  // namespace chronos
