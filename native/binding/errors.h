#pragma once

#include <napi.h>

#include <new>
#include <optional>
#include <utility>

#include "core/error.h"

namespace baton {

inline Napi::Error to_js(Napi::Env env, const Error& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  js.Set("code", error.code);
  return js;
}

// Where every native exception ends: runs `work` and returns what it threw. A JavaScript exception passes through.
template <typename Work>
std::optional<Error> attempt(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error;
  } catch (const Napi::Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    return Error("OUT_OF_MEMORY", "the system refused more memory");
  } catch (const std::exception& error) {
    return Error("INTERNAL", error.what());
  }
  return std::nullopt;
}

// For functions that JavaScript calls: what `body` returns, or its Error as a JavaScript exception.
template <typename Body>
Napi::Value guard(Napi::Env env, Body&& body) {
  Napi::Value result;
  const std::optional<Error> failure = attempt([&] { result = body(); });
  if (failure) throw to_js(env, *failure);
  return result;
}

// For functions that return a promise: what `body` returns, or a promise rejected with whatever it throws.
template <typename Body>
Napi::Value promised(Napi::Env env, Body&& body) {
  try {
    return guard(env, body);
  } catch (const Napi::Error& error) {
    const auto promise = Napi::Promise::Deferred::New(env);
    promise.Reject(error.Value());
    return promise.Promise();
  }
}

}  // namespace baton
