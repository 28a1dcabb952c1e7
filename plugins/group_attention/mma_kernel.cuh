// float16, bfloat16 and tf32, head_dim 64, on the tensor cores (mma.sync m16n8k16, m16n8k8; float32 sums).
//
// A warp holds 16 rows and walks over the keys of their segments, 32 at a time. In a fragment, lane l holds rows
// l / 4 and l / 4 + 8, so a row is spread over the four lanes of a quad; `part` = l % 4.
#pragma once

#include "mma_values.cuh"
#include "row_kernel.cuh"

namespace chronos {

constexpr int kMmaKeysPerStep = 32;

// float32 tiles hold half as many keys, so that they take no more of the shared memory.
template <class Element>
constexpr int kMmaKeysPerTile = 1024 / kChunks<Element>;

// 16 bit: as many as fit into a multiprocessor's shared memory. tf32, whose queries take twice the registers: as many
// as fit into those.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kMma16BitBlocks = 4;
#else
constexpr int kMma16BitBlocks = 5;
#endif
template <class Element>
constexpr int kMmaBlocks = sizeof(typename Element::Storage) == 2 ? kMma16BitBlocks : 3;

template <class Element>
constexpr int kMmaSharedBytes = 16 * (2 * kMmaKeysPerTile<Element> * kPitch<Element> + kWarps);  // keys, values, alive

// Which dimension sits where in the sum over 64 does not matter, so long as queries and keys agree: a lane takes a
// chunk, numbers that are neighbours in memory, as the four registers that two operands want.
template <class Element>
__device__ __forceinline__ void load_queries(MmaRows<Element>& rows, const Params& p, const Place& place, int first,
                                             int lane) {
  using Storage = typename Element::Storage;
#pragma unroll
  for (int r = 0; r < 2; r++) {
#pragma unroll
    for (int i = 0; i < kChunks<Element> / 4; i++) {
      uint4 numbers{0, 0, 0, 0};
      if (!rows.window[r].is_empty()) {
        const Storage* query = at<Storage>(p.query, p.query_stride, first + lane / 4 + 8 * r, place.token, place.head);
        numbers = Element::operands(reinterpret_cast<const uint4*>(query)[4 * i + lane % 4]);
      }
      rows.query[2 * i][r] = numbers.x;
      rows.query[2 * i][r + 2] = numbers.y;
      rows.query[2 * i + 1][r] = numbers.z;
      rows.query[2 * i + 1][r + 2] = numbers.w;
    }
  }
}

// score[n][2 r + e]: row r and key 8 n + key_of_column(2 part + e) of the step.
template <class Element>
__device__ __forceinline__ void score_keys(float (&score)[4][4], const MmaRows<Element>& rows, const uint4* keys,
                                           int lane) {
  const uint4* mine = keys + key_of_column(lane / 4) * kPitch<Element> + lane % 4;
#pragma unroll
  for (int n = 0; n < 4; n++) {
#pragma unroll
    for (int i = 0; i < kChunks<Element> / 4; i++) {
      const uint4 numbers = Element::operands(load_shared16(mine + 8 * n * kPitch<Element> + 4 * i));
      Element::mma(score[n], rows.query[2 * i], numbers.x, numbers.y);
      Element::mma(score[n], rows.query[2 * i + 1], numbers.z, numbers.w);
    }
  }
}

// Scores become weights; what was summed before is scaled to the new largest score. Bit i of allowed[r]: key i.
template <class Element>
__device__ __forceinline__ void weigh_keys(float (&score)[4][4], MmaRows<Element>& rows, const uint32_t (&allowed)[2],
                                           int lane) {
  float factor[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    const uint32_t mine = allowed[r] >> (lane % 4);
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float& s = score[i / 2][2 * r + i % 2];
      if (!(mine & 1u << (8 * (i / 2) + 4 * (i % 2)))) s = -INFINITY;
      largest = fmaxf(largest, s);
    }
    factor[r] = rows.softmax[r].raise(max_of_lanes<4>(largest));
    const float reference = rows.softmax[r].reference();
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float& s = score[i / 2][2 * r + i % 2];
      s = rows.softmax[r].weigh(s, reference);
    }
  }
  if (__any_sync(kAllLanes, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
    for (int n = 0; n < 8; n++)
#pragma unroll
      for (int e = 0; e < 4; e++) rows.sum[n][e] *= factor[e / 2];
  }
}

// Divide by the sums of the weights. Returns whether a row that attends came out as NaN.
template <class Element>
__device__ __forceinline__ bool normalize(float (&scale)[2], const MmaRows<Element>& rows) {
  bool broken = false;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    scale[r] = reciprocal(sum_of_lanes<4>(rows.softmax[r].sum));
    float total = 0.0f;
#pragma unroll
    for (int n = 0; n < 8; n++) total += rows.sum[n][2 * r] + rows.sum[n][2 * r + 1];
    broken |= !rows.window[r].is_empty() && isnan(total * scale[r]);
  }
  return __any_sync(kAllLanes, broken);
}

// One tile for one warp: only the steps with a key that one of its rows may attend to.
template <class Element>
__device__ __forceinline__ void attend_tile(MmaRows<Element>& rows, const uint4* keys, const uint4* values,
                                            const uint4* alive, int tile, int lane) {
#pragma unroll 1
  for (int step = 0; step < kMmaKeysPerTile<Element>; step += kMmaKeysPerStep) {
    const uint32_t keys_alive = load_shared16(&alive[step / kMmaKeysPerStep]).x;
    const uint32_t allowed[2] = {keys_alive & keys_in_window(rows.window[0], tile + step),
                                 keys_alive & keys_in_window(rows.window[1], tile + step)};
    if (!__any_sync(kAllLanes, allowed[0] | allowed[1])) continue;
    float score[4][4] = {};
    score_keys(score, rows, keys + step * kPitch<Element>, lane);
    weigh_keys(score, rows, allowed, lane);
    add_values(rows, score, values + step * kPitch<Element>, lane);
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads, kMmaBlocks<Element>) mma_kernel(const Params p) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const Place place = place_of_block();
  const int first = place.first_row + warp * kRowsPerWarp;
  const BlockRows block = read_rows_of_block(p, place, warp, lane);
  const Window window = block.window;
  if (window.is_empty()) return finish_simple_rows<Element>(p, place, first, block.row, lane);

  uint4* keys = shared_chunks();
  constexpr int kKeys = kMmaKeysPerTile<Element>;
  uint4* values = keys + kKeys * kPitch<Element>;
  uint4* alive = values + kKeys * kPitch<Element>;
  const auto start_tile = [&](int tile) {
    copy_tile_async<Element, kKeys>(keys, p.key, p.key_stride, place, tile, window.end, thread);
    copy_tile_async<Element, kKeys>(values, p.value, p.value_stride, place, tile, window.end, thread);
    static_assert(kKeys <= kThreads, "a thread looks at one key, of which a short tile needs fewer");
    const uint32_t keys_alive = alive_keys(p, tile + 32 * warp, window.end, place.token, lane);
    if (lane == 0) store_shared_word(&alive[warp], keys_alive);
  };
  start_tile(window.begin);
  finish_simple_rows<Element>(p, place, first, block.row, lane);
  MmaRows<Element> rows = {};
  rows.window[0] = window_of_row(row_of_lane(block.row, lane / 4));
  rows.window[1] = window_of_row(row_of_lane(block.row, lane / 4 + 8));
  load_queries(rows, p, place, first, lane);

#pragma unroll 1
  for (int tile = window.begin;;) {
    wait_for_copies();
    __syncthreads();
    attend_tile<Element>(rows, keys, values, alive, tile, lane);
    tile += kKeys;
    if (tile >= window.end) break;
    __syncthreads();  // everyone is done with this tile
    start_tile(tile);
  }

  float scale[2];
  const bool broken = normalize(scale, rows);
  if (broken) return answer_rows_again<Element>(p, place, first, lane);
  store_sums(p, place, first, rows, scale, lane);
}

}  // namespace chronos
