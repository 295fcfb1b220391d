#include <algorithm>
#include <cstring>
#include <string>

#include "emulator/block.h"
#include "emulator/hopper.h"
#include "emulator/instructions.h"
#include "emulator/memory.h"

// Barriers with phases, and the tile copies that report to them.
namespace baton::emulator {

namespace {

constexpr uint64_t kMark = 0x7265697272616200;  // and the barrier's number
constexpr uint32_t kMostArrivals = (1u << 20) - 1;

PhaseBarrier& find(uint64_t* place, const Where& where) {
  self(where);
  block().shared(shared_address(place, where), sizeof *place, where);
  if (uintptr_t(place) % sizeof *place != 0) fault("the barrier is not at a multiple of 8 bytes", where);
  show_accesses();
  note_read(place, sizeof *place);  // without a __syncthreads after barrier_init, a race
  hide_accesses();
  const uint64_t number = *place ^ kMark;
  if (number >= block().phase_barriers.size() || block().phase_barriers[number].place != place) {
    fault("the barrier was not initialised, or something was written over it", where);
  }
  return block().phase_barriers[number];
}

int index(const PhaseBarrier& barrier) { return int(&barrier - block().phase_barriers.data()); }

// Ends the phase if nothing is missing.
void settle(PhaseBarrier& barrier) {
  if (barrier.missing > 0) return;
  if (barrier.bytes == 0) {
    barrier.phase++;
    barrier.missing = int32_t(barrier.arrivals);
  }
  block().wake_all(barrier.place);  // or somebody must bring the bytes
}

void arrive(PhaseBarrier& barrier, const Where& where) {
  if (barrier.missing == 0) fault("more arrivals at the barrier than a phase has", where);
  publish(&barrier.keys[barrier.phase % 2]);
  barrier.missing--;
  settle(barrier);
}

// A box of the map, in the name of the copy engine.
void perform(const TileLoad& load) {
  constexpr uint32_t kChunk = 16;
  const TileMap& map = load.map;
  const Actor thread = this_actor();
  switch_actor(block().copy_engine);
  {
    const Hidden hidden;
    receive(load.key.get());
    const int64_t column_byte = int64_t(load.column) * map.element_bytes;
    for (uint32_t i = 0; i < map.box_rows; i++) {
      unsigned char values[TileMap::kBoxRowBytes] = {};
      const int64_t row = int64_t(load.row) + i;
      const int64_t first = std::max<int64_t>(column_byte, 0);
      const int64_t last = std::min<int64_t>(column_byte + TileMap::kBoxRowBytes, int64_t(map.row_bytes));
      if (row >= 0 && row < int64_t(map.rows) && first < last) {
        const unsigned char* from = map.values + uint64_t(row) * map.pitch + first;
        if (memory().place(from, size_t(last - first)) != Memory::Place::device) {
          fault("load_tile: the map's row " + std::to_string(row) + " is not in device memory", load.where);
        }
        std::memcpy(values + (first - column_byte), from, size_t(last - first));
        show_accesses();
        note_read(from, size_t(last - first));
        hide_accesses();
      }
      for (uint32_t chunk = 0; chunk < TileMap::kBoxRowBytes; chunk += kChunk) {
        uint32_t offset = i * TileMap::kBoxRowBytes + chunk;
        offset ^= (offset >> 7 & 7) << 4;
        std::memcpy(load.to + offset, values + chunk, kChunk);
        std::memcpy(block().async_view(load.to + offset), values + chunk, kChunk);
      }
    }
    const size_t bytes = size_t(map.box_rows) * TileMap::kBoxRowBytes;
    show_accesses();
    note_write(load.to, bytes);
    hide_accesses();
    PhaseBarrier& barrier = block().phase_barriers[load.barrier];
    publish(&barrier.keys[barrier.phase % 2]);
    barrier.bytes -= int64_t(bytes);
  }
  switch_actor(thread);
}

// One of the copies that the barrier waits for; false if there is none.
bool perform_one(int barrier) {
  std::vector<TileLoad>& loads = block().loads;
  std::vector<size_t> candidates;
  for (size_t i = 0; i < loads.size(); i++) {
    if (loads[i].barrier == barrier) candidates.push_back(i);
  }
  if (candidates.empty()) return false;
  size_t next = candidates.front();
  if (block().order() == Order::reverse) next = candidates.back();
  if (block().order() == Order::random) next = candidates[block().random() % candidates.size()];
  const TileLoad load = std::move(loads[next]);
  loads.erase(loads.begin() + ptrdiff_t(next));
  perform(load);
  settle(block().phase_barriers[barrier]);
  return true;
}

}  // namespace

void require_hopper(const char* what, const Where& where) {
  if (options().major != 9) fault(std::string(what) + " needs compute capability 9.0", where);
}

void barrier_init(uint64_t* barrier, uint32_t arrivals, const Where& where) {
  Hidden hidden;
  self(where);
  require_hopper("barrier_init", where);
  block().shared(shared_address(barrier, where), sizeof *barrier, where);
  if (uintptr_t(barrier) % sizeof *barrier != 0) fault("the barrier is not at a multiple of 8 bytes", where);
  if (arrivals == 0 || arrivals > kMostArrivals) fault("barrier_init: expected 1 to 1,048,575 arrivals", where);
  show_accesses();
  note_write(barrier, sizeof *barrier);
  hide_accesses();
  std::vector<PhaseBarrier>& barriers = block().phase_barriers;
  *barrier = kMark ^ barriers.size();
  barriers.emplace_back();
  barriers.back().place = barrier;
  barriers.back().arrivals = arrivals;
  barriers.back().missing = int32_t(arrivals);
}

void barrier_init_fence() {
  Hidden hidden;
  self();
  for (PhaseBarrier& barrier : block().phase_barriers) barrier.fenced = true;
}

void tiles_fence() {
  Hidden hidden;
  self();
  block().show_to_async();
}

void barrier_expect(uint64_t* place, uint32_t bytes, const Where& where) {
  Hidden hidden;
  PhaseBarrier& barrier = find(place, where);
  barrier.bytes += bytes;
  arrive(barrier, where);
}

void barrier_arrive(uint64_t* place, const Where& where) {
  Hidden hidden;
  arrive(find(place, where), where);
  block().yield_unless_forward();
}

void barrier_wait(uint64_t* place, uint32_t parity, const Where& where) {
  Hidden hidden;
  if (parity > 1) fault("barrier_wait: expected a parity of 0 or 1", where);
  const int number = index(find(place, where));
  for (;;) {
    const PhaseBarrier& barrier = block().phase_barriers[number];
    if (barrier.phase % 2 != parity) break;
    if (barrier.missing == 0 && perform_one(number)) continue;
    block().wait("barrier_wait", where, place);
  }
  receive(&block().phase_barriers[number].keys[parity]);
}

void load_tile(void* to, const CUtensorMap* map, uint64_t* place, int32_t column, int32_t row, const Where& where) {
  Hidden hidden;
  const PhaseBarrier& barrier = find(place, where);
  if (!barrier.fenced) fault("load_tile: no barrier_init_fence has shown the barrier to the copy engine", where);
  TileLoad load;
  load.map = decode(map, where);
  load.to = static_cast<unsigned char*>(to);
  load.barrier = index(barrier);
  load.column = column;
  load.row = row;
  load.where = where;
  const uint32_t address = shared_address(to, where);
  constexpr uint32_t kAlignment = 1024;
  if (address % kAlignment != 0) fault("load_tile to an address that is not a multiple of 1,024", where);
  block().shared(address, size_t(load.map.box_rows) * TileMap::kBoxRowBytes, where);
  publish(load.key.get());
  block().loads.push_back(std::move(load));
  // While products are deferred, a copy that comes early shows what one that comes late does not.
  const bool early = block().async() == Async::eager || block().order() == Order::reverse ||
                     (block().order() == Order::random && block().random() % 2 == 0);
  if (early) {
    perform_one(index(barrier));
  } else if (barrier.missing == 0) {
    block().wake_all(barrier.place);  // those that wait for nothing else
  }
}

}  // namespace baton::emulator
