// The kernels on the host emulator against float64: every case must stay inside a bound computed from its own numbers.
//
//   check            all cases, one line each, up to the first that fails
//   check NAME...    only the cases whose name starts so
#include "problem.h"

namespace {

using chronos::Tf32;

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
