#pragma once

#include <stdexcept>
#include <string>

namespace baton {

// The only exception native code throws. `code` is public API, listed in src/errors.ts; a string literal.
struct Error : std::runtime_error {
  const char* code;
  Error(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}
};

// For conditions a caller can cause. Conditions only we can cause use assert().
#define REQUIRE(condition, code, message)                  \
  do {                                                     \
    if (!(condition)) throw ::baton::Error(code, message); \
  } while (0)

}  // namespace baton
