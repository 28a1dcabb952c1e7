// Forecast the Nile's flow with an exported model in C++: onnxruntime's C API through its C++ header.
//
//   g++ -std=c++17 -I$ONNXRUNTIME_INCLUDE_DIR forecast.cpp -L$ONNXRUNTIME_LIB_DIR -lonnxruntime -o forecast
//   ./forecast ARTIFACT nile.csv
//
// Prints the median forecast of the next 10 years, one number a line.

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

constexpr int64_t kSteps = 10;
constexpr int64_t kMedian = 10;  // of the 21 quantile levels 0.01, 0.05, 0.1, ..., 0.5, ..., 0.99

static std::vector<float> read_series(const std::string& path) {
  std::ifstream file(path);
  std::vector<float> series;
  for (float value; file >> value;) series.push_back(value);
  return series;
}

static std::vector<float> median_forecast(Ort::Session& session, std::vector<float>& series) {
  std::vector<int64_t> group_ids{0};
  std::vector<float> unknown(kSteps, NAN);
  const std::array<int64_t, 2> context_shape{1, static_cast<int64_t>(series.size())};
  const std::array<int64_t, 1> ids_shape{1};
  const std::array<int64_t, 2> future_shape{1, kSteps};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  std::vector<Ort::Value> inputs;
  inputs.push_back(Ort::Value::CreateTensor<float>(memory, series.data(), series.size(), context_shape.data(), 2));
  inputs.push_back(Ort::Value::CreateTensor<int64_t>(memory, group_ids.data(), 1, ids_shape.data(), 1));
  inputs.push_back(Ort::Value::CreateTensor<float>(memory, unknown.data(), kSteps, future_shape.data(), 2));
  const char* input_names[] = {"context", "group_ids", "future_covariates"};
  const char* output_names[] = {"quantile_preds"};
  auto outputs = session.Run(Ort::RunOptions{nullptr}, input_names, inputs.data(), 3, output_names, 1);
  const int64_t width = outputs[0].GetTensorTypeAndShapeInfo().GetShape()[2];  // [1, quantiles, 16]
  const float* values = outputs[0].GetTensorData<float>() + kMedian * width;
  return {values, values + kSteps};
}

int main(int count, char** arguments) try {
  if (count != 3) {
    std::fprintf(stderr, "usage: forecast ARTIFACT SERIES.csv\n");
    return 2;
  }
  auto series = read_series(arguments[2]);
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "chronos");
  Ort::Session session(env, (std::string(arguments[1]) + "/model.onnx").c_str(), Ort::SessionOptions{});
  for (float value : median_forecast(session, series)) std::printf("%.3f\n", value);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
