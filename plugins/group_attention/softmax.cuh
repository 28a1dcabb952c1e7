// Softmax over keys that arrive in pieces, in float32.
#pragma once

#include "rows.cuh"

namespace chronos {

// Of the keys seen so far: the largest score, and the sum of exp(score - largest).
struct RunningSoftmax {
  float largest = -INFINITY;
  float sum = 0.0f;

  // Take in the largest score of the next piece. Returns the factor for everything summed before.
  __device__ __forceinline__ float raise(float score) {
    const float before = largest;
    largest = fmaxf(largest, score);
    const float factor = before == largest ? 1.0f : exponential(before - largest);
    sum *= factor;
    return factor;
  }

  // What to subtract from a score: while all keys are masked, whose scores are -infinity, any number will do.
  __device__ __forceinline__ float reference() const { return largest == -INFINITY ? 0.0f : largest; }

  __device__ __forceinline__ float weigh(float score, float reference) {
    const float weight = exponential(score - reference);
    sum += weight;
    return weight;
  }
};

// Over `kLanes` neighbouring lanes (a power of two, aligned).
template <int kLanes>
__device__ __forceinline__ float max_of_lanes(float x) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

template <int kLanes>
__device__ __forceinline__ float sum_of_lanes(float x) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}

}  // namespace chronos
