#pragma once

#include <napi.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/engine_thread.h"
#include "core/model.h"

namespace baton {

// `load` of the addon.
Napi::Function define_load(Napi::Env env);

// A loaded model with its own thread: `NativeEngine` of src/native.ts. Made by load only.
class Engine : public Napi::ObjectWrap<Engine> {
 public:
  static Napi::Function define(Napi::Env env);

  static Napi::Value load(const Napi::CallbackInfo& info);  // a promise of an engine

  explicit Engine(const Napi::CallbackInfo& info);

 private:
  struct Loading {
    DeviceArguments device;
    std::vector<std::string> files;
    std::vector<TensorEntry> tensors;
    Napi::FunctionReference on_progress;  // empty where nobody asked
    std::optional<Napi::Error> thrown;    // by on_progress; JS thread only
    std::atomic<bool> given_up = false;   // because of that
    std::string name, isa;                // what was chosen
    int32_t threads = 0;
  };

  // A step on its way. Used again and again: nothing is allocated once as many exist as are ever under way.
  struct Step {
    PlanArguments plan;
    ResultArguments result;
    Napi::ObjectReference target;  // where the result goes, on the JS thread
  };

  Napi::Value step(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  void open(const std::shared_ptr<Loading>& loading);                  // engine thread
  void report(const std::shared_ptr<Loading>& loading, double share);  // engine thread
  void describe(const Loading& loading);
  std::shared_ptr<Step> take_step();

  int32_t rows_ = 0;
  std::vector<std::unique_ptr<Step>> idle_steps_;  // JS thread only
  std::unique_ptr<Model> model_;                   // engine thread only, from open() to close()
  EngineThread thread_;                            // last, so that it has ended before anything above goes
};

}  // namespace baton
