/* Group attention over sorted rows: the C interface of libchronos_group_attention.so.
 *
 * One launch computes, for every row, token and head,
 *     output = softmax(query . key) value        over the alive keys of the row's own segment, same token,
 * with no score scaling and a float32 softmax. Rows are sorted by group, so a group is a segment of
 * consecutive rows. A dead query, and a segment with no alive key, gives 0.
 *
 * float32 numbers are multiplied as they are unless `allow_tf32` is set: then queries, keys, values and weights are
 * rounded to tf32's 10 bits of mantissa where head_dim is 64 and every row starts at a multiple of 16 bytes. Sums are
 * float32 in every type.
 *
 * The call only enqueues work on `stream`: no allocation, no host synchronization, no output to the
 * terminal, no exception; it can be captured into a CUDA graph. Results are deterministic.
 */
#ifndef CHRONOS_GROUP_ATTENTION_H
#define CHRONOS_GROUP_ATTENTION_H

#include <stdint.h>

#if defined(__GNUC__)
#define CHRONOS_EXPORT __attribute__((visibility("default")))
#else
#define CHRONOS_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised whenever ChronosGroupAttentionParams or the meaning of a field changes. */
#define CHRONOS_GROUP_ATTENTION_ABI 1

struct CUstream_st; /* cudaStream_t is a pointer to it */

enum ChronosDtype { CHRONOS_FLOAT32 = 0, CHRONOS_FLOAT16 = 1, CHRONOS_BFLOAT16 = 2 };

/* A positive result of chronos_group_attention is a cudaError_t; these are its other results. */
enum ChronosResult {
  CHRONOS_OK = 0,
  CHRONOS_BAD_DTYPE = -1,    /* not one of ChronosDtype */
  CHRONOS_BAD_HEAD_DIM = -2, /* not a multiple of 8 in 8..128 */
  CHRONOS_BAD_SHAPE = -3,    /* a negative size, rows > 4194240, or tokens > 65535 */
  CHRONOS_NULL_POINTER = -4
};

/* Distance in elements between neighbours along each dimension; head_dim itself is contiguous. */
typedef struct ChronosStrides {
  int64_t row, token, head;
} ChronosStrides;

typedef struct ChronosGroupAttentionParams {
  const void* query; /* dtype [rows, tokens, heads, head_dim], addressed by its strides; likewise key, value, output */
  const void* key;
  const void* value;
  void* output; /* must not overlap the inputs */

  const int32_t* segment_begin; /* int32 [rows]: sorted row i attends rows segment_begin[i] <= j < segment_end[i] */
  const int32_t* segment_end;   /* int32 [rows] */
  const uint8_t* key_mask;      /* bool [rows, tokens], non-zero = alive */
  int64_t key_mask_row_stride;  /* elements */
  int64_t key_mask_token_stride;

  ChronosStrides query_stride, key_stride, value_stride, output_stride;

  int32_t rows, tokens, heads, head_dim;
  int32_t dtype;      /* enum ChronosDtype */
  int32_t allow_tf32; /* 0: float32 products are exact; 1: tf32 will do, and is used where it can be */
} ChronosGroupAttentionParams;

/* Enqueue the attention on `stream`; CHRONOS_OK, another ChronosResult, or a cudaError_t. */
CHRONOS_EXPORT int chronos_group_attention(const ChronosGroupAttentionParams* params, struct CUstream_st* stream);

/* A short English sentence for a result; static storage, never null. */
CHRONOS_EXPORT const char* chronos_group_attention_message(int result);

/* The library's CHRONOS_GROUP_ATTENTION_ABI: compare before the first call. */
CHRONOS_EXPORT int chronos_group_attention_abi(void);

#ifdef __cplusplus
}
#endif
#endif
