// What the emulated kernels are asked: cases, their tensors in every layout, and the parameters of a launch.
#pragma once

#include "../group_attention.cu"

#include <string>

namespace {

using chronos::BFloat16;
using chronos::Float16;

enum Layout { kRowsFirst, kTokensFirst, kHeadsFirst, kFused, kUnaligned, kMixed };

// Of query, key, value and output, where each has its own; the mask has its tokens first then.
constexpr Layout kEach[] = {kTokensFirst, kHeadsFirst, kRowsFirst, kHeadsFirst};

struct Case {
  std::string name;
  std::vector<int> segments;
  int tokens = 2, heads = 2, head_dim = 64;
  Layout layout = kRowsFirst;
  double dead = 0.2;   // share of dead tokens
  double scale = 0.6;  // standard deviation of the inputs
  int dead_segment = -1;      // all tokens of this segment are dead
  int poisoned_segment = -1;  // its keys hold NaN and its values infinity
  bool poisoned_dead = false; // dead tokens hold NaN
};

struct Tensor {
  std::vector<float> floats;  // one of the two is used
  std::vector<uint16_t> halves;
  ChronosStrides stride{};
  int64_t offset = 0;
  int dtype = CHRONOS_FLOAT32;

  int64_t index(int row, int token, int head, int d) const {
    return offset + row * stride.row + token * stride.token + head * stride.head + d;
  }
  double get(int64_t i) const {
    if (dtype == CHRONOS_FLOAT32) return floats[i];
    return dtype == CHRONOS_FLOAT16 ? Float16::load(halves[i]) : BFloat16::load(halves[i]);
  }
  void set(int64_t i, double x) {
    const float f = static_cast<float>(x);
    if (dtype == CHRONOS_FLOAT32) floats[i] = f;
    else halves[i] = dtype == CHRONOS_FLOAT16 ? Float16::store(f) : BFloat16::store(f);
  }
  void* data() {
    return dtype == CHRONOS_FLOAT32 ? static_cast<void*>(&floats[offset]) : static_cast<void*>(&halves[offset]);
  }
};

constexpr double kUntouched = 1024;  // what an output holds before the launch; exact in every dtype, and no answer

enum Part { kQuery, kKey, kValue, kOutput };

// In a buffer of exactly the size needed, which query, key and value may share.
Tensor make_tensor(const Case& c, int rows, int dtype, Part part) {
  Tensor t;
  t.dtype = dtype;
  const Layout layout = c.layout == kMixed ? kEach[part] : c.layout;
  const int parts = part == kOutput ? 1 : 3;
  const int64_t d = c.head_dim, width = c.heads * d;
  switch (layout) {
    case kRowsFirst: t.stride = {c.tokens * width, width, d}; break;
    case kTokensFirst: t.stride = {width, rows * width, d}; break;
    case kHeadsFirst: t.stride = {d, rows * d, c.tokens * rows * d}; break;
    case kFused: t.stride = {c.tokens * parts * width, parts * width, d}; break;
    case kUnaligned: t.stride = {c.tokens * c.heads * (d + 1), c.heads * (d + 1), d + 1}; break;
    case kMixed: break;
  }
  t.offset = layout == kUnaligned ? 1 : layout == kFused ? part % parts * width : 0;
  const int64_t size = t.index(rows - 1, c.tokens - 1, c.heads - 1, static_cast<int>(d) - 1) + 1;
  if (dtype == CHRONOS_FLOAT32) t.floats.assign(size, kUntouched);
  else t.halves.assign(size, 0);
  for (int64_t i = 0; i < size; i++) t.set(i, kUntouched);
  return t;
}

struct Inputs {
  Tensor query, key, value, output;
  std::vector<int32_t> begin, end, segment;
  std::vector<uint8_t> alive;
  int64_t alive_row_stride = 0, alive_token_stride = 0;
  int rows = 0;

  uint8_t& is_alive(int row, int token) { return alive[row * alive_row_stride + token * alive_token_stride]; }
  bool is_alive(int row, int token) const { return const_cast<Inputs*>(this)->is_alive(row, token) != 0; }
};

Inputs make_inputs(const Case& c, int dtype) {
  Inputs in;
  std::mt19937 random(17);
  std::normal_distribution<double> normal(0, c.scale);
  std::uniform_real_distribution<double> uniform;
  for (size_t s = 0; s < c.segments.size(); s++) {
    for (int i = 0; i < c.segments[s]; i++) {
      in.begin.push_back(in.rows);
      in.end.push_back(in.rows + c.segments[s]);
      in.segment.push_back(static_cast<int>(s));
    }
    in.rows += c.segments[s];
  }
  in.query = make_tensor(c, in.rows, dtype, kQuery);
  in.key = make_tensor(c, in.rows, dtype, kKey);
  in.value = make_tensor(c, in.rows, dtype, kValue);
  in.output = make_tensor(c, in.rows, dtype, kOutput);
  in.alive.resize(static_cast<size_t>(in.rows) * c.tokens);
  in.alive_row_stride = c.layout == kMixed ? 1 : c.tokens;
  in.alive_token_stride = c.layout == kMixed ? in.rows : 1;
  for (int row = 0; row < in.rows; row++)
    for (int token = 0; token < c.tokens; token++) {
      const bool alive = in.segment[row] != c.dead_segment && uniform(random) >= c.dead;
      const bool poisoned = in.segment[row] == c.poisoned_segment || (c.poisoned_dead && !alive);
      in.is_alive(row, token) = alive ? 7 : 0;  // any non-zero byte is alive
      for (int head = 0; head < c.heads; head++)
        for (int d = 0; d < c.head_dim; d++) {
          in.query.set(in.query.index(row, token, head, d), normal(random));
          in.key.set(in.key.index(row, token, head, d), poisoned ? NAN : normal(random));
          in.value.set(in.value.index(row, token, head, d), poisoned ? INFINITY : normal(random));
        }
    }
  return in;
}

ChronosGroupAttentionParams parameters(const Case& c, Inputs& in, int dtype) {
  ChronosGroupAttentionParams p = {};
  p.query = in.query.data();
  p.key = in.key.data();
  p.value = in.value.data();
  p.output = in.output.data();
  p.segment_begin = in.begin.data();
  p.segment_end = in.end.data();
  p.key_mask = in.alive.data();
  p.key_mask_row_stride = in.alive_row_stride;
  p.key_mask_token_stride = in.alive_token_stride;
  p.query_stride = in.query.stride;
  p.key_stride = in.key.stride;
  p.value_stride = in.value.stride;
  p.output_stride = in.output.stride;
  p.rows = in.rows;
  p.tokens = c.tokens;
  p.heads = c.heads;
  p.head_dim = c.head_dim;
  p.dtype = dtype;
  return p;
}

}  // namespace
