// The vif's guest memory is the fuzzer's input.
//
// The first byte chooses how grants reach the back end, and whether there is a control ring; the rest is a
// program of small steps: write words anywhere in the rings, move an index, put a request, let the host
// receive, send, flush or arm. Whatever comes: no access outside the guest's pages and the caller's buffer,
// bounded lengths, no static grant mapped twice or more often than there is room, and a vif that once broken
// stays so.
// `uint8_t` input, no threads.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "backend/vif.h"
#include "tests/unit/backend/fake_control.h"
#include "tests/unit/backend/front_end.h"

namespace {

using namespace synfluid;           // NOLINT: a test program
using namespace synfluid::backend;  // NOLINT

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  template <class T>
  T take() {
    T value{};
    const size_t n = bytes_.size() < sizeof(T) ? bytes_.size() : sizeof(T);
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
};

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr uint32_t kBuffers = 8;
/// Fewer than there are buffers, so that the table is full at times.
constexpr uint32_t kPlaces = 6;

class Session {
 public:
  Session(Input input, testing::Grants grants, bool has_control)
      : input_(input), vif_(make_link(grants, has_control)) {}

  void run() {
    // Bounded, so that one input can't take the fuzzer's whole second.
    for (int i = 0; i < 4096 && !input_.empty(); ++i) step();
    vif_.flush();
    require(control_.misuses == 0 && control_.mapped.size() <= kPlaces);
  }

 private:
  std::unique_ptr<GuestLink> make_link(testing::Grants grants, bool has_control) {
    auto log = std::make_shared<testing::LinkLog>();
    if (has_control)
      return std::make_unique<testing::ControlledLink>(memory_, grants, std::move(log), control_);
    return std::make_unique<testing::FakeLink>(memory_, grants, std::move(log),
                                               GuestLink::FrontEnd{.receives_chains = true});
  }

  void step() {
    const bool was_broken = vif_.broken();
    switch (input_.take<uint8_t>() % 11) {
      case 0:
        return write_word();
      case 1:
        memory_.tx().indices.req_prod += input_.take<uint8_t>() % 24;
        return;
      case 2:
        memory_.rx().indices.req_prod += input_.take<uint8_t>() % 24;
        return;
      case 3:
        return put_request();
      case 4:
        check_receive();
        break;
      case 5:
        check_send();
        break;
      case 6:
        vif_.flush();
        break;
      case 7:
        vif_.arm();
        break;
      case 8:
        return write_control_word();
      case 9:
        return write_grants();
      case 10:
        return put_control_request();
    }
    require(!was_broken || vif_.broken());
    require(vif_.broken() == !vif_.reason().empty());
  }

  void write_word() {
    const auto where = input_.take<uint16_t>();
    std::byte* ring = memory_.page(where & 0x8000 ? abi::kTxRingPage : abi::kRxRingPage);
    const auto value = input_.take<uint32_t>();
    std::memcpy(ring + (where & 0x3ff) * sizeof(value), &value, sizeof(value));
  }

  // Plausible more often than not, so that the search gets past the first check.
  void put_request() {
    const uint32_t slot = memory_.tx().indices.req_prod++ % abi::kRingSlots;
    const auto bits = input_.take<uint64_t>();
    memory_.tx().entries[slot].request = {
        testing::GuestMemory::gref_of(static_cast<uint32_t>(bits % 10)),
        static_cast<uint16_t>(bits >> 8 & 0x1fff), static_cast<uint16_t>(bits >> 24 & 0xf),
        static_cast<uint16_t>(slot), static_cast<uint16_t>(bits >> 32 & 0x3fff)};
  }

  void write_control_word() {
    const auto where = input_.take<uint16_t>() % (sizeof(control_.shared) / sizeof(uint32_t));
    const auto value = input_.take<uint32_t>();
    std::memcpy(reinterpret_cast<std::byte*>(&control_.shared) + where * sizeof(value), &value,
                sizeof(value));
  }

  /// A list of four at the begin of a buffer.
  void write_grants() {
    std::array<abi::NetGref, 4> list{};
    for (abi::NetGref& grant : list) {
      const auto bits = input_.take<uint8_t>();
      grant = {testing::GuestMemory::gref_of(bits % 10), static_cast<uint16_t>(bits >> 6), 0};
    }
    std::memcpy(memory_.buffer(kBuffers - 1), list.data(), sizeof(list));
  }

  void put_control_request() {
    auto& indices = control_.shared.indices;
    const auto bits = input_.take<uint16_t>();
    control_.shared.entries[indices.req_prod++ % abi::NetCtrlRing::kSlots].request = {
        bits,
        static_cast<uint16_t>(7 + bits % 5),
        {bits >> 3 & 1u, testing::GuestMemory::gref_of(kBuffers - 1 + (bits >> 4 & 1u)), bits >> 5 & 0x3ffu}};
  }

  void check_receive() {
    const size_t bytes = vif_.receive(into_);
    require(bytes <= into_.size());
    require(bytes == 0 || bytes >= 14);
  }

  void check_send() {
    const size_t bytes = input_.take<uint16_t>() % (kMaxFrameBytes + 2);
    vif_.send(std::span(out_).first(bytes));
  }

  Input input_;
  testing::GuestMemory memory_{kBuffers};
  testing::FakeControl control_{memory_, kPlaces};
  Vif vif_;
  // Exactly as long as promised, on the heap, so that the sanitizer sees one byte too many.
  std::vector<std::byte> into_ = std::vector<std::byte>(kMaxFrameBytes);
  std::vector<std::byte> out_ = std::vector<std::byte>(kMaxFrameBytes + 1);
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Session(Input({data + 1, size - 1}), static_cast<testing::Grants>(data[0] % 3), data[0] / 3 % 2 == 1).run();
  return 0;
}
