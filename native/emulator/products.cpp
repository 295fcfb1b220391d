#include <algorithm>
#include <cstring>
#include <string>

#include "emulator/block.h"
#include "emulator/hopper.h"

// Matrix products of a warpgroup. Each warp computes its own 16 rows, in the name of its tensor core, which learns what
// the warp knew when it asked, and which the warp's lanes know about from the wait on.
namespace baton::emulator {

namespace {

constexpr int kRows = 16;  // of a warp
constexpr int kWarpsTogether = 4;
constexpr int kMostColumns = 256;
constexpr uint32_t kStepBytes = 32;         // of a row of a K-major tile in one product
constexpr uint32_t kRowBytes = 128;         // of a tile
constexpr uint32_t kInFlight = 0xffa5a5a5;  // in registers that must not be read now; NaN as a float

// A tile with 128-byte swizzle. Its rows are those of the matrix (K-major), or 64 of its columns along k (N-major).
struct Tile {
  uint32_t address;
  uint32_t leading;  // bytes from 64 columns to the next; N-major only
  uint32_t stride;   // bytes from eight rows to the next

  Tile(uint64_t descriptor, const Where& where)
      : address(uint32_t(descriptor & 0x3fff) << 4),
        leading(uint32_t(descriptor >> 16 & 0x3fff) << 4),
        stride(uint32_t(descriptor >> 32 & 0x3fff) << 4) {
    if (descriptor >> 62 != 1) fault("products: the emulator knows tiles with 128-byte swizzle only", where);
    if ((descriptor >> 49 & 7) != 0 || (address >> 7 & 7) != 0) {
      fault("products: the tile does not begin at a multiple of 1,024 bytes", where);
    }
  }

  // 16 bytes of a row.
  void read_chunk(int row, uint32_t byte, unsigned char* values, const Where& where) const {
    uint32_t at = address + byte / kRowBytes * leading + uint32_t(row / 8) * stride + uint32_t(row % 8) * kRowBytes +
                  byte % kRowBytes;
    at ^= (at >> 7 & 7) << 4;
    const unsigned char* from = block().shared(at, 16, where);
    std::memcpy(values, block().async_view(from), 16);
    show_accesses();
    note_read(from, 16);
    hide_accesses();
  }

  // kStepBytes of a row.
  void read(int row, unsigned char* values, const Where& where) const {
    for (uint32_t chunk = 0; chunk < kStepBytes; chunk += 16) read_chunk(row, chunk, values + chunk, where);
  }
};

template <int kBytes>
void unpack(const unsigned char (&bytes)[kBytes], float (&values)[kBytes / 2]) {
  for (int k = 0; k < kBytes / 2; k++) {
    const uint32_t bits = uint32_t(bytes[2 * k]) << 16 | uint32_t(bytes[2 * k + 1]) << 24;
    std::memcpy(&values[k], &bits, sizeof bits);
  }
}
void unpack(const unsigned char (&bytes)[kStepBytes], int32_t (&values)[32]) {
  for (int k = 0; k < 32; k++) values[k] = int8_t(bytes[k]);
}

// sums[16, columns] += a[16, kDepth] b[kDepth, columns]
template <typename Value, int kDepth>
__attribute__((no_sanitize("address", "undefined", "thread"))) void multiply(Value* sums, int columns,
                                                                             const Value (&a)[kRows][kDepth],
                                                                             const Value (&b)[kDepth][kMostColumns]) {
  typedef Value Eight __attribute__((vector_size(8 * sizeof(Value))));
  for (int row = 0; row < kRows; row++) {
    for (int column = 0; column < columns; column += 8) {
      Eight sum;
      std::memcpy(&sum, sums + row * columns + column, sizeof sum);
      for (int k = 0; k < kDepth; k++) {
        Eight values;
        std::memcpy(&values, &b[k][column], sizeof values);
        sum += a[row][k] * values;
      }
      std::memcpy(sums + row * columns + column, &sum, sizeof sum);
    }
  }
}

template <typename Value, int kDepth>
void read_tiles(const Product& product, int warp, int columns, Value (&a)[kRows][kDepth],
                Value (&b)[kDepth][kMostColumns]) {
  const Tile a_tile(product.a, product.where), b_tile(product.b, product.where);
  unsigned char bytes[kStepBytes];
  for (int row = 0; row < kRows; row++) {
    a_tile.read(warp % kWarpsTogether * kRows + row, bytes, product.where);
    unpack(bytes, a[row]);
  }
  for (int column = 0; column < columns; column++) {
    Value values[kDepth];
    b_tile.read(column, bytes, product.where);
    unpack(bytes, values);
    for (int k = 0; k < kDepth; k++) b[k][column] = values[k];
  }
}

// a from registers: word i of a lane has row lane / 4, eight further on if i is odd, and of it the columns 2 (lane % 4)
// and the next, eight further on if i is 2 or 3.
void read_registers(const Product& product, int columns, float (&a)[kRows][16], float (&b)[16][kMostColumns]) {
  const Tile b_tile(product.b, product.where);
  for (int lane = 0; lane < kLanes; lane++) {
    for (int i = 0; i < 4; i++) {
      float pair[2];
      unsigned char bytes[4];
      std::memcpy(bytes, &product.first->values[lane][i], sizeof bytes);
      unpack(bytes, pair);
      std::memcpy(&a[lane / 4 + i % 2 * 8][2 * (lane % 4) + i / 2 * 8], pair, sizeof pair);
    }
  }
  for (int k = 0; k < 16; k++) {
    for (int column = 0; column < columns; column += 8) {
      unsigned char bytes[16];
      float values[8];
      b_tile.read_chunk(k, uint32_t(column) * 2, bytes, product.where);
      unpack(bytes, values);
      std::memcpy(&b[k][column], values, sizeof values);
    }
  }
}

template <typename Value, int kDepth>
void perform(const Product& product, Accumulators& accumulators, int warp) {
  const int columns = 2 * accumulators.values;
  Value a[kRows][kDepth];
  static Value b[kDepth][kMostColumns];  // too large for a fiber's stack
  if constexpr (kDepth == 16) {
    if (product.first != nullptr) {
      read_registers(product, columns, a, b);
    } else {
      read_tiles(product, warp, columns, a, b);
    }
  } else {
    read_tiles(product, warp, columns, a, b);
  }
  if (!product.accumulate) std::fill(accumulators.sums.begin(), accumulators.sums.end(), 0);
  multiply<Value, kDepth>(reinterpret_cast<Value*>(accumulators.sums.data()), columns, a, b);
  block().stats.products++;
}

// Where value i of a lane stands among the warp's rows.
int place(int lane, int i, int columns) {
  return (lane / 4 + i / 2 % 2 * 8) * columns + i / 4 * 8 + 2 * (lane % 4) + i % 2;
}

void take_registers(Accumulators& accumulators) {
  for (int lane = 0; lane < kLanes; lane++) {
    for (int i = 0; i < accumulators.values; i++) {
      uint32_t& value = accumulators.registers[lane][i];
      accumulators.sums[place(lane, i, 2 * accumulators.values)] = value;
      value = kInFlight;
    }
  }
}

void give_registers(const Accumulators& accumulators) {
  for (int lane = 0; lane < kLanes; lane++) {
    for (int i = 0; i < accumulators.values; i++) {
      accumulators.registers[lane][i] = accumulators.sums[place(lane, i, 2 * accumulators.values)];
    }
  }
}

bool registers_changed(const Accumulators& accumulators) {
  for (int lane = 0; lane < kLanes; lane++) {
    for (int i = 0; i < accumulators.values; i++) {
      if (accumulators.registers[lane][i] != accumulators.sums[place(lane, i, 2 * accumulators.values)]) return true;
    }
  }
  return false;
}

std::shared_ptr<FirstOperand> first_operand(const Warp& warp) {
  auto first = std::make_shared<FirstOperand>();
  for (int lane = 0; lane < kLanes; lane++) {
    first->registers[lane] = reinterpret_cast<const uint32_t*>(warp.lanes[lane].in[3]);
    std::copy_n(first->registers[lane], 4, first->values[lane]);
  }
  return first;
}

void require_unchanged(const FirstOperand& first, const Where& where) {
  for (int lane = 0; lane < kLanes; lane++) {
    if (!std::equal(first.registers[lane], first.registers[lane] + 4, first.values[lane])) {
      fault("multiply_group: registers of the first operand were changed before products_wait", where);
    }
  }
}

// The accumulators behind these registers, in flight from now on.
int begin(Warp& warp, int values, const Where& where) {
  Products& products = warp.products;
  size_t found = 0;
  while (found < products.accumulators.size() &&
         products.accumulators[found].registers[0] != reinterpret_cast<uint32_t*>(warp.lanes[0].in[0])) {
    found++;
  }
  const bool known = found < products.accumulators.size() && products.accumulators[found].values == values;
  if (!known) {
    if (found == products.accumulators.size()) products.accumulators.emplace_back();
    Accumulators& accumulators = products.accumulators[found];
    if (accumulators.products > 0) fault("multiply_group: these registers are another product's", where);
    accumulators.values = values;
    accumulators.sums.assign(size_t(kLanes) * size_t(values), 0);
    for (int lane = 0; lane < kLanes; lane++) {
      accumulators.registers[lane] = reinterpret_cast<uint32_t*>(warp.lanes[lane].in[0]);
    }
  }
  Accumulators& accumulators = products.accumulators[found];
  if (accumulators.products++ > 0) return int(found);
  if (!products.fenced && (!known || registers_changed(accumulators))) {
    fault("multiply_group: no products_fence since the accumulators were touched", where);
  }
  take_registers(accumulators);
  return int(found);
}

void perform_one(Warp& warp, const Product& product) {
  const int number = block().self().index / kLanes;
  Accumulators& accumulators = warp.products.accumulators[product.accumulators];
  const Actor thread = this_actor();
  switch_actor(block().tensor_core(number));
  {
    const Hidden hidden;
    receive(warp.products.asked_key.get());
    if (product.type == ProductType::bf16) {
      perform<float, 16>(product, accumulators, number);
    } else {
      perform<int32_t, 32>(product, accumulators, number);
    }
    publish(product.complete.get());
  }
  switch_actor(thread);
}

void complete(Warp& warp, const std::vector<Product>& group) {
  for (const Product& product : group) {
    if (block().async() == Async::deferred) perform_one(warp, product);
    if (product.first != nullptr) require_unchanged(*product.first, product.where);
    if (kThreadSanitizer) warp.products.waited_for.push_back(product.complete);
    Accumulators& accumulators = warp.products.accumulators[product.accumulators];
    if (--accumulators.products == 0) give_registers(accumulators);
  }
}

// The four warps ask for the same products in the same order.
void compare_warps(const Product& product, Warp& warp, const Where& where) {
  std::vector<std::pair<uint64_t, uint64_t>>& asked =
      block().products_asked[block().self().index / (kWarpsTogether * kLanes)];
  const size_t number = warp.products.asked++;
  if (number == asked.size()) asked.push_back({product.a, product.b});
  if (asked[number] != std::pair(product.a, product.b))
    fault("multiply_group: the warps of the warpgroup differ", where);
}

}  // namespace

void require_hopper(const char* what, const Where& where);

void products_fence(const Where& where) {
  Hidden hidden;
  self(where);
  block().meet(kAllLanes, Operation::products_fence, where, [](Warp& warp, uint32_t) { warp.products.fenced = true; });
}

void products_commit(const Where& where) {
  Hidden hidden;
  self(where);
  block().meet(kAllLanes, Operation::products_commit, where, [](Warp& warp, uint32_t) {
    warp.products.groups.push_back(std::move(warp.products.open));
    warp.products.open.clear();
  });
}

void products_wait_for(int pending, const Where& where) {
  Hidden hidden;
  Thread& thread = self(where);
  block().meet(kAllLanes, Operation::products_wait, where, [pending, &where](Warp& warp, uint32_t) {
    Products& products = warp.products;
    if (pending == 0 && !products.open.empty()) fault("products_wait: there are products that no group has", where);
    products.waited_for.clear();
    while (products.groups.size() > size_t(pending)) {
      complete(warp, products.groups.front());
      products.groups.erase(products.groups.begin());
      products.fenced = false;
    }
  });
  for (const std::shared_ptr<Key>& key : thread.warp->products.waited_for) receive(key.get());
}

// in: registers, a, b, registers of a
void multiply_group(ProductType type, void* d, int values, const uint32_t* a_registers, uint64_t a, uint64_t b,
                    bool accumulate, const Where& where) {
  Hidden hidden;
  Thread& thread = self(where);
  require_hopper("multiply_group", where);
  if (!block().has_warpgroup(thread.index / kLanes / kWarpsTogether)) {
    fault("multiply_group: the warp is not one of four whole ones", where);
  }
  Lane& lane = thread.warp->lanes[thread.lane];
  lane.in[0] = uintptr_t(d);
  lane.in[1] = a;
  lane.in[2] = b;
  lane.in[3] = uintptr_t(a_registers);
  publish(thread.warp->products.asked_key.get());
  const Operation operation =
      type == ProductType::bf16 ? Operation::multiply_group_bf16 : Operation::multiply_group_int8;
  block().meet(kAllLanes, operation, where, [&](Warp& warp, uint32_t) {
    for (const Lane& other : warp.lanes) {
      if (other.in[1] != a || other.in[2] != b) fault("multiply_group: the lanes differ in their tiles", where);
    }
    Product product = {type, a, b, accumulate, begin(warp, values, where), where};
    if (a_registers != nullptr) {
      if (!warp.products.fenced) fault("multiply_group: no products_fence since the last wait", where);
      product.first = first_operand(warp);
    }
    if (kThreadSanitizer) product.complete = std::make_shared<Key>();
    compare_warps(product, warp, where);
    if (block().async() == Async::eager) perform_one(warp, product);
    warp.products.open.push_back(product);
  });
}

}  // namespace baton::emulator
