#include "emulator/block.h"

#include <sys/mman.h>

#include <algorithm>
#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <numeric>

uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;

namespace baton::emulator {

namespace {

constexpr size_t kTripwire = 256;  // bytes behind dynamic shared memory that must stay as they are

const char* const kBarrierNames[kBarriers] = {
    "__syncthreads", "barrier 1", "barrier 2",  "barrier 3",  "barrier 4",  "barrier 5",  "barrier 6",  "barrier 7",
    "barrier 8",     "barrier 9", "barrier 10", "barrier 11", "barrier 12", "barrier 13", "barrier 14", "barrier 15"};

std::function<void(const std::string&)> receive_fault;

std::string text(const Where& where) { return std::string(where.file_name()) + ':' + std::to_string(where.line()); }

std::string text(uint3 place) {
  char text[40];
  std::snprintf(text, sizeof text, "(%u, %u, %u)", place.x, place.y, place.z);
  return text;
}

}  // namespace

Block* the_block = nullptr;

Block& make_block() {
  static Block block;
  the_block = &block;
  return block;
}

void fault_of_host(const Where& where) { fault("a device function was called by the host", where); }

void on_fault(std::function<void(const std::string& report)> receive) { receive_fault = std::move(receive); }

void fault(const std::string& what, const Where& where) {
  Hidden hidden;
  {
    std::string report = "emulator: " + what;
    if (where.line() > 0) report += " at " + text(where);
    if (block().runs()) report += block().describe();
    if (!block().runs() || !receive_fault) {
      std::fprintf(stderr, "%s\n", report.c_str());
      std::fflush(stderr);
      std::abort();
    }
    receive_fault(report);
  }
  block().abandon();
}

[[gnu::no_sanitize_thread]] int ReadySet::after(int place) const {
  assert(count_ > 0);
  constexpr int kWords = kMostThreads / 64;
  const int first = (place + 1) % kMostThreads;
  const uint64_t rest = words_[first / 64] >> first % 64;
  if (rest != 0) return first + std::countr_zero(rest);
  for (int i = 1; i <= kWords; i++) {
    const int word = (first / 64 + i) % kWords;
    if (words_[word] != 0) return word * 64 + std::countr_zero(words_[word]);
  }
  return -1;
}

[[gnu::no_sanitize_thread]] int ReadySet::nth(int n) const {
  for (int word = 0; word < kMostThreads / 64; word++) {
    uint64_t bits = words_[word];
    const int count = std::popcount(bits);
    if (n >= count) {
      n -= count;
      continue;
    }
    while (n-- > 0) bits &= bits - 1;
    return word * 64 + std::countr_zero(bits);
  }
  return -1;
}

Block::Block() {
  void* arena = mmap(nullptr, kMostShared + kTripwire, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED) throw std::bad_alloc();
  arena_ = static_cast<unsigned char*>(arena);
  keys_ = std::make_unique<Keys>();
  grid_keys_ = std::make_unique<GridKeys>();
}

Block::~Block() { munmap(arena_, kMostShared + kTripwire); }

bool Block::run(const Grid& grid) {
  Hidden hidden;
  Fiber main;
  main.actor = this_actor();
  main_ = &main;
  faulted_ = false;
  order_ = options().order;
  async_ = options().async;
  body_ = grid.thread;
  if (kThreadSanitizer) grid_keys_ = std::make_unique<GridKeys>();
  publish(&grid_keys_->launched);
  count_ = int(grid.block.x * grid.block.y * grid.block.z);
  if (kThreadSanitizer && copy_engine == nullptr) copy_engine = make_actor();
  gridDim = grid.grid;
  blockDim = grid.block;
  stats.grids++;

  const uint64_t blocks = uint64_t(grid.grid.x) * grid.grid.y * grid.grid.z;
  std::vector<uint64_t> shuffled(order_ == Order::random ? blocks : 0);
  std::iota(shuffled.begin(), shuffled.end(), uint64_t(0));
  std::shuffle(shuffled.begin(), shuffled.end(), random_);
  for (uint64_t i = 0; i < blocks && !faulted_; i++) {
    const uint64_t number = order_ == Order::random ? shuffled[i] : order_ == Order::reverse ? blocks - 1 - i : i;
    const uint64_t row = number / grid.grid.x;
    run_block(grid, {unsigned(number % grid.grid.x), unsigned(row % grid.grid.y), unsigned(row / grid.grid.y)});
  }
  receive(&grid_keys_->finished);
  main_ = nullptr;
  if (faulted_) rebuild();
  return !faulted_;
}

// Takes the block's threads from one of the crews.
void Block::man() {
  turns_++;
  std::vector<std::unique_ptr<Thread>>& crew = crews_[kThreadSanitizer ? turns_ % 2 : 0];
  while (int(crew.size()) < count_) {
    crew.push_back(std::make_unique<Thread>(run_thread));
    if (kThreadSanitizer) crew.back()->fiber.actor = make_actor();
  }
  threads_.resize(count_);
  // Nor is a thread's place always the same.
  const uint64_t first = kThreadSanitizer ? turns_ / 2 * 37 : 0;
  for (int i = 0; i < count_; i++) threads_[i] = crew[(first + i) % crew.size()].get();
}

void Block::run_block(const Grid& grid, uint3 place) {
  blockIdx = place;
  stats.blocks++;

  // NaN wherever nobody wrote: every byte 0xff.
  shared_bytes_ = grid.shared;
  if (kThreadSanitizer) {  // which forgets accesses to memory that was given back
    std::free(shared_);
    shared_ = static_cast<unsigned char*>(std::aligned_alloc(1024, (kMostShared + kTripwire + 1023) / 1024 * 1024));
    keys_ = std::make_unique<Keys>();
  } else {
    shared_ = arena_;
    unpoison(shared_, kMostShared + kTripwire);
  }
  std::memset(shared_, 0xff, shared_bytes_ + kTripwire);
  poison(shared_ + shared_bytes_, kMostShared + kTripwire - shared_bytes_);
  std::memset(async_view_.get(), 0xff, shared_bytes_);
  async_view_late_ = false;

  warps_.clear();
  warps_.resize((count_ + kLanes - 1) / kLanes);
  for (Barrier& barrier : barriers_) barrier = Barrier();
  phase_barriers.clear();
  loads.clear();
  for (auto& asked : products_asked) asked.clear();
  ready_.clear();
  man();
  for (int i = 0; i < count_; i++) {
    Thread& thread = *threads_[i];
    thread.index = i;
    thread.lane = i % kLanes;
    thread.warp = &warps_[i / kLanes];
    thread.warp->present |= 1u << thread.lane;
    thread.place = {i % grid.block.x, i / grid.block.x % grid.block.y, i / (grid.block.x * grid.block.y)};
    thread.state = Thread::State::ready;
    thread.copies.clear();
    thread.committed.clear();
    thread.fenced = false;
    thread.atomics.clear();
    ready_.add(this->place(i));
  }
  live_ = count_;
  pauses_ = 0;
  place_ = kMostThreads - 1;

  current_ = order_ == Order::random ? threads_[ready_.nth(int(random_() % ready_.count()))]
                                     : threads_[this->place(ready_.after(place_))];
  place_ = this->place(current_->index);
  threadIdx = current_->place;
  stats.switches++;
  current_->fiber.resume(*main_);
  current_ = nullptr;
}

void Block::run_thread() {
  hide_accesses();
  for (;;) {
    Block& block = emulator::block();
    receive(&block.grid_keys_->launched);
    show_accesses();
    (*block.body_)();
    hide_accesses();
    publish(&block.grid_keys_->finished);
    block.finish_thread();
  }
}

void Block::finish_thread() {
  Thread& thread = *current_;
  thread.state = Thread::State::done;
  ready_.remove(place(thread.index));
  live_--;
  thread.warp->exited |= 1u << thread.lane;
  for (int i = 0; i < thread.warp->meeting_count; i++) {
    const Meeting& meeting = thread.warp->meetings[i];
    if (meeting.mask >> thread.lane & 1) {
      fault(std::string(name(meeting.operation)) + " waits for a lane that has exited", thread.where);
    }
  }
  Barrier& barrier = barriers_[0];
  if (barrier.arrived > 0 && barrier.arrived >= live_) release(0);
  if (live_ > 0) {
    go_to(next("its own end", Where()));
    return;  // the next block uses this thread again
  }
  finish_block();
  main_->resume(thread.fiber);
}

void Block::finish_block() {
  for (Warp& warp : warps_) {
    if (!warp.products.open.empty() || !warp.products.groups.empty()) {
      const Product& product = warp.products.groups.empty() ? warp.products.open[0] : warp.products.groups[0][0];
      fault("the block ends before this product is waited for", product.where);
    }
  }
  if (!loads.empty()) fault("the block ends before this load is waited for", loads[0].where);
  for (size_t i = 0; i < kTripwire && !kAddressSanitizer; i++) {
    if (shared_[shared_bytes_ + i] != 0xff) {
      fault("somebody wrote " + std::to_string(i) + " bytes behind the block's dynamic shared memory");
    }
  }
}

// After a fault: the fibers stand wherever they stood. Nothing on their stacks is destroyed, and their actors are left
// alone, since ThreadSanitizer wants each to have come to its end.
void Block::rebuild() {
  threads_.clear();
  for (auto& crew : crews_) crew.clear();
  copy_engine = nullptr;
  std::fill(std::begin(tensor_cores_), std::end(tensor_cores_), nullptr);
  phase_barriers.clear();
  loads.clear();
}

void Block::abandon() {
  faulted_ = true;
  main_->resume(current_->fiber);
  std::abort();  // nobody resumes this fiber
}

std::string Block::describe() const {
  std::string report = "\n  in block " + text(blockIdx) + ", thread " + text(threadIdx);
  // Where all others wait, as ranges of threads.
  std::map<std::string, std::string> places;
  for (int first = 0, last; first < count_; first = last + 1) {
    last = first;
    const Thread& thread = *threads_[first];
    if (thread.state != Thread::State::waiting) continue;
    const auto waits_alike = [&](const Thread& other) {
      return other.state == Thread::State::waiting && other.waits_for == thread.waits_for &&
             other.where.line() == thread.where.line();
    };
    while (last + 1 < count_ && waits_alike(*threads_[last + 1])) last++;
    std::string& range = places[std::string(thread.waits_for) + " at " + text(thread.where)];
    if (!range.empty()) range += ", ";
    range += std::to_string(first);
    if (last > first) range.append("-").append(std::to_string(last));
  }
  for (const auto& [where, range] : places) report += "\n  threads " + range + " wait in " + where;
  return report;
}

[[gnu::no_sanitize_thread]] Thread& Block::next(const char* waits_for, const Where& where) {
  if (ready_.count() == 0)
    fault(std::string("deadlock: all threads of the block wait, the last in ") + waits_for, where);
  const int place = order_ == Order::random ? ready_.nth(int(random_() % ready_.count())) : ready_.after(place_);
  return *threads_[this->place(place)];
}

[[gnu::no_sanitize_thread]] void Block::go_to(Thread& thread) {
  Thread& from = *current_;
  stats.switches++;
  current_ = &thread;
  place_ = place(thread.index);
  threadIdx = thread.place;
  thread.fiber.resume(from.fiber);
}

[[gnu::no_sanitize_thread]] void Block::wait(const char* waits_for, const Where& where, const void* at) {
  Thread& thread = *current_;
  thread.state = Thread::State::waiting;
  thread.waits_for = waits_for;
  thread.waits_at = at;
  thread.where = where;
  ready_.remove(place(thread.index));
  go_to(next(waits_for, where));
}

[[gnu::no_sanitize_thread]] void Block::wake(Thread& thread) {
  thread.state = Thread::State::ready;
  ready_.add(place(thread.index));
}

void Block::wake_all(const void* at) {
  for (int i = 0; i < count_; i++) {
    Thread& thread = *threads_[i];
    if (thread.state == Thread::State::waiting && thread.waits_at == at) wake(thread);
  }
}

void Block::yield() {
  Thread& thread = next("", current_->where);
  if (&thread != current_) go_to(thread);
}

void Block::pause() {
  constexpr uint64_t kOften = 64, kForever = uint64_t(1) << 24;
  if (++pauses_ % kOften == 0) yield();
  if (pauses_ == kForever) fault("threads spin on atomics and get no further; blocks run one after another here");
}

// Barriers

int Block::sync(int id, int wanted, int value, const Where& where) {
  if (id < 0 || id >= kBarriers) fault("there is no barrier " + std::to_string(id), where);
  Barrier& barrier = barriers_[id];
  const uint32_t generation = barrier.generation;
  Key* key = &keys_->barriers[id][generation % 2];
  publish(key);
  barrier.sum += value;
  arrive(id, wanted, where);
  // If that ended the generation, this thread was the last to come.
  if (barrier.generation == generation) {
    wait(kBarrierNames[id], where, &barrier);
  } else {
    yield_unless_forward();
  }
  receive(key);
  return barrier.sums[generation % 2];
}

void Block::arrive_only(int id, int wanted, const Where& where) {
  if (id < 0 || id >= kBarriers) fault("there is no barrier " + std::to_string(id), where);
  publish(&keys_->barriers[id][barriers_[id].generation % 2]);
  arrive(id, wanted, where);
}

void Block::arrive(int id, int wanted, const Where& where) {
  Barrier& barrier = barriers_[id];
  if (barrier.arrived == 0) {
    barrier.where = where;
    barrier.wanted = wanted;
  } else if (id == 0 && (barrier.where.line() != where.line() || barrier.where.column() != where.column() ||
                         std::strcmp(barrier.where.file_name(), where.file_name()) != 0)) {
    fault("divergent __syncthreads: other threads came to the one at " + text(barrier.where), where);
  } else if (barrier.wanted != wanted) {
    fault(std::string(kBarrierNames[id]) + ": threads differ in how many they wait for", where);
  }
  if (wanted % kLanes != 0) fault(std::string(kBarrierNames[id]) + ": expected a multiple of 32 threads", where);
  barrier.arrived++;
  if (barrier.arrived >= (wanted > 0 ? wanted : live_)) release(id);
}

void Block::release(int id) {
  Barrier& barrier = barriers_[id];
  barrier.sums[barrier.generation % 2] = barrier.sum;
  barrier.sum = 0;
  barrier.arrived = 0;
  barrier.generation++;
  pauses_ = 0;
  wake_all(&barrier);
}

// Warps

[[gnu::no_sanitize_thread]] bool Block::arrive(uint32_t mask, Operation operation, const Where& where) {
  Thread& thread = *current_;
  Warp& warp = *thread.warp;
  const uint32_t bit = 1u << thread.lane;
  if (!(mask & bit)) fault(std::string(name(operation)) + ": the calling lane is not in its mask", where);
  mask &= warp.present;
  if (mask & warp.exited) fault(std::string(name(operation)) + ": the mask names a lane that has exited", where);

  Meeting* meeting = nullptr;
  for (int i = 0; i < warp.meeting_count; i++) {
    if (warp.meetings[i].mask & mask) meeting = &warp.meetings[i];
  }
  if (meeting == nullptr) {
    meeting = &warp.meetings[warp.meeting_count++];
    *meeting = {mask, 0, operation, &keys_->warps[thread.index / kLanes][warp.key_count++ % 4]};
  } else if (meeting->operation != operation) {
    fault(std::string(name(operation)) + ": other lanes of the warp are in " + name(meeting->operation), where);
  } else if (meeting->mask != mask) {
    fault(std::string(name(operation)) + ": lanes of the warp differ in their masks", where);
  }
  Key* key = operation == Operation::sync_warp ? meeting->key : nullptr;
  if (key != nullptr) publish(key);
  meeting->arrived |= bit;
  const bool last = meeting->arrived == mask;
  if (!last) wait(name(operation), where);
  if (key != nullptr) receive(key);
  return last;
}

[[gnu::no_sanitize_thread]] void Block::disperse() {
  Thread& thread = *current_;
  Warp& warp = *thread.warp;
  for (int i = 0; i < warp.meeting_count; i++) {
    const uint32_t mask = warp.meetings[i].mask;
    if (!(mask >> thread.lane & 1)) continue;
    warp.meetings[i] = warp.meetings[--warp.meeting_count];
    for (uint32_t others = mask & ~(1u << thread.lane); others != 0; others &= others - 1) {
      wake(*threads_[thread.index - thread.lane + std::countr_zero(others)]);
    }
    break;
  }
  yield_unless_forward();
}

unsigned char* Block::shared(uint32_t address, size_t bytes, const Where& where) {
  if (address + bytes > shared_bytes_) fault("access outside the block's dynamic shared memory", where);
  return shared_ + address;
}

unsigned char* Block::async_view(const void* place) {
  if (async_view_late_) std::memcpy(async_view_.get(), shared_, shared_bytes_);
  async_view_late_ = false;
  return async_view_.get() + offset(place);
}

Actor Block::tensor_core(int warp) {
  if (kThreadSanitizer && tensor_cores_[warp] == nullptr) tensor_cores_[warp] = make_actor();
  return tensor_cores_[warp];
}

bool Block::has_warpgroup(int number) const {
  const size_t first = size_t(number) * 4;
  if (first + 4 > warps_.size()) return false;
  for (size_t i = first; i < first + 4; i++) {
    if (warps_[i].present != kAllLanes) return false;
  }
  return true;
}

void Block::enter_static_shared() {
  Hidden hidden;
  receive(&grid_keys_->finished);
}

void enter_static_shared() {
  if (kThreadSanitizer) block().enter_static_shared();
}

}  // namespace baton::emulator
