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
constexpr int kFmaSharedBytes = 16 * (kRowsPerBlock + 2 * kFmaKeysPerTile) * kPitch<Float32>;  // queries, keys, values
constexpr int kTeamRows = 4;
constexpr int kSeats = 8;
constexpr int kTurns = kFmaKeysPerStep / kSeats;  // keys a lane takes in a step

struct FmaRows {
  Window window[kTeamRows];
  RunningSoftmax softmax[kTeamRows];
  float sum[kTeamRows][8];
};

__device__ __forceinline__ float4 load_shared_floats(const uint4* shared) {
  const uint4 bits = load_shared16(shared);
  return {__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z), __uint_as_float(bits.w)};
}

// score[r][turn]: team row r and key 8 turn + seat of the step.
template <int kUsedTurns>
__device__ __forceinline__ void score_keys(float (&score)[kTeamRows][kTurns], const uint4* queries, const uint4* keys,
                                           int seat) {
  const uint4* mine = keys + seat * kPitch<Float32>;
#pragma unroll 1
  for (int chunk = 0; chunk < kChunks<Float32>; chunk++) {
    float4 query[kTeamRows];
#pragma unroll
    for (int r = 0; r < kTeamRows; r++) query[r] = load_shared_floats(queries + r * kPitch<Float32> + chunk);
#pragma unroll
    for (int turn = 0; turn < kUsedTurns; turn++) {
      const float4 key = load_shared_floats(mine + kSeats * turn * kPitch<Float32> + chunk);
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

__device__ __forceinline__ void score_keys(float (&score)[kTeamRows][kTurns], const uint4* queries, const uint4* keys,
                                           int turns, int seat) {
  static_assert(kTurns == 4, "one case each");
  switch (turns) {
    case 1: return score_keys<1>(score, queries, keys, seat);
    case 2: return score_keys<2>(score, queries, keys, seat);
    case 3: return score_keys<3>(score, queries, keys, seat);
    default: return score_keys<4>(score, queries, keys, seat);
  }
}

// Scores become weights; what was summed before is scaled to the new largest score. Bit i of `keys`: key i of the step.
__device__ __forceinline__ void weigh_keys(float (&score)[kTeamRows][kTurns], FmaRows& rows, uint32_t keys,
                                           int first_key, int seat) {
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    const uint32_t mine = (keys & keys_in_window(rows.window[r], first_key)) >> seat;
    float largest = -INFINITY;
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) {
      if (!(mine & 1u << (kSeats * turn))) score[r][turn] = -INFINITY;
      largest = fmaxf(largest, score[r][turn]);
    }
    const float factor = rows.softmax[r].raise(max_of_lanes<kSeats>(largest));
#pragma unroll
    for (int d = 0; d < 8; d++) rows.sum[r][d] *= factor;
    const float reference = rows.softmax[r].reference();
#pragma unroll
    for (int turn = 0; turn < kTurns; turn++) score[r][turn] = rows.softmax[r].weigh(score[r][turn], reference);
  }
}

__device__ __forceinline__ void add_values(FmaRows& rows, const float (&weight)[kTeamRows][kTurns],
                                           const uint4* values, int turns, int seat) {
#pragma unroll
  for (int turn = 0; turn < kTurns; turn++) {
    if (turn >= turns) break;
#pragma unroll
    for (int other = 0; other < kSeats; other++) {
      const uint4* key = values + (kSeats * turn + other) * kPitch<Float32> + seat;
      const float4 low = load_shared_floats(key), high = load_shared_floats(key + 8);
      const float value[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int r = 0; r < kTeamRows; r++) {
        const float w = __shfl_sync(kAllLanes, weight[r][turn], other, kSeats);
#pragma unroll
        for (int d = 0; d < 8; d++) rows.sum[r][d] = fmaf(w, value[d], rows.sum[r][d]);
      }
    }
  }
}

// One tile, of which `filled` rows may be read, for one warp: every team over its own window, all teams in step.
__device__ __forceinline__ void attend_tile(FmaRows& rows, const uint4* queries, const uint4* keys,
                                            const uint4* values, uint64_t alive, const Window& team_window, int tile,
                                            int filled, int lane) {
  const int seat = lane % kSeats;
  const int end = min(team_window.end - tile, kFmaKeysPerTile);
  int next = max(team_window.begin - tile, 0);
  int left = __reduce_max_sync(kAllLanes, end - next);  // of the team that has most
#pragma unroll 1
  for (; left > 0; left -= kFmaKeysPerStep, next += kFmaKeysPerStep) {
    const int turns = min((left + kSeats - 1) / kSeats, kTurns);
    const int first = min(next, filled - kSeats * turns);  // keys before `next` are done
    const uint32_t mask = static_cast<uint32_t>(alive >> first) & bits_below(end - first) & ~bits_below(next - first);
    float score[kTeamRows][kTurns] = {};
    score_keys(score, queries, keys + first * kPitch<Float32>, turns, seat);
    weigh_keys(score, rows, mask, tile + first, seat);
    add_values(rows, score, values + first * kPitch<Float32>, turns, seat);
  }
}

// Divide by the sums of the weights. Returns whether a row that attends came out as NaN.
__device__ __forceinline__ bool normalize(FmaRows& rows) {
  bool broken = false;
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    const float scale = reciprocal(sum_of_lanes<kSeats>(rows.softmax[r].sum));
    float total = 0.0f;
#pragma unroll
    for (int d = 0; d < 8; d++) {
      rows.sum[r][d] *= scale;
      total += rows.sum[r][d];
    }
    broken |= !rows.window[r].is_empty() && isnan(total);
  }
  return __any_sync(kAllLanes, broken);
}

__device__ __forceinline__ void store_sums(const Params& p, const Place& place, int first_row, const FmaRows& rows,
                                           int seat) {
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    if (rows.window[r].is_empty()) continue;
    const float(&sum)[8] = rows.sum[r];
    float* output = at<float>(p.output, p.output_stride, first_row + r, place.token, place.head) + 4 * seat;
    *reinterpret_cast<float4*>(output) = float4{sum[0], sum[1], sum[2], sum[3]};
    *reinterpret_cast<float4*>(output + 32) = float4{sum[4], sum[5], sum[6], sum[7]};
  }
}

__global__ void __launch_bounds__(kThreads, 4) fma_kernel(const Params p) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const Place place = place_of_block();
  const int first = place.first_row + warp * kRowsPerWarp;
  const BlockRows block = read_rows_of_block(p, place, warp, lane);
  const Window window = block.window;
  if (window.is_empty()) return finish_simple_rows<Float32>(p, place, first, block.row, lane);

  uint4* queries = shared_chunks();
  uint4* keys = queries + kRowsPerBlock * kPitch<Float32>;
  uint4* values = keys + kFmaKeysPerTile * kPitch<Float32>;
  const auto start_tile = [&](int tile) {
    copy_tile_async<Float32, kFmaKeysPerTile>(keys, p.key, p.key_stride, place, tile, window.end, thread);
    copy_tile_async<Float32, kFmaKeysPerTile>(values, p.value, p.value_stride, place, tile, window.end, thread);
  };
  copy_tile_async<Float32, kRowsPerBlock>(queries, p.query, p.query_stride, place, place.first_row, p.rows, thread);
  start_tile(window.begin);
  finish_simple_rows<Float32>(p, place, first, block.row, lane);

  const int team_row = lane / kSeats * kTeamRows;
  FmaRows rows = {};
  Window team_window = {kNoKey, 0};
#pragma unroll
  for (int r = 0; r < kTeamRows; r++) {
    rows.window[r] = window_of_row(row_of_lane(block.row, team_row + r));
    team_window = join(team_window, rows.window[r]);
  }
  const uint4* team_queries = queries + (warp * kRowsPerWarp + team_row) * kPitch<Float32>;

#pragma unroll 1
  for (int tile = window.begin;;) {
    const uint64_t alive_low = alive_keys(p, tile, window.end, place.token, lane);
    const uint64_t alive_high = alive_keys(p, tile + 32, window.end, place.token, lane);
    wait_for_copies();
    __syncthreads();
    attend_tile(rows, team_queries, keys, values, alive_low | alive_high << 32, team_window, tile,
                filled_rows(kFmaKeysPerTile, window.end - tile), lane);
    tile += kFmaKeysPerTile;
    if (tile >= window.end) break;
    __syncthreads();  // everyone is done with this tile
    start_tile(tile);
  }

  if (normalize(rows)) return answer_rows_again<Float32>(p, place, first, lane);
  store_sums(p, place, first + team_row, rows, lane % kSeats);
}

}  // namespace chronos
