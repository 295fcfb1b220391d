#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "emulator/emulator.h"
#include "emulator/fault.h"
#include "emulator/fiber.h"
#include "emulator/hopper.h"
#include "emulator/sanitizer.h"
#include "emulator/tile_map.h"

// A block of threads while it runs, and what its threads wait for. Private to the emulator.
namespace baton::emulator {

constexpr int kLanes = 32;
constexpr int kMostThreads = 1024;
constexpr int kMostWarps = kMostThreads / kLanes;
constexpr int kBarriers = 16;
constexpr size_t kMostShared = 227 * 1024;
constexpr uint32_t kAllLanes = 0xffffffff;

// What ThreadSanitizer orders by: its address, eight bytes to each.
struct alignas(8) Key {
  char byte;
};

// What a lane brings to an operation of its warp, and what it gets.
struct Lane {
  uint64_t in[10];
  uint64_t out[4];
};

enum class Operation {
  sync_warp,
  shuffle,
  ballot,
  match,
  reduce,
  load_matrix,
  load_matrix_transposed,
  multiply_bf16,
  multiply_int8,
  products_fence,
  products_commit,
  products_wait,
  multiply_group_bf16,
  multiply_group_int8,
};
const char* name(Operation operation);

// Lanes of `mask` on their way to one operation.
struct Meeting {
  uint32_t mask;
  uint32_t arrived;
  Operation operation;
  Key* key;
};

// A first operand in registers, and what they held when the product was asked for.
struct FirstOperand {
  const uint32_t* registers[kLanes];  // [4]
  uint32_t values[kLanes][4];
};

// A wgmma that has not been waited for, as one warp sees it: its 16 rows of a.
struct Product {
  ProductType type;
  uint64_t a, b;
  bool accumulate;
  int accumulators;  // index in Products::accumulators
  Where where;
  std::shared_ptr<FirstOperand> first = nullptr;  // instead of a
  std::shared_ptr<Key> complete = nullptr;        // published by the tensor core
};

// Registers that products write: `values` of each lane, kept here from the first product until the wait.
struct Accumulators {
  uint32_t* registers[kLanes];  // [values], floats or integers
  std::vector<uint32_t> sums;   // [lane, values]
  int values;
  int products = 0;  // not complete
};

struct Products {
  std::vector<Product> open;                 // not committed
  std::vector<std::vector<Product>> groups;  // committed, the oldest first
  std::vector<Accumulators> accumulators;
  bool fenced = false;                                       // since the kernel could last have touched registers
  size_t asked = 0;                                          // since the block began
  std::unique_ptr<Key> asked_key = std::make_unique<Key>();  // published by the lanes
  std::vector<std::shared_ptr<Key>> waited_for;              // of the products that the last wait covered
};

struct Warp {
  Lane lanes[kLanes];
  uint32_t present = 0;
  uint32_t exited = 0;
  Meeting meetings[kLanes];
  int meeting_count = 0;
  uint32_t key_count = 0;
  Products products;
};

struct Copy {
  void* to;
  const void* from;
  bool valid;
};

struct Thread {
  enum class State { ready, waiting, done };

  Fiber fiber;
  int index = 0;  // in the block
  int lane = 0;
  Warp* warp = nullptr;
  uint3 place = {};  // threadIdx
  State state = State::done;
  const char* waits_for = "";
  const void* waits_at = nullptr;  // for wake_all
  Where where;

  std::vector<Copy> copies;         // not waited for, the oldest first
  std::vector<uint32_t> committed;  // how many copies each of their groups has; the rest are not committed

  // For the race check: atomics order memory only together with fences.
  bool fenced = false;
  std::vector<const void*> atomics;  // since the last fence

  explicit Thread(void (*entry)()) : fiber(entry) {}
};

// bar.sync and its kind: 0 is __syncthreads.
struct Barrier {
  int arrived = 0;
  int wanted = 0;  // 0: all threads that have not exited
  uint32_t generation = 0;
  int sum = 0;
  int sums[2] = {};  // by generation, for those that still have to read it
  Where where;
};

// An mbarrier. Its eight bytes in shared memory hold its number, so that it shows when they are written over.
struct PhaseBarrier {
  uint64_t* place = nullptr;
  uint32_t phase = 0;
  uint32_t arrivals = 0;                                     // of a phase
  int32_t missing = 0;                                       // of them in this phase
  int64_t bytes = 0;                                         // expected less come
  bool fenced = false;                                       // the copy engine may know it
  std::unique_ptr<Key[]> keys = std::make_unique<Key[]>(2);  // by phase
};

struct TileLoad {
  unsigned char* to;
  TileMap map;
  int barrier;  // index in Block::phase_barriers
  int32_t column, row;
  std::unique_ptr<Key> key = std::make_unique<Key>();  // published by the thread that asked
  Where where;
};

// The threads that can run, by their place in the schedule. Like all that happens at each switch of threads, it is
// hidden from ThreadSanitizer by an attribute, which costs nothing.
class ReadySet {
 public:
  void clear() {
    std::fill(std::begin(words_), std::end(words_), 0);
    count_ = 0;
  }
  [[gnu::no_sanitize_thread]] void add(int place) {
    uint64_t& word = words_[place / 64];
    const uint64_t bit = uint64_t(1) << place % 64;
    count_ += (word & bit) == 0;
    word |= bit;
  }
  [[gnu::no_sanitize_thread]] void remove(int place) {
    uint64_t& word = words_[place / 64];
    const uint64_t bit = uint64_t(1) << place % 64;
    count_ -= (word & bit) != 0;
    word &= ~bit;
  }
  [[gnu::no_sanitize_thread]] int count() const { return count_; }
  int after(int place) const;  // the next, around the end; there must be one
  int nth(int n) const;

 private:
  uint64_t words_[kMostThreads / 64] = {};
  int count_ = 0;
};

struct Grid {
  dim3 grid;
  dim3 block;
  size_t shared;
  const std::function<void()>* thread;
};

class Block {
 public:
  Block();
  ~Block();

  // Runs all blocks of the grid in the name of the current actor; false if there was a fault.
  bool run(const Grid& grid);
  bool runs() const { return current_ != nullptr; }
  // Of the options, while it runs.
  Order order() const { return order_; }
  Async async() const { return async_; }

  // The thread that runs. What follows is called by it.
  Thread& self() { return *current_; }
  Thread& thread(int index) { return *threads_[index]; }

  // Until somebody wakes this thread.
  void wait(const char* waits_for, const Where& where, const void* at = nullptr);
  void wake(Thread& thread);
  void wake_all(const void* at);
  void yield();
  // Called by what a thread may spin on: now and then others run, and a fault ends what spins for ever.
  void pause();
  void yield_unless_forward() {
    if (order_ != Order::forward) yield();
  }

  // Returns once all lanes of the mask have come, the last of which calls complete(warp, mask).
  template <typename Complete>
  void meet(uint32_t mask, Operation operation, const Where& where, const Complete& complete) {
    Warp& warp = *self().warp;
    if (arrive(mask, operation, where)) {
      complete(warp, mask & warp.present);
      disperse();
    }
  }

  // bar.sync of `wanted` threads (0: all); the sum of what they brought. arrive_only is bar.arrive.
  int sync(int id, int wanted, int value, const Where& where);
  void arrive_only(int id, int wanted, const Where& where);

  bool contains(const void* pointer) const { return offset(pointer) < shared_bytes_; }
  size_t offset(const void* pointer) const { return size_t(static_cast<const unsigned char*>(pointer) - shared_); }
  // The shared memory at an address as instructions have it.
  unsigned char* shared(uint32_t address, size_t bytes, const Where& where);
  unsigned char* shared() { return shared_; }

  // The place in shared memory as the copy engine and the tensor cores see it: with what they wrote themselves and what
  // threads wrote before a tiles_fence. A fence shows the writes of all threads, which may hide that another lacks.
  unsigned char* async_view(const void* place);
  void show_to_async() { async_view_late_ = true; }

  uint64_t random() { return random_(); }
  void seed(uint64_t seed) { random_.seed(seed); }
  void enter_static_shared();
  std::string describe() const;
  [[noreturn]] void abandon();

  Stats stats;
  std::vector<PhaseBarrier> phase_barriers;
  std::vector<TileLoad> loads;  // not complete
  Actor copy_engine = nullptr;
  Actor tensor_core(int warp);
  bool has_warpgroup(int number) const;
  std::vector<std::pair<uint64_t, uint64_t>> products_asked[kMostWarps / 4];  // tiles, by warpgroup

 private:
  static void run_thread();
  void man();
  void run_block(const Grid& grid, uint3 place);
  void finish_thread();
  void finish_block();
  void rebuild();

  Thread& next(const char* waits_for, const Where& where);
  void go_to(Thread& thread);
  int place(int index) const { return order_ == Order::reverse ? count_ - 1 - index : index; }

  bool arrive(uint32_t mask, Operation operation, const Where& where);
  void disperse();
  void arrive(int id, int wanted, const Where& where);
  void release(int id);

  // A thread's actor knows what it once received. So that two blocks that follow each other, of one grid or of two, do
  // not seem ordered by it, two crews take turns under ThreadSanitizer, where a new actor would take 0.4 ms.
  std::vector<std::unique_ptr<Thread>> crews_[2];
  std::vector<Thread*> threads_;  // of this block
  uint64_t turns_ = 0;
  Actor tensor_cores_[kMostWarps] = {};
  std::vector<Warp> warps_;
  Order order_ = Order::forward;
  Async async_ = Async::eager;
  ReadySet ready_;
  int place_ = 0;  // of the thread that ran last
  int count_ = 0;
  int live_ = 0;
  uint64_t pauses_ = 0;  // since the last barrier or operation of a warp
  Barrier barriers_[kBarriers];
  Thread* current_ = nullptr;
  Fiber* main_ = nullptr;
  bool faulted_ = false;
  const std::function<void()>* body_ = nullptr;
  std::mt19937_64 random_{1};

  unsigned char* arena_ = nullptr;
  unsigned char* shared_ = nullptr;
  size_t shared_bytes_ = 0;
  std::unique_ptr<unsigned char[]> async_view_ = std::make_unique<unsigned char[]>(kMostShared);
  bool async_view_late_ = false;  // a fence has been since it was last brought up to date

  // Made anew for each block: what one block publishes, another must not receive.
  struct Keys {
    Key barriers[kBarriers][2];
    Key warps[kMostWarps][4];
  };
  std::unique_ptr<Keys> keys_;
  // Made anew for each grid.
  struct GridKeys {
    Key launched;  // by the stream
    Key finished;  // by all threads so far
  };
  std::unique_ptr<GridKeys> grid_keys_;
};

// The one block that runs, on whichever thread runs the queues.
extern Block* the_block;
Block& make_block();
inline Block& block() { return the_block != nullptr ? *the_block : make_block(); }
// The thread that runs; a fault where no kernel does.
[[noreturn]] void fault_of_host(const Where& where);
inline Thread& self(const Where& where = Where::current()) {
  if (!block().runs()) fault_of_host(where);
  return block().self();
}

}  // namespace baton::emulator
