#include "guest/net/netfront.h"

#include "guest/net/bytes.h"

namespace synfluid::guest::net {
namespace {

uint32_t load_index(const uint32_t& index) {
  return __atomic_load_n(&index, __ATOMIC_ACQUIRE);
}
void publish_index(uint32_t& index, uint32_t value) {
  __atomic_store_n(&index, value, __ATOMIC_RELEASE);
}
void full_barrier() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

constexpr uint32_t kSlotMask = abi::kRingSlots - 1;
/// In an extra-info slot the flags byte follows the type byte; bit 0 says that one more follows.
constexpr uint16_t kExtraMore = 1 << 8;

}  // namespace

Netfront::Netfront(Platform& platform, uint32_t rx_target)
    : platform_(platform),
      tx_(*reinterpret_cast<abi::NetTxRing*>(platform.shared_area() + abi::kTxRingPage * abi::kPageBytes)),
      rx_(*reinterpret_cast<abi::NetRxRing*>(platform.shared_area() + abi::kRxRingPage * abi::kPageBytes)),
      buffers_(platform.shared_area() + abi::kFirstBufferPage * abi::kPageBytes),
      buffer_count_(reinterpret_cast<const abi::Card*>(platform.shared_area())->fixed.buffers),
      rx_target_(rx_target) {
  const auto& card = *reinterpret_cast<const abi::Card*>(platform.shared_area());
  const uint32_t posted = smaller(card.fixed.rx_posted, buffer_count_);
  for (uint32_t i = 0; i < posted; ++i) where_[i] = Where::kPosted;
  posted_ = rx_req_prod_ = rx_published_ = posted;
  for (uint32_t i = buffer_count_; i-- > posted;) free_buffer(i);
  refill();
}

void Netfront::free_buffer(uint32_t buffer) {
  where_[buffer] = Where::kFree;
  free_[free_count_++] = static_cast<uint8_t>(buffer);
}

void Netfront::post(uint32_t buffer) {
  where_[buffer] = Where::kPosted;
  rx_.entries[rx_req_prod_ & kSlotMask].request = {static_cast<uint16_t>(buffer), 0,
                                                   abi::kFirstGrant + abi::kFirstBufferPage + buffer};
  ++rx_req_prod_;
  ++posted_;
}

void Netfront::refill() {
  while (posted_ < rx_target_ && free_count_ > 0 && rx_req_prod_ - rx_rsp_cons_ < abi::kRingSlots)
    post(free_[--free_count_]);
}

bool Netfront::next_response(abi::NetRxResponse& response) {
  if (rx_rsp_cons_ == rx_rsp_seen_) {
    rx_rsp_seen_ = load_index(rx_.indices.rsp_prod);
    if (rx_rsp_cons_ == rx_rsp_seen_) return false;
  }
  response = rx_.entries[rx_rsp_cons_ & kSlotMask].response;
  ++rx_rsp_cons_;
  return true;
}

/// Adds one response's page to the frame; false if the frame cannot be used.
bool Netfront::keep(RxFrame& frame, const abi::NetRxResponse& response) {
  const uint32_t buffer = response.id;
  if (buffer >= buffer_count_ || where_[buffer] != Where::kPosted) return false;
  --posted_;
  if (frame.count == kMaxFragments) {
    free_buffer(buffer);
    return false;
  }
  where_[buffer] = Where::kHeld;
  const bool fits = response.status > 0 && response.offset + response.status <= int{abi::kPageBytes};
  frame.fragments[frame.count++] = {page(buffer) + (fits ? response.offset : 0),
                                    static_cast<uint16_t>(fits ? response.status : 0),
                                    static_cast<uint16_t>(buffer)};
  frame.length += fits ? static_cast<uint32_t>(response.status) : 0;
  return fits;
}

void Netfront::skip_extra_info() {
  abi::NetRxResponse extra;
  while (next_response(extra) && (extra.id & kExtraMore) != 0) {
  }
}

bool Netfront::receive(RxFrame& frame) {
  abi::NetRxResponse response;
  while (next_response(response)) {
    frame.count = 0;
    frame.length = 0;
    frame.checksum_blank = (response.flags & abi::kRxCsumBlank) != 0;
    frame.checksum_trusted = frame.checksum_blank || (response.flags & abi::kRxDataValidated) != 0;
    bool usable = keep(frame, response);
    if ((response.flags & abi::kRxExtraInfo) != 0) {
      skip_extra_info();
      usable = false;
    }
    while ((response.flags & abi::kRxMoreData) != 0) {
      if (!next_response(response)) {
        usable = false;
        break;
      }
      usable = keep(frame, response) && usable;
    }
    if (usable) {
      ++counters_.received;
      return true;
    }
    ++counters_.unusable;
    recycle(frame);
  }
  return false;
}

void Netfront::recycle(const RxFrame& frame) {
  for (uint32_t i = 0; i < frame.count; ++i) free_buffer(frame.fragments[i].buffer);
  refill();
}

void Netfront::push_tx(uint32_t buffer, uint16_t offset, uint16_t size, uint16_t flags) {
  where_[buffer] = Where::kOnTx;
  tx_.entries[tx_req_prod_ & kSlotMask].request = {abi::kFirstGrant + abi::kFirstBufferPage + buffer, offset,
                                                   flags, static_cast<uint16_t>(buffer), size};
  ++tx_req_prod_;
}

bool Netfront::forward(const RxFrame& frame) {
  if (tx_room() < frame.count) return false;
  uint16_t flags = 0;
  if (frame.checksum_trusted) flags |= abi::kTxDataValidated;
  if (frame.checksum_blank) flags |= abi::kTxCsumBlank;
  for (uint32_t i = 0; i < frame.count; ++i) {
    const Fragment& fragment = frame.fragments[i];
    const bool more = i + 1u < frame.count;
    const auto size = static_cast<uint16_t>(i == 0 ? frame.length : fragment.length);
    push_tx(fragment.buffer, static_cast<uint16_t>(fragment.data - page(fragment.buffer)), size,
            static_cast<uint16_t>(flags | (more ? abi::kTxMoreData : 0)));
    flags = 0;
  }
  ++counters_.sent;
  refill();
  return true;
}

std::byte* Netfront::take() {
  if (!can_transmit()) return nullptr;
  const uint32_t buffer = free_[--free_count_];
  where_[buffer] = Where::kHeld;
  return page(buffer);
}

void Netfront::transmit(std::byte* at, uint32_t bytes) {
  push_tx(static_cast<uint32_t>((at - buffers_) / abi::kPageBytes), 0, static_cast<uint16_t>(bytes), 0);
  ++counters_.sent;
}

void Netfront::release(std::byte* at) {
  free_buffer(static_cast<uint32_t>((at - buffers_) / abi::kPageBytes));
}

void Netfront::reap() {
  const uint32_t produced = load_index(tx_.indices.rsp_prod);
  while (tx_rsp_cons_ != produced && tx_rsp_cons_ != tx_published_) {
    const abi::NetTxResponse response = tx_.entries[tx_rsp_cons_ & kSlotMask].response;
    ++tx_rsp_cons_;
    if (response.status == abi::kRspNull) continue;
    if (response.id < buffer_count_ && where_[response.id] == Where::kOnTx) free_buffer(response.id);
  }
  refill();
}

/// Publishes a producer index; true if its passing was asked for.
bool Netfront::host_asked(uint32_t& published, uint32_t now, const uint32_t& event) {
  const uint32_t before = published;
  published = now;
  return now - load_index(event) < now - before;
}

void Netfront::flush() {
  if (tx_req_prod_ == tx_published_ && rx_req_prod_ == rx_published_) return;
  publish_index(tx_.indices.req_prod, tx_req_prod_);
  publish_index(rx_.indices.req_prod, rx_req_prod_);
  full_barrier();
  const bool tx_asked = host_asked(tx_published_, tx_req_prod_, tx_.indices.req_event);
  const bool rx_asked = host_asked(rx_published_, rx_req_prod_, rx_.indices.req_event);
  if (tx_asked || rx_asked) platform_.ring_host();
}

bool Netfront::arm(Wants wants) {
  const uint32_t in_flight = tx_req_prod_ - tx_rsp_cons_;
  const bool starved = wants == Wants::kBuffers || posted_ < (rx_target_ + 1) / 2;
  // One more than there are: an event that cannot come.
  const uint32_t tx_event = tx_rsp_cons_ + (starved ? 1 : in_flight + 1);
  __atomic_store_n(&rx_.indices.rsp_event, rx_rsp_cons_ + 1, __ATOMIC_RELAXED);
  __atomic_store_n(&tx_.indices.rsp_event, tx_event, __ATOMIC_RELAXED);
  full_barrier();
  if (load_index(rx_.indices.rsp_prod) != rx_rsp_cons_) return true;
  return starved && load_index(tx_.indices.rsp_prod) != tx_rsp_cons_;
}

}  // namespace synfluid::guest::net
