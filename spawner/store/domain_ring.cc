#include "spawner/store/domain_ring.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include <xen/io/xs_wire.h>

namespace synfluid::spawner::store {

namespace {

static_assert(sizeof(RingPage) == sizeof(xenstore_domain_interface));
static_assert(kRingBytes == XENSTORE_RING_SIZE);
static_assert(offsetof(RingPage, request_consumer) == offsetof(xenstore_domain_interface, req_cons));
static_assert(offsetof(RingPage, response_producer) == offsetof(xenstore_domain_interface, rsp_prod));
static_assert(offsetof(RingPage, error) == offsetof(xenstore_domain_interface, error));

/// WATCH takes a depth. Newer than Xen 4.17's header.
constexpr uint32_t kFeatureWatchDepth = 4;
constexpr uint32_t kFeatures =
    XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | kFeatureWatchDepth;

uint32_t load(uint32_t& word) {
  return std::atomic_ref(word).load(std::memory_order_acquire);
}

void store(uint32_t& word, uint32_t value) {
  std::atomic_ref(word).store(value, std::memory_order_release);
}

/// Copies between a ring and a flat range, in at most two pieces; `copy(ring offset, flat offset, bytes)`.
template <class Copy>
void in_pieces(uint32_t index, uint32_t bytes, Copy copy) {
  const uint32_t at = index % kRingBytes;
  const uint32_t first = std::min(bytes, kRingBytes - at);
  copy(at, 0u, first);
  if (first < bytes) copy(0u, first, bytes - first);
}

}  // namespace

DomainRing::DomainRing(RingPage& page)
    : page_(&page),
      read_(load(page.request_consumer)),
      consumed_(read_),
      written_(load(page.response_producer)) {}

void DomainRing::advertise() {
  store(page_->error, XENSTORE_ERROR_NONE);
  store(page_->server_features, kFeatures);
}

void DomainRing::reset() {
  read_ = consumed_ = written_ = 0;
  for (uint32_t* index : {&page_->request_consumer, &page_->request_producer, &page_->response_consumer,
                          &page_->response_producer})
    store(*index, 0);
  store(page_->error, XENSTORE_ERROR_NONE);
  store(page_->connection, XENSTORE_CONNECTED);
}

bool DomainRing::reconnection_asked() const {
  return load(page_->connection) == XENSTORE_RECONNECT;
}

bool DomainRing::has_input() const {
  return load(page_->request_producer) != read_;
}

std::optional<size_t> DomainRing::read(std::span<char> into) {
  const uint32_t producer = load(page_->request_producer);
  if (producer - consumed_ > kRingBytes || producer - consumed_ < read_ - consumed_) return std::nullopt;
  const uint32_t bytes = static_cast<uint32_t>(std::min<size_t>(producer - read_, into.size()));
  in_pieces(read_, bytes, [&](uint32_t at, uint32_t to, uint32_t count) {
    std::memcpy(into.data() + to, page_->requests.data() + at, count);
  });
  read_ += bytes;
  return bytes;
}

bool DomainRing::consume() {
  if (consumed_ == read_) return false;
  consumed_ = read_;
  store(page_->request_consumer, consumed_);
  // The guest's index is looked at only after ours is there for it to see.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return true;
}

std::optional<uint32_t> DomainRing::room() const {
  const uint32_t used = written_ - load(page_->response_consumer);
  if (used > kRingBytes) return std::nullopt;
  return kRingBytes - used;
}

void DomainRing::write(std::span<const char> bytes) {
  in_pieces(written_, static_cast<uint32_t>(bytes.size()), [&](uint32_t at, uint32_t from, uint32_t count) {
    std::memcpy(page_->responses.data() + at, bytes.data() + from, count);
  });
  written_ += static_cast<uint32_t>(bytes.size());
  store(page_->response_producer, written_);
}

void DomainRing::fail(RingError error) {
  store(page_->error, static_cast<uint32_t>(error));
}

}  // namespace synfluid::spawner::store
