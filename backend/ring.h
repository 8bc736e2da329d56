// The back end's view of one netif ring page: indices, their checks, and when to ring the other side.
//
// The page is shared with a guest that may write anything at any time, so every word of it is loaded exactly
// once (load_once), checked, and only then used; what was stored there is never read back.
//
// Invariants: requests are answered in the order they were consumed, so the slot of a response is the slot of
// its request, and `rsp_ <= req_`. Indices run freely modulo 2^32; a difference is meaningful, a comparison
// is not.
//
// Threads: one owner. Protocol: Xen public header xen/io/ring.h.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/abi/netif.h"

namespace synfluid::backend {

/// The words of shared memory, whatever structure either side sees in them.
using SharedWord [[gnu::may_alias]] = uint32_t;

/// Copies a structure out of shared memory: every word is loaded once, and the compiler may not load it
/// again.
template <class T>
T load_once(const T& shared) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(SharedWord) == 0);
  std::array<uint32_t, sizeof(T) / sizeof(uint32_t)> words;
  const auto* from = reinterpret_cast<const SharedWord*>(&shared);
  for (size_t i = 0; i < words.size(); ++i) words[i] = __atomic_load_n(from + i, __ATOMIC_RELAXED);
  return std::bit_cast<T>(words);
}

/// Copies a structure into shared memory, word by word. The other side sees it after the producer index.
template <class T>
void store_once(T& shared, const T& value) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(SharedWord) == 0);
  const auto words = std::bit_cast<std::array<uint32_t, sizeof(T) / sizeof(uint32_t)>>(value);
  auto* to = reinterpret_cast<SharedWord*>(&shared);
  for (size_t i = 0; i < words.size(); ++i) __atomic_store_n(to + i, words[i], __ATOMIC_RELAXED);
}

template <class Ring, class Request, class Response>
class BackRing {
 public:
  /// Continues where the ring stands: after a restart of the back end the responses already given are not
  /// repeated.
  explicit BackRing(Ring& ring) noexcept
      : ring_(&ring),
        req_(__atomic_load_n(&ring.indices.rsp_prod, __ATOMIC_RELAXED)),
        rsp_(req_),
        published_(req_),
        seen_(req_) {}

  /// Requests that may be consumed. Looks at the shared index only when fewer than `wanted` are known of.
  uint32_t available(uint32_t wanted) noexcept {
    if (seen_ - req_ < wanted) refresh();
    return broken_ ? 0 : seen_ - req_;
  }

  /// The same without a look.
  uint32_t known() const noexcept { return seen_ - req_; }

  /// The front end's index is impossible: more requests than there are slots, or fewer than were there
  /// before.
  bool broken() const noexcept { return broken_; }

  /// The request `ahead` places behind the next one. Precondition: ahead < known().
  Request peek(uint32_t ahead) const noexcept {
    return load_once(reinterpret_cast<const Request&>(entry(req_ + ahead)));
  }
  void consume(uint32_t count) noexcept { req_ += count; }

  /// Answers the oldest consumed request that has no answer. Precondition: there is one.
  void respond(const Response& response) noexcept {
    store_once(reinterpret_cast<Response&>(entry(rsp_)), response);
    ++rsp_;
  }
  uint32_t unanswered() const noexcept { return req_ - rsp_; }

  /// Makes the responses visible. Returns true if the front end asked to be told of one of them.
  bool publish() noexcept {
    if (rsp_ == published_) return false;
    const uint32_t before = published_;
    published_ = rsp_;
    __atomic_store_n(&ring_->indices.rsp_prod, rsp_, __ATOMIC_RELEASE);
    // The front end stores rsp_event, then looks at rsp_prod; we do the reverse: one of us sees the other's
    // store.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const uint32_t event = __atomic_load_n(&ring_->indices.rsp_event, __ATOMIC_RELAXED);
    return rsp_ - event < rsp_ - before;
  }

  /// Asks for a doorbell when there are `wanted` requests. Returns true if there are already.
  bool arm(uint32_t wanted = 1) noexcept {
    __atomic_store_n(&ring_->indices.req_event, req_ + wanted, __ATOMIC_RELAXED);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return available(Ring::kSlots + 1) >= wanted;
  }

 private:
  using Entry = std::remove_reference_t<decltype(std::declval<Ring&>().entries[0])>;

  Entry& entry(uint32_t index) const noexcept { return ring_->entries[index % Ring::kSlots]; }

  void refresh() noexcept {
    const uint32_t prod = __atomic_load_n(&ring_->indices.req_prod, __ATOMIC_ACQUIRE);
    // A front end may not run more than a ring ahead of the answers it has, nor take back a request.
    if (prod - rsp_ > Ring::kSlots || prod - req_ > Ring::kSlots || prod - req_ < seen_ - req_) {
      broken_ = true;
      return;
    }
    seen_ = prod;
  }

  Ring* ring_;
  uint32_t req_;        ///< next request to consume
  uint32_t rsp_;        ///< next response to write
  uint32_t published_;  ///< responses the front end may see
  uint32_t seen_;       ///< req_prod as last checked
  bool broken_ = false;
};

using TxBackRing = BackRing<abi::NetTxRing, abi::NetTxRequest, abi::NetTxResponse>;
using RxBackRing = BackRing<abi::NetRxRing, abi::NetRxRequest, abi::NetRxResponse>;
using CtrlBackRing = BackRing<abi::NetCtrlRing, abi::NetCtrlRequest, abi::NetCtrlResponse>;

}  // namespace synfluid::backend
