// Moving whole rows of 64 numbers: key/value tiles into shared memory, and the rows that need no attention.
#pragma once

#include "rows.cuh"

namespace chronos {

constexpr int kHeadDim = 64;

// A row of 64 numbers is kChunks 16-byte chunks.
template <class Element>
constexpr int kChunks = kHeadDim * static_cast<int>(sizeof(typename Element::Storage)) / 16;

// Chunks from one row of a tile in shared memory to the next. The odd one moves eight neighbouring rows to different
// banks, so eight lanes may read the same chunk of each at once.
template <class Element>
constexpr int kPitch = kChunks<Element> + 1;

// How many rows of a tile are filled when `rows` are left: whole steps of 32.
__device__ __forceinline__ int filled_rows(int tile_rows, int rows) { return min(tile_rows, (rows + 31) / 32 * 32); }

// Start the copy of rows first .. first + kRows - 1 into a tile. Rows from `end` on become 0 as far as filled_rows()
// goes; what lies behind is not touched, and must not be read.
template <class Element, int kRows>
__device__ __forceinline__ void copy_tile_async(uint4* tile, const void* base, const ChronosStrides& stride,
                                                const Place& place, int first, int end, int thread) {
  using Storage = typename Element::Storage;
  constexpr int kRowsAtOnce = kThreads / kChunks<Element>;
  const int chunk = thread % kChunks<Element>, row = thread / kChunks<Element>;
  const int rows = end - first;
  const Storage* source = at<Storage>(base, stride, first + row, place.token, place.head) + chunk * 16 / sizeof(Storage);
  uint4* target = tile + row * kPitch<Element> + chunk;
#pragma unroll
  for (int done = 0; done < kRows; done += kRowsAtOnce) {
    if (done % 32 == 0 && done >= rows) break;
    copy16_async(target + done * kPitch<Element>, source, done + row < rows);
    source += kRowsAtOnce * stride.row;
  }
}

// Write the warp's rows that need no attention: a single row is its value, a dead row is 0.
// Lane i < 16 of the warp holds row first + i.
template <class Element>
__device__ __forceinline__ void finish_simple_rows(const Params& p, const Place& place, int first, const Row& row,
                                                   int lane) {
  using Storage = typename Element::Storage;
  if (__ballot_sync(kAllLanes, row.kind == kSingle || row.kind == kDead) == 0) return;
  constexpr int kRowsAtOnce = 32 / kChunks<Element>;
  constexpr int kSteps = kRowsPerWarp / kRowsAtOnce;
  const int element = lane % kChunks<Element> * (16 / sizeof(Storage));
  uint4 values[kSteps];
  int kinds[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    const int local = i * kRowsAtOnce + lane / kChunks<Element>;
    kinds[i] = __shfl_sync(kAllLanes, static_cast<int>(row.kind), local);
    values[i] = uint4{0, 0, 0, 0};
    if (kinds[i] == kSingle) {
      const Storage* value = at<Storage>(p.value, p.value_stride, first + local, place.token, place.head);
      values[i] = *reinterpret_cast<const uint4*>(value + element);
    }
  }
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    const int local = i * kRowsAtOnce + lane / kChunks<Element>;
    if (kinds[i] != kSingle && kinds[i] != kDead) continue;
    Storage* output = at<Storage>(p.output, p.output_stride, first + local, place.token, place.head);
    *reinterpret_cast<uint4*>(output + element) = values[i];
  }
}

}  // namespace chronos
