// chronos_group_attention on the host, by its definition: shows that enqueue hands over what the kernel needs.
#include "group_attention.h"

#include <cmath>
#include <vector>

namespace {

float const* at(void const* base, ChronosStrides stride, int64_t row, int64_t token, int64_t head) {
    return static_cast<float const*>(base) + row * stride.row + token * stride.token + head * stride.head;
}

void attend(ChronosGroupAttentionParams const& p, int row, int token, int head) {
    auto alive = [&](int64_t r) { return p.key_mask[r * p.key_mask_row_stride + token * p.key_mask_token_stride] != 0; };
    std::vector<double> sums(p.head_dim, 0.0);
    double total = 0;
    for (int other = p.segment_begin[row]; other < p.segment_end[row] && alive(row); ++other) {
        double score = 0;
        for (int d = 0; d < p.head_dim; ++d) {
            score += double(at(p.query, p.query_stride, row, token, head)[d]) *
                     at(p.key, p.key_stride, other, token, head)[d];
        }
        double const weight = alive(other) ? std::exp(score) : 0;
        total += weight;
        for (int d = 0; d < p.head_dim; ++d) {
            sums[d] += weight * at(p.value, p.value_stride, other, token, head)[d];
        }
    }
    float* output = const_cast<float*>(at(p.output, p.output_stride, row, token, head));
    for (int d = 0; d < p.head_dim; ++d) {
        output[d] = total > 0 ? static_cast<float>(sums[d] / total) : 0.f;
    }
}

}  // namespace

extern "C" int chronos_group_attention(ChronosGroupAttentionParams const* params, CUstream_st*) {
    if (params->dtype != CHRONOS_FLOAT32) {
        return 100 + params->dtype;  // Only the harness asks, to see that the type arrives.
    }
    for (int row = 0; row < params->rows; ++row) {
        for (int token = 0; token < params->tokens; ++token) {
            for (int head = 0; head < params->heads; ++head) {
                attend(*params, row, token, head);
            }
        }
    }
    return CHRONOS_OK;
}
