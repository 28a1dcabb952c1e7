// A small attention problem and its answer in float64, for any of the kernel's types.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

constexpr int32_t kRows = 11, kTokens = 3, kHeads = 2, kHeadDim = 64, kWidth = kHeads * kHeadDim;

// Half the distance from 1 to the next number.
template <class T>
constexpr double kRoundoff = 0x1p-24;
template <>
constexpr double kRoundoff<__half> = 0x1p-11;
template <>
constexpr double kRoundoff<__nv_bfloat16> = 0x1p-8;

template <class T>
struct Problem {
    std::vector<T> query, key, value, output;
    std::vector<int32_t> begin, end;
    std::vector<uint8_t> mask;
    std::vector<double> wanted;
    double bound;      // of an element's error
    double tf32Bound;  // the same where float32 is multiplied in tf32
};

inline size_t place(int32_t row, int32_t token, int32_t head) {
    return static_cast<size_t>((row * kTokens + token) * kWidth + head * kHeadDim);
}

// By definition, in float64.
template <class T>
void solve(Problem<T>& p) {
    double largestValue = 0, largestProducts = 0;
    auto at = [](std::vector<T> const& values, size_t i) { return static_cast<double>(static_cast<float>(values[i])); };
    for (int32_t i = 0; i < kRows * kTokens * kHeads; ++i) {
        int32_t const row = i / (kTokens * kHeads), token = i / kHeads % kTokens, head = i % kHeads;
        double total = 0, sums[kHeadDim] = {};
        for (int32_t other = p.begin[row]; other < p.end[row]; ++other) {
            double score = 0, products = 0;
            for (int32_t d = 0; d < kHeadDim; ++d) {
                double const product = at(p.query, place(row, token, head) + d) * at(p.key, place(other, token, head) + d);
                score += product;
                products += std::fabs(product);
            }
            double const weight = p.mask[other * kTokens + token] ? std::exp(score) : 0;
            total += weight;
            largestProducts = std::max(largestProducts, products);
            for (int32_t d = 0; d < kHeadDim; ++d) {
                double const value = at(p.value, place(other, token, head) + d);
                sums[d] += weight * value;
                largestValue = std::max(largestValue, std::fabs(value));
            }
        }
        for (int32_t d = 0; d < kHeadDim && total > 0 && p.mask[row * kTokens + token]; ++d) {
            p.wanted[place(row, token, head) + d] = sums[d] / total;
        }
    }
    // A weight is off by the float32 rounding of its score's products, and once by its own type; so is their sum,
    // and the result is rounded once more.
    p.bound = largestValue * (2 * (kHeadDim * 0x1p-24 * largestProducts + kRoundoff<T>) + kRoundoff<T>);
    // tf32 rounds both factors of every product: those of a score and of the largest, and a weight and its value.
    constexpr double tf32 = 0x1p-11, product = 2 * tf32 + tf32 * tf32;
    p.tf32Bound = 2 * largestValue * std::expm1(2 * product * largestProducts + product) + p.bound;
}

// Segments of 1, 4, 1 and 5 rows; a dead query, which is a dead key too, a dead single and a segment dead at token 0.
template <class T>
Problem<T> makeProblem() {
    constexpr size_t size = kRows * kTokens * kWidth;
    Problem<T> p{std::vector<T>(size), std::vector<T>(size), std::vector<T>(size), std::vector<T>(size, T(std::nanf(""))),
                 {0, 1, 1, 1, 1, 5, 6, 6, 6, 6, 6}, {1, 5, 5, 5, 5, 6, 11, 11, 11, 11, 11},
                 std::vector<uint8_t>(kRows * kTokens, 1), std::vector<double>(size, 0.0), 0, 0};
    std::mt19937 random(0);
    std::normal_distribution<float> normal(0.f, 0.4f);
    for (std::vector<T>* values : {&p.query, &p.key, &p.value}) {
        std::generate(values->begin(), values->end(), [&] { return T(normal(random)); });
    }
    p.mask[2 * kTokens + 1] = p.mask[5 * kTokens + 2] = 0;
    for (int32_t row = 6; row < kRows; ++row) {
        p.mask[row * kTokens] = 0;
    }
    solve(p);
    return p;
}
