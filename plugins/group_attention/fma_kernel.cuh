// float32, head_dim 64, in plain float32 multiply-adds: no tensor cores, no TF32.
//
// A warp holds 16 rows as 4 teams of 8 lanes; a team has 4 rows and walks over the keys of their segments, 32 at a
// time, starting where its own first segment starts. For scores, lane `seat` of a team takes the keys seat, seat + 8,
// ...; for sums, it takes dimensions 4 seat .. 4 seat + 3 and 32 more.
#pragma once

#include "copy.cuh"
#include "row_kernel.cuh"

namespace chronos {

constexpr int kFmaKeysPerTile = 64;
constexpr int kFmaKeysPerStep = 32;
constexpr int kFmaSharedBytes = (kRowsPerBlock + 2 * kFmaKeysPerTile) * kHeadDim * 4;  // queries, keys, values
constexpr int kTeamRows = 4;
constexpr int kSeats = 8;
constexpr int kTurns = kFmaKeysPerStep / kSeats;  // keys a lane takes in a step

struct FmaRows {
  Row row[kTeamRows];
  RunningSoftmax softmax[kTeamRows];
  float sum[kTeamRows][8];
};

__device__ __forceinline__ float4 load_shared_floats(const uint4* shared) {
  const uint4 bits = load_shared16(shared);
  return {__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)};
}

// A lane's key may lie past the tile, when the step does; it is masked, but must be readable.
__device__ __forceinline__ int inside_tile(int key) { return min(key, kFmaKeysPerTile - 1); }

// score[r][turn]: team row r and key first_key + 8 turn + seat. Only the first `turns` turns are needed.
__device__ __forceinline__ void score_keys(float (&score)[kTeamRows][kTurns], const uint4* queries, const uint4* keys,
                                           int first_row, int first_key, int turns, int seat) {
#pragma unroll 4
  for (int chunk = 0; chunk < kChunks<Float32>; chunk++) {
    float4 query[kTeamRows];
#pragma unroll
    for (int r = 0; r < kTeamRows; r++)
      query[r] = load_shared_floats(&queries[chunk_index<Float32>(first_row + r, chunk)]);
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
      if (turn >= turns) break;
      const int key_row = inside_tile(first_key + kSeats * turn + seat);
      const float4 key = load_shared_floats(&keys[chunk_index<Float32>(key_row, chunk)]);
#pragma unroll
      for (int r = 0; r < kTeamRows; r++) {
        float& s = score[r][turn];
        s = fmaf(query[r].x, key.x, s);
        s = fmaf(query[r].y, key.y, s);
        s = fmaf(query[r].z, key.z, s);
        s = fmaf(query[r].w, key.w, s);
      }
    }
  }
}

// Scores become weights; what was summed before is scaled to the new largest score. Bit i of `alive`: key i.
__device__ __forceinline__ void weigh_keys(float (&score)[kTeamRows][kTurns], FmaRows& rows, uint32_t alive,
                                           int first_key, int seat) {
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    const uint32_t mine = (alive & keys_in_segment(rows.row[r], first_key)) >> seat;
    float largest = -CHRONOS_INFINITY;
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
      if (!(mine >> (kSeats * turn) & 1)) score[r][turn] = -CHRONOS_INFINITY;
      largest = fmaxf(largest, score[r][turn]);
    }
    const float factor = rows.softmax[r].raise(max_of_lanes<kSeats>(largest));
#pragma unroll
    for (int d = 0; d < 8; d++) rows.sum[r][d] *= factor;
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) score[r][turn] = rows.softmax[r].weigh(score[r][turn]);
  }
}

__device__ __forceinline__ void add_values(FmaRows& rows, const float (&weight)[kTeamRows][kTurns],
                                           const uint4* values, int first_key, int turns, int lane) {
  const int seat = lane % kSeats, team = lane - seat;
#pragma unroll
  for (int turn = 0; turn < kTurns; turn++) {
    if (turn >= turns) break;
#pragma unroll
    for (int other = 0; other < kSeats; other++) {
      const int key = inside_tile(first_key + kSeats * turn + other);
      const float4 low = load_shared_floats(&values[chunk_index<Float32>(key, seat)]);
      const float4 high = load_shared_floats(&values[chunk_index<Float32>(key, seat + 8)]);
      const float value[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int r = 0; r < kTeamRows; r++) {
        const float w = __shfl_sync(kAllLanes, weight[r][turn], team + other);
#pragma unroll
        for (int d = 0; d < 8; d++) rows.sum[r][d] = fmaf(w, value[d], rows.sum[r][d]);
      }
    }
  }
}

// One tile for one warp: every team over its own window, all teams in step.
__device__ __forceinline__ void attend_tile(FmaRows& rows, const uint4* queries, const uint4* keys,
                                            const uint4* values, uint64_t alive, const Window& team_window, int tile,
                                            int first_row, int lane) {
  const int seat = lane % kSeats;
  const int begin = max(team_window.begin - tile, 0);
  const int end = min(team_window.end - tile, kFmaKeysPerTile);
  const int longest = __reduce_max_sync(kAllLanes, end - begin);
#pragma unroll 1
  for (int done = 0; done < longest; done += kFmaKeysPerStep) {
    const int turns = min((longest - done + kSeats - 1) / kSeats, kTurns);
    const int first_key = min(begin + done, kFmaKeysPerTile - 1);  // of a team with no key left: masked below
    const uint32_t mask = begin + done < end ? static_cast<uint32_t>(alive >> first_key) : 0u;
    float score[kTeamRows][kTurns] = {};
    score_keys(score, queries, keys, first_row, first_key, turns, seat);
    weigh_keys(score, rows, mask, tile + first_key, seat);
    add_values(rows, score, values, first_key, turns, lane);
  }
}

// Divide by the sums of the weights. Returns whether a row that attends came out as NaN.
__device__ __forceinline__ bool normalize(FmaRows& rows) {
  bool broken = false;
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    const float scale = 1.0f / sum_of_lanes<kSeats>(rows.softmax[r].sum);
    float total = 0.0f;
#pragma unroll
    for (int d = 0; d < 8; d++) {
      rows.sum[r][d] *= scale;
      total += rows.sum[r][d];
    }
    broken |= rows.row[r].kind == kAttends && isnan(total);
  }
  return __any_sync(kAllLanes, broken);
}

__device__ __forceinline__ void store_sums(const Params& p, const Place& place, int first_row, const FmaRows& rows,
                                           int seat) {
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    if (rows.row[r].kind != kAttends) continue;
    const float(&sum)[8] = rows.sum[r];
    float* output = at<float>(p.output, p.output_stride, first_row + r, place.token, place.head) + 4 * seat;
    *reinterpret_cast<float4*>(output) = float4{sum[0], sum[1], sum[2], sum[3]};
    *reinterpret_cast<float4*>(output + 32) = float4{sum[4], sum[5], sum[6], sum[7]};
  }
}

__global__ void __launch_bounds__(kThreads, 4) fma_kernel(const Params p) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  const Place place = place_of_block(p);
  const int first = place.first_row + thread / 32 * kRowsPerWarp;
  const Row row = read_row(p, first + lane % kRowsPerWarp, place.token);
  const Window block_window = window_of_block(p, place, lane);
  if (block_window.is_empty()) return finish_simple_rows<Float32>(p, place, first, row, lane);

  uint4* queries = shared_chunks();
  uint4* keys = queries + kRowsPerBlock * kChunks<Float32>;
  uint4* values = keys + kFmaKeysPerTile * kChunks<Float32>;
  copy_tile_async<Float32, kRowsPerBlock>(queries, p.query, p.query_stride, place, place.first_row, p.rows, thread);

  const int team_row = lane / kSeats * kTeamRows;
  FmaRows rows = {};
  Window team_window = {0x7fffffff, 0};
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    rows.row[r] = row_of_lane(row, team_row + r);
    team_window = join(team_window, window_of_row(rows.row[r]));
  }

#pragma unroll 1
  for (int tile = block_window.begin; tile < block_window.end; tile += kFmaKeysPerTile) {
    if (tile != block_window.begin) __syncthreads();  // everyone is done with the last tile
    copy_tile_async<Float32, kFmaKeysPerTile>(keys, p.key, p.key_stride, place, tile, block_window.end, thread);
    copy_tile_async<Float32, kFmaKeysPerTile>(values, p.value, p.value_stride, place, tile, block_window.end, thread);
    const uint64_t alive_low = alive_keys(p, tile, block_window.end, place.token, lane);
    const uint64_t alive_high = alive_keys(p, tile + 32, block_window.end, place.token, lane);
    if (tile == block_window.begin) finish_simple_rows<Float32>(p, place, first, row, lane);
    wait_for_copies();
    __syncthreads();
    attend_tile(rows, queries, keys, values, alive_low | alive_high << 32, team_window, tile,
                first - place.first_row + team_row, lane);
  }

  if (normalize(rows)) return answer_rows_again<Float32>(p, place, first, row, lane);
  store_sums(p, place, first + team_row, rows, lane % kSeats);
}

}  // namespace chronos
