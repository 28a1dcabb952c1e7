// Weights times values on the tensor cores, and the sums back to memory: here 16-bit numbers and tf32 part ways.
#pragma once

#include "copy.cuh"
#include "softmax.cuh"

namespace chronos {

// What a lane knows of its two rows.
template <class Element>
struct MmaRows {
  Window window[2];
  uint32_t query[kChunks<Element> / 2][4];  // per operand: rows 0, 1, 0, 1
  RunningSoftmax softmax[2];
  float sum[8][4];  // per tile of 8 dimensions: rows 0, 0, 1, 1
};

// Which of eight keys, or of eight chunks, is column `column` of an operand. Two neighbouring lane quads then read rows
// or chunks four apart, which are in different banks.
__device__ __forceinline__ int key_of_column(int column) { return column / 2 + column % 2 * 4; }

// 16 bit: ldmatrix transposes the values, and the sums come out in pairs of neighbouring dimensions.
template <class Element>
__device__ __forceinline__ void add_values(MmaRows<Element>& rows, const float (&weight)[4][4], const uint4* values,
                                           int lane) {
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
__device__ __forceinline__ void store_sums(const Params& p, const Place& place, int first, const MmaRows<Element>& rows,
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

// tf32: ldmatrix knows no 32-bit numbers. A lane reads a chunk of each of the two keys whose weights it holds, four
// dimensions in a row, and calls them four tiles' columns; so the weights are an operand as they are, and so the sums
// are chunks again.
__device__ __forceinline__ void add_values(MmaRows<Tf32>& rows, const float (&weight)[4][4], const uint4* values,
                                           int lane) {
  const uint4* mine = values + lane % 4 * kPitch<Tf32> + key_of_column(lane / 4);
#pragma unroll
  for (int n = 0; n < 4; n++) {
    const float(&w)[4] = weight[n];
    const uint32_t weights[4] = {Tf32::round(w[0]), Tf32::round(w[2]), Tf32::round(w[1]), Tf32::round(w[3])};
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4* chunk = mine + 8 * n * kPitch<Tf32> + 8 * half;
      const uint4 low = Tf32::operands(load_shared16(chunk));
      const uint4 high = Tf32::operands(load_shared16(chunk + 4 * kPitch<Tf32>));
      Tf32::mma(rows.sum[4 * half], weights, low.x, high.x);
      Tf32::mma(rows.sum[4 * half + 1], weights, low.y, high.y);
      Tf32::mma(rows.sum[4 * half + 2], weights, low.z, high.z);
      Tf32::mma(rows.sum[4 * half + 3], weights, low.w, high.w);
    }
  }
}

__device__ __forceinline__ void store_sums(const Params& p, const Place& place, int first, const MmaRows<Tf32>& rows,
                                           const float (&scale)[2], int lane) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (rows.window[r].is_empty()) continue;
    float* output = at<float>(p.output, p.output_stride, first + lane / 4 + 8 * r, place.token, place.head);
#pragma unroll
    for (int chunk = 0; chunk < 4; chunk++) {
      const int n = chunk / 2 * 4, e = 2 * r + chunk % 2;
      *reinterpret_cast<float4*>(output + 16 * chunk + lane % 4 * 4) =
          float4{rows.sum[n][e] * scale[r], rows.sum[n + 1][e] * scale[r], rows.sum[n + 2][e] * scale[r],
                 rows.sum[n + 3][e] * scale[r]};
    }
  }
}

}  // namespace chronos
