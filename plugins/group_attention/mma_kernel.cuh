// float16 and bfloat16, head_dim 64, on the tensor cores (mma.sync m16n8k16, float32 sums).
//
// A warp holds 16 rows and walks over the keys of their segments, 32 at a time. In a fragment, lane l holds rows
// l / 4 and l / 4 + 8, so a row is spread over the four lanes of a quad; `part` = l % 4.
#pragma once

#include "copy.cuh"
#include "row_kernel.cuh"

namespace chronos {

constexpr int kMmaKeysPerTile = 128;
constexpr int kMmaKeysPerStep = 32;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kMmaBlocks = 4;  // as many as fit into a multiprocessor's shared memory
#else
constexpr int kMmaBlocks = 5;
#endif
constexpr int kMmaSharedBytes = 16 * (2 * kMmaKeysPerTile * kPitch<Float16> + kWarps);  // keys, values, alive

// What a lane knows of its two rows.
struct MmaRows {
  Window window[2];
  uint32_t query[4][4];  // per 16 dimensions: the A operand
  RunningSoftmax softmax[2];
  float sum[8][4];  // per 8 dimensions: rows 0, 0, 1, 1
};

// Which dimension sits where in the sum over 64 does not matter, so long as queries and keys agree: a lane takes 8
// numbers that are neighbours in memory as the 2 + 2 + 2 + 2 that two operands want.
__device__ __forceinline__ void load_queries(MmaRows& rows, const Params& p, const Place& place, int first,
                                             int lane) {
  const int part = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; r++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint4 numbers{0, 0, 0, 0};
      if (!rows.window[r].is_empty()) {
        const uint16_t* query = at<uint16_t>(p.query, p.query_stride, first + lane / 4 + 8 * r, place.token, place.head);
        numbers = *reinterpret_cast<const uint4*>(query + half * 32 + part * 8);
      }
      rows.query[2 * half][r] = numbers.x;
      rows.query[2 * half][r + 2] = numbers.y;
      rows.query[2 * half + 1][r] = numbers.z;
      rows.query[2 * half + 1][r + 2] = numbers.w;
    }
  }
}

// Which key of eight is column `column` of an operand. Two neighbouring lanes quads then read rows four apart, which
// are in different banks.
__device__ __forceinline__ int key_of_column(int column) { return column / 2 + column % 2 * 4; }

// score[n][2 r + e]: row r and key 8 n + key_of_column(2 part + e) of the step.
template <class Element>
__device__ __forceinline__ void score_keys(float (&score)[4][4], const MmaRows& rows, const uint4* keys, int lane) {
  const uint4* mine = keys + key_of_column(lane / 4) * kPitch<Element> + lane % 4;
#pragma unroll
  for (int n = 0; n < 4; n++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4 numbers = load_shared16(mine + 8 * n * kPitch<Element> + 4 * half);
      Element::mma(score[n], rows.query[2 * half], numbers.x, numbers.y);
      Element::mma(score[n], rows.query[2 * half + 1], numbers.z, numbers.w);
    }
  }
}

// Scores become weights; what was summed before is scaled to the new largest score. Bit i of allowed[r]: key i.
__device__ __forceinline__ void weigh_keys(float (&score)[4][4], MmaRows& rows, const uint32_t (&allowed)[2],
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

template <class Element>
__device__ __forceinline__ void add_values(MmaRows& rows, const float (&weight)[4][4], const uint4* values, int lane) {
  const uint4* mine = values + (lane % 16 / 8 * 8 + key_of_column(lane % 8)) * kPitch<Element> + lane / 16;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float(&low)[4] = weight[2 * half];
    const float(&high)[4] = weight[2 * half + 1];
    const uint32_t weights[4] = {Element::pack(low[0], low[1]), Element::pack(low[2], low[3]),
                                 Element::pack(high[0], high[1]), Element::pack(high[2], high[3])};
#pragma unroll
    for (int n = 0; n < 8; n += 2) {
      uint32_t numbers[4];
      load_tiles_transposed(numbers, mine + 16 * half * kPitch<Element> + n);
      Element::mma(rows.sum[n], weights, numbers[0], numbers[1]);
      Element::mma(rows.sum[n + 1], weights, numbers[2], numbers[3]);
    }
  }
}

// Lane `part` of a quad holds piece `part` of blocks 0..3; afterwards it holds pieces 0..3 of block `part`.
__device__ __forceinline__ void transpose_in_quad(uint32_t (&piece)[4], int part) {
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (i & step) continue;
      const bool upper = part & step;
      const uint32_t received = __shfl_xor_sync(kAllLanes, upper ? piece[i] : piece[i + step], step);
      if (upper) piece[i] = received;
      else piece[i + step] = received;
    }
  }
}

template <class Element>
__device__ __forceinline__ void store_sums(const Params& p, const Place& place, int first, const MmaRows& rows,
                                           const float (&scale)[2], int lane) {
  const int part = lane % 4;
#pragma unroll
  for (int r = 0; r < 2; r++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t piece[4];
#pragma unroll
      for (int n = 0; n < 4; n++) {
        const float(&sum)[4] = rows.sum[4 * half + n];
        piece[n] = Element::pack(sum[2 * r] * scale[r], sum[2 * r + 1] * scale[r]);
      }
      transpose_in_quad(piece, part);
      if (rows.window[r].is_empty()) continue;
      uint16_t* output = at<uint16_t>(p.output, p.output_stride, first + lane / 4 + 8 * r, place.token, place.head);
      *reinterpret_cast<uint4*>(output + half * 32 + part * 8) = uint4{piece[0], piece[1], piece[2], piece[3]};
    }
  }
}

// Divide by the sums of the weights. Returns whether a row that attends came out as NaN.
__device__ __forceinline__ bool normalize(float (&scale)[2], const MmaRows& rows) {
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
__device__ __forceinline__ void attend_tile(MmaRows& rows, const uint4* keys, const uint4* values, const uint4* alive,
                                            int tile, int lane) {
#pragma unroll 1
  for (int step = 0; step < kMmaKeysPerTile; step += kMmaKeysPerStep) {
    const uint32_t keys_alive = load_shared16(&alive[step / kMmaKeysPerStep]).x;
    const uint32_t allowed[2] = {keys_alive & keys_in_window(rows.window[0], tile + step),
                                 keys_alive & keys_in_window(rows.window[1], tile + step)};
    if (!__any_sync(kAllLanes, allowed[0] | allowed[1])) continue;
    float score[4][4] = {};
    score_keys<Element>(score, rows, keys + step * kPitch<Element>, lane);
    weigh_keys(score, rows, allowed, lane);
    add_values<Element>(rows, score, values + step * kPitch<Element>, lane);
  }
}

template <class Element>
__global__ void __launch_bounds__(kThreads, kMmaBlocks) mma_kernel(const Params p) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const Place place = place_of_block();
  const int first = place.first_row + warp * kRowsPerWarp;
  const BlockRows block = read_rows_of_block(p, place, warp, lane);
  const Window window = block.window;
  if (window.is_empty()) return finish_simple_rows<Element>(p, place, first, block.row, lane);

  uint4* keys = shared_chunks();
  uint4* values = keys + kMmaKeysPerTile * kPitch<Element>;
  uint4* alive = values + kMmaKeysPerTile * kPitch<Element>;
  const auto start_tile = [&](int tile) {
    copy_tile_async<Element, kMmaKeysPerTile>(keys, p.key, p.key_stride, place, tile, window.end, thread);
    copy_tile_async<Element, kMmaKeysPerTile>(values, p.value, p.value_stride, place, tile, window.end, thread);
    static_assert(kMmaKeysPerTile == kThreads, "a thread looks at one key");
    const uint32_t keys_alive = alive_keys(p, tile + 32 * warp, window.end, place.token, lane);
    if (lane == 0) store_shared_word(&alive[warp], keys_alive);
  };
  start_tile(window.begin);
  finish_simple_rows<Element>(p, place, first, block.row, lane);
  MmaRows rows = {};
  rows.window[0] = window_of_row(row_of_lane(block.row, lane / 4));
  rows.window[1] = window_of_row(row_of_lane(block.row, lane / 4 + 8));
  load_queries(rows, p, place, first, lane);

#pragma unroll 1
  for (int tile = window.begin;;) {
    wait_for_copies();
    __syncthreads();
    attend_tile<Element>(rows, keys, values, alive, tile, lane);
    tile += kMmaKeysPerTile;
    if (tile >= window.end) break;
    __syncthreads();  // everyone is done with this tile
    start_tile(tile);
  }

  float scale[2];
  const bool broken = normalize(scale, rows);
  if (broken) return answer_rows_again<Element>(p, place, first, lane);
  store_sums<Element>(p, place, first, rows, scale, lane);
}

}  // namespace chronos
