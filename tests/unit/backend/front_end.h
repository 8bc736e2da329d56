// A model of the guest's side of a vif, and a link to it without any hypervisor.
//
// GuestMemory is what a guest would grant: a card, two rings and buffers, with grant reference 8 + i for page
// i of them. FakeLink offers it the way a test wants it: seeded, persistent or by grant copy. FrontEnd plays
// a netfront on it that keeps the protocol; tests that break it write to the rings themselves.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "backend/guest_link.h"
#include "base/abi/card.h"

namespace synfluid::backend::testing {

using Frame = std::vector<std::byte>;

/// How the pages of a guest reach the back end.
enum class Grants { kSeeded, kPersistent, kCopied };

class GuestMemory {
 public:
  explicit GuestMemory(uint32_t buffers)
      : pages_(std::make_unique<Page[]>(abi::shared_pages(buffers))), buffers_(buffers) {
    tx().indices.req_event = tx().indices.rsp_event = 1;
    rx().indices.req_event = rx().indices.rsp_event = 1;
  }

  abi::NetTxRing& tx() { return *reinterpret_cast<abi::NetTxRing*>(page(abi::kTxRingPage)); }
  abi::NetRxRing& rx() { return *reinterpret_cast<abi::NetRxRing*>(page(abi::kRxRingPage)); }
  std::byte* page(uint32_t i) { return pages_[i].bytes.data(); }
  std::byte* buffer(uint32_t i) { return page(abi::kFirstBufferPage + i); }
  uint32_t buffers() const { return buffers_; }
  std::span<std::byte> all() { return {page(0), size_t{abi::shared_pages(buffers_)} * abi::kPageBytes}; }

  static uint32_t gref_of(uint32_t buffer) { return abi::kFirstGrant + abi::kFirstBufferPage + buffer; }
  std::byte* find(uint32_t gref) {
    return gref - gref_of(0) < buffers_ ? buffer(gref - gref_of(0)) : nullptr;
  }

 private:
  struct alignas(abi::kPageBytes) Page {
    std::array<std::byte, abi::kPageBytes> bytes{};
  };
  std::unique_ptr<Page[]> pages_;
  uint32_t buffers_;
};

/// What a test looks at behind the Vif's back.
struct LinkLog {
  int notifications = 0;
  int copy_calls = 0;
  int maps = 0;
  bool alive = true;
};

class FakeLink : public GuestLink {
 public:
  FakeLink(GuestMemory& memory, Grants grants, std::shared_ptr<LinkLog> log, FrontEnd front_end = {})
      : memory_(memory), grants_(grants), log_(std::move(log)), front_end_(front_end) {
    for (uint32_t i = 0; i < memory.buffers(); ++i) pages_.push_back(memory.buffer(i));
  }
  ~FakeLink() override { log_->alive = false; }

  FrontEnd front_end() const noexcept override { return front_end_; }
  abi::NetTxRing& tx_ring() noexcept override { return memory_.tx(); }
  abi::NetRxRing& rx_ring() noexcept override { return memory_.rx(); }
  std::byte* card() noexcept override { return grants_ == Grants::kSeeded ? memory_.page(0) : nullptr; }
  Seeded seeded() noexcept override {
    if (grants_ != Grants::kSeeded) return {};
    return {.first_gref = GuestMemory::gref_of(0), .pages = pages_};
  }
  std::byte* map(GrantRef gref) noexcept override {
    ++log_->maps;
    return memory_.find(gref.value());
  }
  bool is_persistent() const noexcept override { return grants_ == Grants::kPersistent; }
  void notify() noexcept override { ++log_->notifications; }

  // As the hypervisor does it: each piece is judged alone, and none leaves its page.
  void copy(std::span<GrantCopy> batch) noexcept override {
    ++log_->copy_calls;
    for (GrantCopy& piece : batch) {
      std::byte* page = memory_.find(piece.gref.value());
      const bool fits = uint32_t{piece.offset} + piece.length <= abi::kPageBytes;
      piece.status = page != nullptr && fits ? abi::kRspOkay : abi::kRspError;
      if (piece.status != abi::kRspOkay) continue;
      std::byte* guest = page + piece.offset;
      const bool from_guest = piece.direction == GrantCopy::Direction::kFromGuest;
      std::memcpy(from_guest ? piece.host : guest, from_guest ? guest : piece.host, piece.length);
    }
  }

 private:
  GuestMemory& memory_;
  Grants grants_;
  std::shared_ptr<LinkLog> log_;
  FrontEnd front_end_;
  std::vector<std::byte*> pages_;
};

/// One slot as the model puts it on the transmit ring.
struct TxSlot {
  abi::NetTxRequest request;
};

inline TxSlot extra_slot(uint8_t type, uint8_t flags) {
  TxSlot slot{};
  const std::array<uint8_t, 2> head{type, flags};
  std::memcpy(&slot.request, head.data(), head.size());
  return slot;
}

class FrontEnd {
 public:
  explicit FrontEnd(GuestMemory& memory) : memory_(memory) {
    for (uint32_t i = 0; i < memory.buffers(); ++i) free_.push_back(i);
  }

  size_t free_buffers() const { return free_.size(); }
  std::optional<uint32_t> take_buffer() {
    if (free_.empty()) return std::nullopt;
    const uint32_t buffer = free_.front();
    free_.pop_front();
    return buffer;
  }

  // ---- receive ----

  void post(uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) post_buffer(*take_buffer());
    publish_rx();
  }
  void post_buffer(uint32_t buffer) {
    memory_.rx().entries[rx_prod_++ % abi::kRingSlots].request = {static_cast<uint16_t>(buffer), 0,
                                                                  GuestMemory::gref_of(buffer)};
  }
  void publish_rx() { __atomic_store_n(&memory_.rx().indices.req_prod, rx_prod_, __ATOMIC_RELEASE); }

  /// The next response as it is.
  std::optional<abi::NetRxResponse> take_rx_response() {
    if (rx_cons_ == __atomic_load_n(&memory_.rx().indices.rsp_prod, __ATOMIC_ACQUIRE)) return std::nullopt;
    return memory_.rx().entries[rx_cons_++ % abi::kRingSlots].response;
  }

  /// The next whole frame; its buffers are free again. Empty if there is none; an error response ends a
  /// chain.
  Frame receive() {
    Frame frame;
    while (const auto response = take_rx_response()) {
      free_.push_back(response->id);
      last_rx_flags = response->flags;
      if (response->status < 0) {
        ++rx_errors;
        continue;
      }
      const std::byte* at = memory_.buffer(response->id) + response->offset;
      frame.insert(frame.end(), at, at + response->status);
      if ((response->flags & abi::kRxMoreData) == 0) return frame;
    }
    return frame;
  }

  uint16_t last_rx_flags = 0;
  int rx_errors = 0;

  // ---- transmit ----

  void put(const TxSlot& slot) { memory_.tx().entries[tx_prod_++ % abi::kRingSlots].request = slot.request; }
  void publish_tx() { __atomic_store_n(&memory_.tx().indices.req_prod, tx_prod_, __ATOMIC_RELEASE); }
  /// As RING_PUSH_REQUESTS_AND_CHECK_NOTIFY does: true if the back end wants its doorbell rung.
  bool publish_tx_and_check() {
    const uint32_t before = __atomic_load_n(&memory_.tx().indices.req_prod, __ATOMIC_RELAXED);
    publish_tx();
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint32_t event = __atomic_load_n(&memory_.tx().indices.req_event, __ATOMIC_RELAXED);
    return tx_prod_ - event < tx_prod_ - before;
  }

  /// Puts `frame` into one buffer at `offset`, and its request on the ring. Returns the buffer; it is the
  /// request's id.
  uint32_t transmit(std::span<const std::byte> frame, uint16_t flags = 0, uint16_t offset = 0) {
    const uint32_t buffer = *take_buffer();
    std::memcpy(memory_.buffer(buffer) + offset, frame.data(), frame.size());
    put({{GuestMemory::gref_of(buffer), offset, flags, static_cast<uint16_t>(buffer),
          static_cast<uint16_t>(frame.size())}});
    publish_tx();
    return buffer;
  }

  /// The same in pieces of these sizes, one slot and buffer each.
  void transmit_pieces(std::span<const std::byte> frame, std::span<const size_t> sizes) {
    size_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const uint32_t buffer = *take_buffer();
      std::memcpy(memory_.buffer(buffer), frame.data() + at, sizes[i]);
      at += sizes[i];
      const uint16_t flags = i + 1 < sizes.size() ? abi::kTxMoreData : uint16_t{0};
      put({{GuestMemory::gref_of(buffer), 0, flags, static_cast<uint16_t>(buffer),
            static_cast<uint16_t>(i == 0 ? frame.size() : sizes[i])}});
    }
    publish_tx();
  }

  std::optional<abi::NetTxResponse> take_tx_response() {
    if (tx_cons_ == __atomic_load_n(&memory_.tx().indices.rsp_prod, __ATOMIC_ACQUIRE)) return std::nullopt;
    const abi::NetTxResponse response = memory_.tx().entries[tx_cons_++ % abi::kRingSlots].response;
    if (response.status != abi::kRspNull) free_.push_back(response.id);
    return response;
  }
  /// The statuses of all responses there are.
  std::vector<int16_t> tx_statuses() {
    std::vector<int16_t> out;
    while (const auto response = take_tx_response()) out.push_back(response->status);
    return out;
  }

  uint32_t tx_outstanding() const { return tx_prod_ - tx_cons_; }
  uint32_t rx_outstanding() const { return rx_prod_ - rx_cons_; }

 private:
  GuestMemory& memory_;
  std::deque<uint32_t> free_;
  uint32_t rx_prod_ = 0;
  uint32_t rx_cons_ = 0;
  uint32_t tx_prod_ = 0;
  uint32_t tx_cons_ = 0;
};

}  // namespace synfluid::backend::testing
