#include "binding/engine_thread.h"

#include <chrono>

#include "binding/errors.h"
#include "core/backend.h"

namespace baton {

namespace {

// Between two looks at a device that computes while no further job is there: a fraction of a step.
constexpr auto kPoll = std::chrono::microseconds(50);

}  // namespace

EngineThread::EngineThread(Napi::Env env) : env_(env), deliver_(Wake::New(env, "baton engine", 0, 1, this)) {
  deliver_.Unref(env);
  thread_ = std::thread([this] { loop(); });
  // Hooks run in reverse order: this one before deliver_'s own, after which deliver_ may no longer be called.
  napi_add_env_cleanup_hook(env, stop_at_exit, this);
}

EngineThread::~EngineThread() { stop(); }

Napi::Promise EngineThread::run(Role role, Napi::Object owner, Work work, Finish finish, Take take) {
  auto promise = Napi::Promise::Deferred::New(env_);
  if (!thread_.joinable() && role == Role::close) {
    promise.Resolve(env_.Undefined());
    return promise.Promise();
  }
  if (closed_ && role != Role::close) {
    promise.Reject(to_js(env_, Error("CLOSED", "the engine is closed")).Value());
    return promise.Promise();
  }
  if (role == Role::close) closed_ = true;
  auto job = std::make_shared<Job>(
      Job{role, promise, Napi::Persistent(owner), std::move(work), std::move(finish), std::move(take), std::nullopt});
  {
    const std::lock_guard lock(mutex_);
    queued_.push_back(std::move(job));
  }
  wake_.notify_one();
  if (pending_++ == 0) deliver_.Ref(env_);  // the event loop stays alive only while there is work
  return promise.Promise();
}

void EngineThread::post(Delivery delivery) {
  {
    const std::lock_guard lock(mutex_);
    deliveries_.push_back(std::move(delivery));
  }
  deliver_.NonBlockingCall();
}

void EngineThread::loop() {
  for (;;) {
    std::shared_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      const auto called = [this] { return stopping_ || !queued_.empty(); };
      if (underway_.empty()) {
        wake_.wait(lock, called);
      } else {
        wake_.wait_for(lock, kPoll, called);
      }
      if (stopping_) return;
      if (!queued_.empty()) {
        job = std::move(queued_.front());
        queued_.pop_front();
      }
    }
    if (job == nullptr) {
      take_oldest(false);
      continue;
    }
    while (job->role != Role::use && !underway_.empty()) take_oldest(true);
    start(std::move(job));
    while (underway_.size() == kStepsUnderway) take_oldest(true);
  }
}

void EngineThread::start(std::shared_ptr<Job> job) {
  if (closed_ && job->role == Role::use) {
    job->failure = Error("CLOSED", "the engine was closed before this step began");
  } else {
    job->failure = attempt(job->work);
  }
  const bool carried_out = job->failure || !job->take;
  underway_.push_back(std::move(job));
  while (carried_out && underway_.size() > 1) take_oldest(true);  // jobs settle in order
  take_oldest(carried_out);
}

bool EngineThread::take_oldest(bool wait) {
  Job& oldest = *underway_.front();
  if (!oldest.failure && oldest.take) {
    bool taken = true;
    oldest.failure = attempt([&] { taken = oldest.take(wait); });
    if (!taken) return false;
  }
  post([this, job = std::move(underway_.front())](Napi::Env env) { settle(env, *job); });
  underway_.pop_front();
  return true;
}

void EngineThread::deliver(Napi::Env env, Napi::Function, EngineThread* thread, void*) {
  if (env == nullptr) return;  // the environment has ended, and `thread` perhaps with it
  std::deque<Delivery> deliveries;
  {
    const std::lock_guard lock(thread->mutex_);
    deliveries.swap(thread->deliveries_);
  }
  for (const Delivery& delivery : deliveries) {
    const Napi::HandleScope scope(env);
    try {
      delivery(env);
    } catch (const Napi::Error&) {
      // Promises can only refuse to settle while the environment is being terminated: nobody is left to tell.
    }
  }
}

void EngineThread::settle(Napi::Env env, Job& job) {
  if (--pending_ == 0) deliver_.Unref(env);
  Napi::Value value;
  try {
    if (!job.failure) job.failure = attempt([&] { value = job.finish(env); });
    if (job.failure) {
      job.promise.Reject(to_js(env, *job.failure).Value());
    } else {
      job.promise.Resolve(value);
    }
  } catch (const Napi::Error& error) {
    job.failure = Error("INTERNAL", "a JavaScript exception");
    job.promise.Reject(error.Value());
  }
  if (job.failure && job.role == Role::open) closed_ = true;
  if (closed_ && pending_ == 0) stop();
}

void EngineThread::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    closed_ = true;
  }
  wake_.notify_one();
  thread_.join();
  napi_remove_env_cleanup_hook(env_, stop_at_exit, this);
  deliver_.Abort();
  queued_.clear();
  underway_.clear();
  deliveries_.clear();
}

void EngineThread::stop_at_exit(void* thread) { static_cast<EngineThread*>(thread)->stop(); }

}  // namespace baton
