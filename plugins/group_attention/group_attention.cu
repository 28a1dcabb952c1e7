// The C interface: check the arguments, pick the kernel, launch it.
#include "fma_kernel.cuh"
#include "mma_kernel.cuh"

namespace chronos {
namespace {

struct Choice {
  Kernel kernel;
  int shared_bytes;
};

bool is_aligned(const void* base, const ChronosStrides& stride, int64_t element_bytes) {
  const int64_t bits = reinterpret_cast<int64_t>(base) | stride.row * element_bytes | stride.token * element_bytes |
                       stride.head * element_bytes;
  return bits % 16 == 0;
}

// The fast kernels take rows of 64 numbers whose every row starts at a multiple of 16 bytes.
bool is_fast(const Params& p) {
  const int64_t bytes = p.dtype == CHRONOS_FLOAT32 ? 4 : 2;
  return p.head_dim == kHeadDim && is_aligned(p.query, p.query_stride, bytes) &&
         is_aligned(p.key, p.key_stride, bytes) && is_aligned(p.value, p.value_stride, bytes) &&
         is_aligned(p.output, p.output_stride, bytes);
}

Choice choose(const Params& p) {
  const bool fast = is_fast(p);
  switch (p.dtype) {
    case CHRONOS_FLOAT32:
      if (fast && p.allow_tf32) return {mma_kernel<Tf32>, kMmaSharedBytes<Tf32>};
      return fast ? Choice{fma_kernel, kFmaSharedBytes} : Choice{row_kernel<Float32>, 0};
    case CHRONOS_FLOAT16:
      return fast ? Choice{mma_kernel<Float16>, kMmaSharedBytes<Float16>} : Choice{row_kernel<Float16>, 0};
    default:
      return fast ? Choice{mma_kernel<BFloat16>, kMmaSharedBytes<BFloat16>} : Choice{row_kernel<BFloat16>, 0};
  }
}

constexpr int kMaxGrid = 65535;  // along y and z

int row_tiles(const Params& p) { return p.rows / kRowsPerBlock + (p.rows % kRowsPerBlock > 0); }

bool is_empty(const Params& p) { return p.rows == 0 || p.tokens == 0 || p.heads == 0; }

int check(const Params& p) {
  if (p.dtype < CHRONOS_FLOAT32 || p.dtype > CHRONOS_BFLOAT16) return CHRONOS_BAD_DTYPE;
  if (p.head_dim < 8 || p.head_dim > kMaxHeadDim || p.head_dim % 8 != 0) return CHRONOS_BAD_HEAD_DIM;
  if (p.rows < 0 || p.tokens < 0 || p.heads < 0) return CHRONOS_BAD_SHAPE;
  if (row_tiles(p) > kMaxGrid || p.tokens > kMaxGrid) return CHRONOS_BAD_SHAPE;
  if (is_empty(p)) return CHRONOS_OK;
  const void* pointers[] = {p.query, p.key, p.value, p.output, p.segment_begin, p.segment_end, p.key_mask};
  for (const void* pointer : pointers)
    if (pointer == nullptr) return CHRONOS_NULL_POINTER;
  return CHRONOS_OK;
}

}  // namespace
}  // namespace chronos

int chronos_group_attention(const ChronosGroupAttentionParams* params, CUstream_st* stream) {
  if (params == nullptr) return CHRONOS_NULL_POINTER;
  const int problem = chronos::check(*params);
  if (problem != CHRONOS_OK) return problem;
  if (chronos::is_empty(*params)) return CHRONOS_OK;
  const dim3 grid(params->heads, chronos::row_tiles(*params), params->tokens);
  const chronos::Choice choice = chronos::choose(*params);
  return chronos::launch(choice.kernel, grid, chronos::kThreads, choice.shared_bytes, stream, *params);
}

const char* chronos_group_attention_message(int result) {
  switch (result) {
    case CHRONOS_OK: return "success";
    case CHRONOS_BAD_DTYPE: return "dtype is none of float32, float16, bfloat16";
    case CHRONOS_BAD_HEAD_DIM: return "head_dim is not a multiple of 8 between 8 and 128";
    case CHRONOS_BAD_SHAPE: return "rows, tokens or heads is negative, rows are over 4194240, or tokens over 65535";
    case CHRONOS_NULL_POINTER: return "a pointer is null";
    default: return chronos::runtime_message(result);
  }
}

int chronos_group_attention_abi(void) { return CHRONOS_GROUP_ATTENTION_ABI; }
