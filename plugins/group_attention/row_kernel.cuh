// One warp, one row: any head_dim up to 128, any strides. The plain path, and the one that is right on
// infinities and NaNs, because it touches only the alive keys of the row's own segment.
#pragma once

#include "softmax.cuh"

namespace chronos {

constexpr int kMaxHeadDim = 128;
constexpr int kDimsPerLane = kMaxHeadDim / 32;

template <class Element>
__device__ __forceinline__ void load_row(float (&numbers)[kDimsPerLane], const typename Element::Storage* row,
                                         int head_dim, int lane) {
#pragma unroll
  for (int i = 0; i < kDimsPerLane; i++) {
    const int d = lane + 32 * i;
    numbers[i] = d < head_dim ? Element::load(row[d]) : 0.0f;
  }
}

template <class Element>
__device__ __forceinline__ void store_row(typename Element::Storage* row, const float (&numbers)[kDimsPerLane],
                                          int head_dim, int lane) {
#pragma unroll
  for (int i = 0; i < kDimsPerLane; i++) {
    const int d = lane + 32 * i;
    if (d < head_dim) row[d] = Element::store(numbers[i]);
  }
}

template <class Element>
__device__ __forceinline__ void attend_row(const Params& p, const Row& row, int index, int token, int head,
                                           int lane) {
  using Storage = typename Element::Storage;
  float query[kDimsPerLane], sum[kDimsPerLane] = {};
  load_row<Element>(query, at<Storage>(p.query, p.query_stride, index, token, head), p.head_dim, lane);
  RunningSoftmax softmax;
#pragma unroll 1
  for (int k = row.begin; k < row.end; k++) {
    if (!is_alive(p, k, token)) continue;
    float key[kDimsPerLane], value[kDimsPerLane], score = 0.0f;
    load_row<Element>(key, at<Storage>(p.key, p.key_stride, k, token, head), p.head_dim, lane);
    load_row<Element>(value, at<Storage>(p.value, p.value_stride, k, token, head), p.head_dim, lane);
#pragma unroll
    for (int i = 0; i < kDimsPerLane; i++) score = fmaf(query[i], key[i], score);
    score = sum_of_lanes<32>(score);
    const float factor = softmax.raise(score);
    const float weight = softmax.weigh(score, softmax.reference());
#pragma unroll
    for (int i = 0; i < kDimsPerLane; i++) sum[i] = fmaf(weight, value[i], sum[i] * factor);
  }
#pragma unroll
  for (int i = 0; i < kDimsPerLane; i++) sum[i] /= softmax.sum;
  store_row<Element>(at<Storage>(p.output, p.output_stride, index, token, head), sum, p.head_dim, lane);
}

template <class Element>
__device__ __forceinline__ void answer_row(const Params& p, const Row& row, int index, int token, int head,
                                           int lane) {
  using Storage = typename Element::Storage;
  if (row.kind == kOutside) return;
  if (row.kind == kAttends) return attend_row<Element>(p, row, index, token, head, lane);
  float numbers[kDimsPerLane] = {};
  if (row.kind == kSingle)
    load_row<Element>(numbers, at<Storage>(p.value, p.value_stride, index, token, head), p.head_dim, lane);
  store_row<Element>(at<Storage>(p.output, p.output_stride, index, token, head), numbers, p.head_dim, lane);
}

template <class Element>
__device__ __forceinline__ void answer_rows(const Params& p, const Place& place, int first, int lane) {
#pragma unroll 1
  for (int i = first; i < first + kRowsPerWarp; i++)
    answer_row<Element>(p, read_row(p, i, place.token), i, place.token, place.head, lane);
}

template <class Element>
__global__ void __launch_bounds__(kThreads) row_kernel(const Params p) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const Place place = place_of_block();
  answer_rows<Element>(p, place, place.first_row + warp * kRowsPerWarp, lane);
}

// A key with an infinity or a NaN makes 0 x infinity = NaN for every row of its tile, also in other segments.
// When such a NaN shows up, the warp answers its rows again, one at a time.
template <class Element>
__device__ __forceinline__ void answer_rows_again(const Params& p, const Place& place, int first, int lane) {
  note_slow_path();
  answer_rows<Element>(p, place, first, lane);
}

}  // namespace chronos
