// Which rows, keys and tokens a block works on, and what each row needs.
#pragma once

#include "platform.cuh"

namespace chronos {

using Params = ChronosGroupAttentionParams;

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kRowsPerWarp = 16;
constexpr int kRowsPerBlock = kRowsPerWarp * kWarps;

// One block answers kRowsPerBlock sorted rows of one (token, head).
struct Place {
  int first_row, token, head;
};

// Blocks start in the order x, y, z. Heads come first: they are neighbours in memory. Then rows: blocks that share a
// segment run together, so the keys that both read come from the L2 cache. Tokens, which share nothing, come last.
__device__ __forceinline__ Place place_of_block() {
  return {static_cast<int>(blockIdx.y) * kRowsPerBlock, static_cast<int>(blockIdx.z), static_cast<int>(blockIdx.x)};
}

template <class Storage>
__device__ __forceinline__ const Storage* at(const void* base, const ChronosStrides& stride, int row, int token,
                                             int head) {
  return static_cast<const Storage*>(base) + row * stride.row + token * stride.token + head * stride.head;
}

template <class Storage>
__device__ __forceinline__ Storage* at(void* base, const ChronosStrides& stride, int row, int token, int head) {
  return static_cast<Storage*>(base) + row * stride.row + token * stride.token + head * stride.head;
}

__device__ __forceinline__ bool is_alive(const Params& p, int row, int token) {
  return p.key_mask[row * p.key_mask_row_stride + token * p.key_mask_token_stride] != 0;
}

enum RowKind : int {
  kOutside,  // past the last row: nothing is written
  kDead,     // its output is 0
  kSingle,   // alone in its segment: its output is its value
  kAttends
};

struct Row {
  int begin, end;
  RowKind kind;
};

// TensorRT times a plugin on whatever its memory holds, so a bound may be any number.
__device__ __forceinline__ int bound_within(const Params& p, int bound) { return min(max(bound, 0), p.rows); }

__device__ __forceinline__ Row read_row(const Params& p, int row, int token) {
  if (row >= p.rows) return {0, 0, kOutside};
  const int begin = bound_within(p, p.segment_begin[row]), end = bound_within(p, p.segment_end[row]);
  if (!is_alive(p, row, token)) return {begin, end, kDead};
  return {begin, end, end - begin == 1 ? kSingle : kAttends};
}

// The row held by lane `source`.
__device__ __forceinline__ Row row_of_lane(const Row& row, int source) {
  return {__shfl_sync(kAllLanes, row.begin, source), __shfl_sync(kAllLanes, row.end, source),
          static_cast<RowKind>(__shfl_sync(kAllLanes, static_cast<int>(row.kind), source))};
}

constexpr int kNoKey = 1 << 30;  // past every row, and far from overflow

// Keys begin <= key < end; empty when nothing attends.
struct Window {
  int begin, end;
  __device__ __forceinline__ bool is_empty() const { return begin >= end; }
};

__device__ __forceinline__ Window window_of_row(const Row& row) {
  return row.kind == kAttends ? Window{row.begin, row.end} : Window{kNoKey, 0};
}

__device__ __forceinline__ Window join(const Window& a, const Window& b) {
  return {min(a.begin, b.begin), max(a.end, b.end)};
}

// The window that covers those of all 32 lanes.
__device__ __forceinline__ Window window_of_warp(const Window& window) {
  return {__reduce_min_sync(kAllLanes, window.begin), __reduce_max_sync(kAllLanes, window.end)};
}

struct BlockRows {
  Row row;        // of the warp's own rows, number lane % 16
  Window window;  // of all rows of the block
};

// Every warp reads all rows of the block for itself, two a lane, which needs no barrier.
__device__ __forceinline__ BlockRows read_rows_of_block(const Params& p, const Place& place, int warp, int lane) {
  static_assert(kRowsPerBlock == 64 && kRowsPerWarp == 16, "a lane reads two rows");
  const Row low = read_row(p, place.first_row + lane, place.token);
  const Row high = read_row(p, place.first_row + 32 + lane, place.token);
  const Window window = window_of_warp(join(window_of_row(low), window_of_row(high)));
  const bool is_low = warp < 2;
  const Row half = {is_low ? low.begin : high.begin, is_low ? low.end : high.end, is_low ? low.kind : high.kind};
  return {row_of_lane(half, warp % 2 * kRowsPerWarp + lane % kRowsPerWarp), window};
}

// Bit i of the result: key first + i is alive and before `end`.
__device__ __forceinline__ uint32_t alive_keys(const Params& p, int first, int end, int token, int lane) {
  const int key = first + lane;
  return __ballot_sync(kAllLanes, key < end && is_alive(p, key, token));
}

__device__ __forceinline__ uint32_t bits_below(int count) {
  return count <= 0 ? 0u : count >= 32 ? kAllLanes : (1u << count) - 1u;
}

// Bit i of the result: key first + i is in the window.
__device__ __forceinline__ uint32_t keys_in_window(const Window& window, int first) {
  return bits_below(window.end - first) & ~bits_below(window.begin - first);
}

}  // namespace chronos
