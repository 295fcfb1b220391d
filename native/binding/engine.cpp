#include "binding/engine.h"

#include <utility>

#include "binding/backends.h"
#include "binding/errors.h"

namespace baton {

namespace {

// The classes of one environment: a worker thread has its own.
struct Classes {
  Napi::FunctionReference engine;
};

char made_by_load;  // its address: no other addon's external value can have it

// What a load needs at least, for the message when the system refuses a part of it.
std::string wanted(const BackendOptions& options) {
  const ModelConfig& config = options.config;
  const int64_t element = options.weights == WeightType::f32 ? 4 : options.weights == WeightType::bf16 ? 2 : 1;
  const int64_t layer = int64_t(config.hidden) * (config.qkv_width() + config.q_width() + 3 * config.intermediate);
  const int64_t vocabulary = int64_t(config.vocabulary) * config.hidden * (config.tied_embedding ? 1 : 2);
  return "about " + std::to_string(element * (config.layers * layer + vocabulary)) + " bytes of weights and " +
         std::to_string(options.slots) + " slots of " + std::to_string(slot_bytes(options)) + " bytes";
}

}  // namespace

Napi::Function define_load(Napi::Env env) {
  env.SetInstanceData(new Classes{Napi::Persistent(Engine::define(env))});
  return Napi::Function::New<Engine::load>(env, "load");
}

Napi::Function Engine::define(Napi::Env env) {
  return DefineClass(env, "NativeEngine",
                     {InstanceMethod<&Engine::step>("step"), InstanceMethod<&Engine::close>("close")});
}

Engine::Engine(const Napi::CallbackInfo& info) : ObjectWrap(info), thread_(info.Env()) {
  if (!info[0].IsExternal() || info[0].As<Napi::External<char>>().Data() != &made_by_load) {
    throw to_js(info.Env(), Error("INVALID_ARGUMENT", "NativeEngine: expected load(), got new"));
  }
}

Napi::Value Engine::load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return promised(env, [&]() -> Napi::Value {
    REQUIRE(info[0].IsObject(), "INVALID_ARGUMENT", "options: expected an object");
    const Napi::Object options = info[0].As<Napi::Object>();
    const auto loading = std::make_shared<Loading>();
    loading->device = read_device(options);
    loading->files = read_files(options);
    loading->tensors = read_tensors(options);
    const Napi::Value on_progress = options.Get("onProgress");
    if (!on_progress.IsUndefined()) {
      REQUIRE(on_progress.IsFunction(), "INVALID_ARGUMENT", "onProgress: expected a function");
      loading->on_progress = Napi::Persistent(on_progress.As<Napi::Function>());
    }

    const Napi::Object object =
        env.GetInstanceData<Classes>()->engine.New({Napi::External<char>::New(env, &made_by_load)});
    Engine* engine = Unwrap(object);
    engine->rows_ = loading->device.backend.rows;
    return engine->thread_.run(
        EngineThread::Role::open, object,
        [engine, loading] {
          const std::optional<Error> failure = attempt([&] { engine->open(loading); });
          if (failure && !loading->given_up) throw *failure;
        },
        [engine, loading](Napi::Env) {
          if (loading->thrown) {
            engine->model_.reset();
            throw *loading->thrown;
          }
          engine->describe(*loading);
          return engine->Value();
        });
  });
}

void Engine::open(const std::shared_ptr<Loading>& loading) {
  const BackendOptions& options = loading->device.backend;
  try {
    const TensorFiles files(loading->files, loading->tensors);
    MadeBackend made = make_backend(loading->device);
    loading->name = made.device;
    loading->isa = made.isa;
    loading->threads = made.threads;
    Weights weights = load_weights(*made.backend, files, options.config, options.weights,
                                   [&](double share) { report(loading, share); });
    model_ = std::make_unique<Model>(std::move(made.backend), options, std::move(weights));
  } catch (const std::bad_alloc&) {
    throw Error("OUT_OF_MEMORY", "the system refused memory while loading " + wanted(options));
  }
}

void Engine::report(const std::shared_ptr<Loading>& loading, double share) {
  REQUIRE(!thread_.stopping() && !loading->given_up, "CLOSED", "the load was given up");
  if (loading->on_progress.IsEmpty()) return;
  thread_.post([loading, share](Napi::Env env) {
    if (loading->thrown) return;
    try {
      loading->on_progress.Call({Napi::Number::New(env, share)});
    } catch (const Napi::Error& error) {
      loading->thrown = error;
      loading->given_up = true;
    }
  });
}

void Engine::describe(const Loading& loading) {
  const BackendOptions& options = loading.device.backend;
  Napi::Object object = Value();
  const auto define = [&](const char* name, auto value) {
    object.DefineProperty(
        Napi::PropertyDescriptor::Value(name, Napi::Value::From(object.Env(), value), napi_enumerable));
  };
  define("device", loading.name);
  define("isa", loading.isa);
  define("threads", loading.threads);
  define("weights", name(options.weights));
  define("kv", name(options.kv));
  define("weightBytes", double(model_->weight_bytes()));
  define("slotBytes", double(slot_bytes(options)));
  define("slots", options.slots);
  define("hostSlots", options.host_slots);
}

std::shared_ptr<Engine::Step> Engine::take_step() {
  std::unique_ptr<Step> step;
  if (idle_steps_.empty()) {
    step = std::make_unique<Step>(Step{{}, ResultArguments(rows_), {}});
  } else {
    step = std::move(idle_steps_.back());
    idle_steps_.pop_back();
  }
  // The last owner is always a job, and jobs end on the JS thread.
  return {step.release(), [this](Step* done) {
            done->target.Reset();
            idle_steps_.emplace_back(done);
          }};
}

Napi::Value Engine::step(const Napi::CallbackInfo& info) {
  return promised(info.Env(), [&]() -> Napi::Value {
    REQUIRE(!thread_.closed(), "CLOSED", "the engine is closed");
    const std::shared_ptr<Step> step = take_step();
    step->plan.read(info[0]);
    step->result.begin(info[1], step->plan.view().runs);
    step->target = Napi::Persistent(info[1].As<Napi::Object>());
    return thread_.run(
        EngineThread::Role::use, Value(), [this, step] { model_->step(step->plan.view(), step->result.view()); },
        [step](Napi::Env env) {
          step->result.write(step->target.Value(), step->plan.view().runs);
          return env.Undefined();
        },
        [this](bool wait) { return model_->take(wait); });
  });
}

Napi::Value Engine::close(const Napi::CallbackInfo&) {
  return thread_.run(
      EngineThread::Role::close, Value(), [this] { model_.reset(); }, [](Napi::Env env) { return env.Undefined(); });
}

}  // namespace baton
