// Launches every kernel on small inputs in buffers of exactly the size needed. For compute-sanitizer, which watches;
// by itself it checks only that launches succeed and that every output is written.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "group_attention.h"

namespace {

void require(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* on_device(const std::vector<T>& numbers) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, numbers.size() * sizeof(T)), "cudaMalloc");
  require(cudaMemcpy(memory, numbers.data(), numbers.size() * sizeof(T), cudaMemcpyHostToDevice), "copy in");
  return static_cast<T*>(memory);
}

struct Segments {
  std::vector<int32_t> begin, end;
  explicit Segments(const std::vector<int>& lengths) {
    for (int length : lengths) {
      const int first = static_cast<int>(begin.size());
      begin.insert(begin.end(), length, first);
      end.insert(end.end(), length, first + length);
    }
  }
  int rows() const { return static_cast<int>(begin.size()); }
};

// Small numbers of either sign, in each type's bits.
std::vector<uint8_t> random_numbers(int dtype, size_t count) {
  static const uint32_t one[] = {0x3f800000u, 0x3c00u, 0x3f80u};
  const size_t size = dtype == CHRONOS_FLOAT32 ? 4 : 2;
  std::vector<uint8_t> bytes(count * size);
  for (size_t i = 0; i < count; i++) {
    const uint32_t number = one[dtype] - (std::rand() % 64) * (one[dtype] / 2048) + ((std::rand() % 2) << (8 * size - 1));
    for (size_t b = 0; b < size; b++) bytes[i * size + b] = static_cast<uint8_t>(number >> (8 * b));
  }
  return bytes;
}

void launch(const std::vector<int>& lengths, int head_dim, int dtype, bool allow_tf32) {
  const int tokens = 2, heads = 2;
  const Segments segments(lengths);
  const size_t count = static_cast<size_t>(segments.rows()) * tokens * heads * head_dim;
  std::vector<uint8_t> alive(static_cast<size_t>(segments.rows()) * tokens);
  for (uint8_t& a : alive) a = std::rand() % 5 != 0;
  uint8_t* inputs[3];
  for (uint8_t*& input : inputs) input = on_device(random_numbers(dtype, count));
  const size_t bytes = count * (dtype == CHRONOS_FLOAT32 ? 4 : 2);
  void* output = nullptr;
  require(cudaMalloc(&output, bytes), "cudaMalloc");  // left uninitialized: initcheck notices what is not written

  ChronosGroupAttentionParams p = {};
  p.query = inputs[0];
  p.key = inputs[1];
  p.value = inputs[2];
  p.output = output;
  int32_t* begin = on_device(segments.begin);
  int32_t* end = on_device(segments.end);
  uint8_t* mask = on_device(alive);
  p.segment_begin = begin;
  p.segment_end = end;
  p.key_mask = mask;
  p.key_mask_row_stride = tokens;
  p.key_mask_token_stride = 1;
  const ChronosStrides stride = {static_cast<int64_t>(tokens) * heads * head_dim, heads * head_dim, head_dim};
  p.query_stride = p.key_stride = p.value_stride = p.output_stride = stride;
  p.rows = segments.rows();
  p.tokens = tokens;
  p.heads = heads;
  p.head_dim = head_dim;
  p.dtype = dtype;
  p.allow_tf32 = allow_tf32;
  const int result = chronos_group_attention(&p, nullptr);
  if (result != CHRONOS_OK) {
    std::fprintf(stderr, "launch: %s\n", chronos_group_attention_message(result));
    std::exit(1);
  }
  std::vector<uint8_t> back(bytes);
  require(cudaMemcpy(back.data(), output, bytes, cudaMemcpyDeviceToHost), "copy back");
  for (void* memory : {static_cast<void*>(begin), static_cast<void*>(end), static_cast<void*>(mask), output})
    require(cudaFree(memory), "cudaFree");
  for (uint8_t* input : inputs) require(cudaFree(input), "cudaFree");
}

}  // namespace

int main() {
  const std::vector<std::vector<int>> patterns = {
      {1}, std::vector<int>(70, 1), {20, 20, 20, 20}, {7, 15, 16, 17, 1, 33, 65}, {150}};
  int launches = 0;
  for (int dtype : {CHRONOS_FLOAT32, CHRONOS_FLOAT16, CHRONOS_BFLOAT16})
    for (int head_dim : {64, 40})
      for (const std::vector<int>& pattern : patterns) launch(pattern, head_dim, dtype, false), launches++;
  for (const std::vector<int>& pattern : patterns) launch(pattern, 64, CHRONOS_FLOAT32, true), launches++;
  std::printf("%d launches\n", launches);
  return 0;
}
