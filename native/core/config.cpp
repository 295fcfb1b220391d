#include "core/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "core/error.h"

namespace baton {

namespace {

// Far beyond any published model, and small enough that a product of any three of them fits int64.
constexpr int32_t kMaxLayers = 1 << 10;
constexpr int32_t kMaxHeads = 1 << 10;
constexpr int32_t kMaxHeadDim = 1 << 10;
constexpr int32_t kMaxWidth = 1 << 18;
constexpr int32_t kMaxVocabulary = 1 << 22;
constexpr int32_t kMaxContext = 1 << 24;

void require_range(const char* name, int32_t value, int32_t most) {
  REQUIRE(value >= 1 && value <= most, "MODEL_UNSUPPORTED",
          std::string(name) + ": expected 1 to " + std::to_string(most) + ", got " + std::to_string(value));
}

void require_positive(const char* name, double value) {
  REQUIRE(std::isfinite(value) && value > 0, "MODEL_UNSUPPORTED",
          std::string(name) + ": expected a positive number, got " + std::to_string(value));
}

// Hugging Face's definition of Llama 3's scaling: short wavelengths are kept, long ones stretched by `factor`, those
// between blended.
double llama3_frequency(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < scaling.original_context / scaling.high_frequency_factor) return frequency;
  if (wavelength > scaling.original_context / scaling.low_frequency_factor) return frequency / scaling.factor;
  const double smooth = (scaling.original_context / wavelength - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * frequency / scaling.factor + smooth * frequency;
}

}  // namespace

void ModelConfig::check() const {
  require_range("layers", layers, kMaxLayers);
  require_range("hidden", hidden, kMaxWidth);
  require_range("intermediate", intermediate, kMaxWidth);
  require_range("heads", heads, kMaxHeads);
  require_range("kvHeads", kv_heads, heads);
  require_range("headDim", head_dim, kMaxHeadDim);
  require_range("vocabulary", vocabulary, kMaxVocabulary);
  require_range("context", context, kMaxContext);
  REQUIRE(heads % kv_heads == 0, "MODEL_UNSUPPORTED",
          "kvHeads: expected a divisor of heads " + std::to_string(heads) + ", got " + std::to_string(kv_heads));
  REQUIRE(head_dim % 2 == 0, "MODEL_UNSUPPORTED",
          "headDim: expected an even number (rotary embedding pairs them), got " + std::to_string(head_dim));
  require_positive("rmsEps", rms_eps);
  require_positive("ropeTheta", rope_theta);
  if (rope_scaling.kind == RopeScaling::Kind::none) return;
  require_positive("ropeScaling.factor", rope_scaling.factor);
  if (rope_scaling.kind == RopeScaling::Kind::linear) return;
  require_positive("ropeScaling.originalContext", rope_scaling.original_context);
  require_positive("ropeScaling.lowFrequencyFactor", rope_scaling.low_frequency_factor);
  require_positive("ropeScaling.highFrequencyFactor", rope_scaling.high_frequency_factor);
  REQUIRE(rope_scaling.low_frequency_factor < rope_scaling.high_frequency_factor, "MODEL_UNSUPPORTED",
          "ropeScaling.highFrequencyFactor: expected more than lowFrequencyFactor " +
              std::to_string(rope_scaling.low_frequency_factor) + ", got " +
              std::to_string(rope_scaling.high_frequency_factor));
}

void fill_rope_table(const ModelConfig& config, float* table, int32_t context) {
  const int32_t half = config.head_dim / 2;
  for (int32_t i = 0; i < half; i++) {
    double frequency = std::pow(config.rope_theta, -2.0 * i / config.head_dim);
    if (config.rope_scaling.kind == RopeScaling::Kind::linear) frequency /= config.rope_scaling.factor;
    if (config.rope_scaling.kind == RopeScaling::Kind::llama3) {
      frequency = llama3_frequency(frequency, config.rope_scaling);
    }
    for (int32_t position = 0; position < context; position++) {
      float* row = table + int64_t(position) * config.head_dim;
      row[i] = float(std::cos(position * frequency));
      row[half + i] = float(std::sin(position * frequency));
    }
  }
}

}  // namespace baton
