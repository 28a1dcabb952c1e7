// The kernels on the host emulator against float64: every case must stay inside a bound computed from its own numbers.
//
//   check            all cases, one line each, up to the first that fails
//   check NAME...    only the cases whose name starts so
#include "../group_attention.cu"

#include <string>

namespace {

using chronos::BFloat16;
using chronos::Float16;
using chronos::Tf32;

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

struct Answer {
  std::vector<double> output, bound;  // [head_dim]
};

// What is asked for.
struct Mode {
  const char* name;
  int dtype;
  bool allow_tf32 = false;
};

const Mode kModes[] = {{"float32", CHRONOS_FLOAT32},
                       {"tf32", CHRONOS_FLOAT32, true},
                       {"float16", CHRONOS_FLOAT16},
                       {"bfloat16", CHRONOS_BFLOAT16}};

// Unit roundoffs of what is rounded on the way, besides float32 sums.
struct Rounding {
  double inputs = 0, weights = 0, output = 0x1p-24;
  bool inputs_are_known = false;  // the answer is that of the inputs after their rounding to tf32
};

bool is_fast(const Case& c) { return c.head_dim == 64 && c.layout != kUnaligned; }
bool is_poisoned(const Case& c) { return c.poisoned_segment >= 0 || c.poisoned_dead; }

// tf32 has 10 bits of mantissa. It is held to float64, and where no row is answered again in float32, also to float64
// with the inputs that its products see: that bound is narrow enough to tell rounding from truncating.
std::vector<Rounding> roundings(const Case& c, const Mode& mode) {
  if (mode.dtype == CHRONOS_FLOAT16) return {{0, 0x1p-11, 0x1p-11}};
  if (mode.dtype == CHRONOS_BFLOAT16) return {{0, 0x1p-8, 0x1p-8}};
  if (!mode.allow_tf32 || !is_fast(c)) return {{}};
  const Rounding whole{0x1p-11, 0x1p-11}, known{0, 0x1p-11, 0x1p-24, true};
  return is_poisoned(c) ? std::vector<Rounding>{whole} : std::vector<Rounding>{whole, known};
}

// The attention of one row in float64, and how far float32 arithmetic with this rounding may be from it.
Answer answer(const Case& c, const Inputs& in, const Rounding& rounding, int row, int token, int head) {
  Answer result{std::vector<double>(c.head_dim, 0.0), std::vector<double>(c.head_dim, 0.0)};
  if (!in.is_alive(row, token)) return result;
  const double u32 = 0x1p-24;
  const bool copied = in.end[row] - in.begin[row] == 1;
  const auto number = [&](const Tensor& t, int of, int d) {
    const double x = t.get(t.index(of, token, head, d));
    return rounding.inputs_are_known && !copied ? __uint_as_float(Tf32::round(static_cast<float>(x))) : x;
  };
  std::vector<int> keys;
  std::vector<double> scores;
  double largest = -INFINITY, magnitude = 0, total = 0;
  for (int key = in.begin[row]; key < in.end[row]; key++) {
    if (!in.is_alive(key, token)) continue;
    double score = 0, size = 0;
    for (int d = 0; d < c.head_dim; d++) {
      const double product = number(in.query, row, d) * number(in.key, key, d);
      score += product;
      size += std::fabs(product);
    }
    keys.push_back(key);
    scores.push_back(score);
    largest = std::max(largest, score);
    magnitude = std::max(magnitude, size);
  }
  for (double score : scores) total += std::exp(score - largest);
  const double product_error = 2 * rounding.inputs + rounding.inputs * rounding.inputs;
  const double score_error = 2 * (c.head_dim * u32 + product_error) * magnitude;  // of a score and of the largest
  const double rounded = rounding.inputs + (keys.size() == 1 ? 0 : rounding.weights);  // a weight of 1 is exact
  for (int d = 0; d < c.head_dim; d++) {
    double output = 0, bound = 0;
    for (size_t i = 0; i < keys.size(); i++)
      output += std::exp(scores[i] - largest) / total * number(in.value, keys[i], d);
    for (size_t i = 0; i < keys.size(); i++) {
      const double weight_error = std::expm1(score_error + rounded) + 3 * u32 * (largest - scores[i]) + 0x1p-21 +
                                  (keys.size() + 8.0) * u32;
      bound += std::exp(scores[i] - largest) / total * (std::fabs(number(in.value, keys[i], d)) + std::fabs(output)) *
               weight_error;
    }
    result.output[d] = output;
    const double smallest = rounding.output == 0x1p-11 ? 0x1p-24 : 0x1p-126;  // float16's subnormals are coarse
    result.bound[d] = copied ? 0 : bound + rounding.output * std::fabs(output) + smallest;
  }
  return result;
}

// The largest error as a share of its bound; infinity if a number is missing or an untouched one was written.
double worst_share(const Case& c, const Inputs& in, const Rounding& rounding) {
  double worst = 0;
  std::vector<bool> answered(in.output.floats.size() + in.output.halves.size(), false);
  for (int row = 0; row < in.rows; row++)
    for (int token = 0; token < c.tokens; token++)
      for (int head = 0; head < c.heads; head++) {
        const Answer expected = answer(c, in, rounding, row, token, head);
        for (int d = 0; d < c.head_dim; d++) {
          const int64_t i = in.output.index(row, token, head, d);
          answered[i] = true;
          if (in.segment[row] == c.poisoned_segment && in.is_alive(row, token)) continue;
          const double error = std::fabs(in.output.get(i) - expected.output[d]);
          if (std::isnan(error)) return INFINITY;
          if (error > 0) worst = std::max(worst, error / expected.bound[d]);
        }
      }
  for (size_t i = 0; i < answered.size(); i++)
    if (!answered[i] && in.output.get(static_cast<int64_t>(i)) != kUntouched) return INFINITY;
  return worst;
}

bool run(const Case& c, const Mode& mode) {
  Inputs in = make_inputs(c, mode.dtype);
  ChronosGroupAttentionParams p = parameters(c, in, mode.dtype);
  p.allow_tf32 = mode.allow_tf32;
  chronos::slow_paths = 0;
  const int code = chronos_group_attention(&p, nullptr);
  double share = 0;
  for (const Rounding& rounding : roundings(c, mode)) share = std::max(share, worst_share(c, in, rounding));
  const bool good = code == CHRONOS_OK && share <= 1 && (chronos::slow_paths > 0) == (is_poisoned(c) && is_fast(c));
  std::printf("%-24s %-9s rows %4d  error/bound %9.3g  slow paths %d  %s\n", c.name.c_str(), mode.name, in.rows, share,
              chronos::slow_paths, good ? "ok" : "FAILED");
  return good;
}

bool expect(const char* what, int code, int expected) {
  const bool good = code == expected && chronos_group_attention_message(code)[0] != '\0';
  std::printf("%-24s %-9s result %d  %s\n", "arguments", what, code, good ? "ok" : "FAILED");
  return good;
}

bool run_argument_checks() {
  Case c{"arguments", {1}};
  Inputs in = make_inputs(c, CHRONOS_FLOAT32);
  const ChronosGroupAttentionParams right = parameters(c, in, CHRONOS_FLOAT32);
  auto result_with = [&](auto change) {
    ChronosGroupAttentionParams p = right;
    change(p);
    return chronos_group_attention(&p, nullptr);
  };
  bool good = expect("null", chronos_group_attention(nullptr, nullptr), CHRONOS_NULL_POINTER);
  good &= expect("dtype", result_with([](auto& p) { p.dtype = 3; }), CHRONOS_BAD_DTYPE);
  good &= expect("dim 60", result_with([](auto& p) { p.head_dim = 60; }), CHRONOS_BAD_HEAD_DIM);
  good &= expect("dim 136", result_with([](auto& p) { p.head_dim = 136; }), CHRONOS_BAD_HEAD_DIM);
  good &= expect("dim 0", result_with([](auto& p) { p.head_dim = 0; }), CHRONOS_BAD_HEAD_DIM);
  good &= expect("rows", result_with([](auto& p) { p.rows = -1; }), CHRONOS_BAD_SHAPE);
  good &= expect("grid", result_with([](auto& p) { p.tokens = p.heads = p.rows = INT32_MAX; }), CHRONOS_BAD_SHAPE);
  good &= expect("mask", result_with([](auto& p) { p.key_mask = nullptr; }), CHRONOS_NULL_POINTER);
  good &= expect("no rows", result_with([](auto& p) { p.rows = 0; p.query = nullptr; }), CHRONOS_OK);
  return good;
}

std::vector<Case> cases() {
  std::vector<Case> list = {
      {"one-row", {1}},
      {"singles", std::vector<int>(70, 1)},
      {"pairs", std::vector<int>(40, 2)},
      {"twenties", {20, 20, 20, 20, 20, 20, 20}},
      {"edges-16", {7, 15, 16, 17, 1, 15, 2}},
      {"edges-32", {31, 32, 33, 1, 1, 31}},
      {"edges-64", {63, 64, 65}},
      {"edges-128", {3, 129, 1, 127, 128}, 1, 2},
      {"ragged", {1, 2, 20, 7, 16, 17, 33, 1, 1, 1, 5, 64, 3}},
      {"all-rows", {300}, 1, 1},
      {"singles-among-large", {1, 1, 90, 1, 1, 1, 100, 1}, 1, 2},
  };
  list.push_back({"all-alive", {20, 1, 43, 2}});
  list.back().dead = 0;
  list.push_back({"mostly-dead", {40, 1, 30, 20}});
  list.back().dead = 0.95;
  list.push_back({"dead-segment", {20, 30, 1, 20}});
  list.back().dead_segment = 1;
  list.push_back({"dead-single", {1, 1, 1, 20}});
  list.back().dead_segment = 1;
  list.push_back({"all-dead", {20, 1, 20}});
  list.back().dead = 1;
  list.push_back({"huge-scores", {20, 45, 3, 70}});
  list.back().scale = 12;  // scores of some thousands
  list.push_back({"tiny-scores", {20, 45}});
  list.back().scale = 1e-3;
  list.push_back({"poisoned-neighbour", {20, 20, 20, 20}});
  list.back().poisoned_segment = 1;
  list.push_back({"poisoned-dead", {20, 20, 20}});
  list.back().poisoned_dead = true;
  const std::vector<int> mixed = {1, 20, 2, 33, 17, 1};
  list.push_back({"tokens-first", mixed, 3, 2, 64, kTokensFirst});
  list.push_back({"heads-first", mixed, 3, 2, 64, kHeadsFirst});
  list.push_back({"fused", mixed, 3, 2, 64, kFused});
  list.push_back({"unaligned", mixed, 2, 2, 64, kUnaligned});
  list.push_back({"each-its-layout", mixed, 3, 2, 64, kMixed});
  list.push_back({"each-its-layout-40", mixed, 3, 2, 40, kMixed});
  for (int dim : {8, 16, 24, 40, 56, 72, 96, 128})
    list.push_back({"head-dim-" + std::to_string(dim), {1, 20, 2, 18}, 2, 2, dim, dim % 16 ? kFused : kRowsFirst});
  return list;
}

// Segments that are no segments, as TensorRT's builder may give them: whatever comes out, nothing else is touched.
bool run_with_any_segments(const Mode& mode, int head_dim) {
  Case c{"any-segments", {70, 60}, 2, 2, head_dim};
  Inputs in = make_inputs(c, mode.dtype);
  std::mt19937 random(3);
  const int32_t bounds[] = {INT32_MIN, INT32_MAX, -1, 0, 1, 63, 64, in.rows, in.rows + 1, 1 << 30, -(1 << 30)};
  const auto any = [&] { return random() % 2 ? bounds[random() % std::size(bounds)] : static_cast<int32_t>(random()); };
  for (int row = 0; row < in.rows; row++) {
    in.begin[row] = any();
    in.end[row] = any();
  }
  ChronosGroupAttentionParams p = parameters(c, in, mode.dtype);
  p.allow_tf32 = mode.allow_tf32;
  const bool good = chronos_group_attention(&p, nullptr) == CHRONOS_OK;
  std::printf("%-24s %-9s head_dim %d  %s\n", "any-segments", mode.name, head_dim, good ? "ok" : "FAILED");
  return good;
}

bool is_wanted(const std::string& name, int count, char** prefixes) {
  for (int i = 1; i < count; i++)
    if (name.rfind(prefixes[i], 0) == 0) return true;
  return count == 1;
}

}  // namespace

int main(int count, char** prefixes) {
  int passed = 0;
  if (is_wanted("arguments", count, prefixes)) {
    if (!run_argument_checks()) return 1;
    passed++;
  }
  for (const Case& c : cases()) {
    if (!is_wanted(c.name, count, prefixes)) continue;
    for (const Mode& mode : kModes) {
      if (!run(c, mode)) return 1;
      passed++;
    }
  }
  if (is_wanted("any-segments", count, prefixes))
    for (const Mode& mode : kModes)
      for (int head_dim : {64, 40}) {
        if (!run_with_any_segments(mode, head_dim)) return 1;
        passed++;
      }
  std::printf("%d cases passed\n", passed);
  return passed == 0;
}
