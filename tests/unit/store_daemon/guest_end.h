// The guest's end of a store ring, on a page of the test's own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "spawner/store/domain_ring.h"
#include "spawner/store/ring_transport.h"
#include "spawner/store/wire.h"

namespace synfluid::spawner::store {

struct Message {
  Header header;
  std::string payload;
};

class GuestEnd {
 public:
  explicit GuestEnd(uint32_t start = 0) {
    page_->request_consumer = page_->request_producer = start;
    page_->response_consumer = page_->response_producer = start;
  }
  RingPage& page() { return *page_; }

  void put(std::string_view bytes) {
    for (const char byte : bytes) page_->requests[page_->request_producer++ % kRingBytes] = byte;
  }
  size_t room() const { return kRingBytes - (page_->request_producer - page_->request_consumer); }

  /// Takes what the store has written, at most so much.
  std::string take(size_t most = kRingBytes) {
    std::string bytes;
    while (page_->response_consumer != page_->response_producer && bytes.size() < most)
      bytes += page_->responses[page_->response_consumer++ % kRingBytes];
    return bytes;
  }

  static std::string request(MessageType type, std::string_view payload, uint32_t id = 1,
                             uint32_t transaction = 0) {
    const Header header{type, id, transaction, static_cast<uint32_t>(payload.size())};
    std::array<char, kHeaderBytes> head;
    write_header(header, head);
    return std::string(head.data(), head.size()).append(payload);
  }

  /// The next whole message that take() has given.
  std::optional<Message> message() {
    taken_ += take();
    if (taken_.size() < kHeaderBytes) return std::nullopt;
    const Header header = parse_header(taken_);
    if (taken_.size() < kHeaderBytes + header.length) return std::nullopt;
    Message message{header, taken_.substr(kHeaderBytes, header.length)};
    taken_.erase(0, kHeaderBytes + header.length);
    return message;
  }

 private:
  std::unique_ptr<RingPage> page_ = std::make_unique<RingPage>();
  std::string taken_;
};

/// A port to such a page that counts its bell.
class FakePort final : public RingPort {
 public:
  FakePort(RingPage& page, uint32_t& bells) : page_(page), bells_(bells) {}
  RingPage& page() override { return page_; }
  void notify() override { ++bells_; }

 private:
  RingPage& page_;
  uint32_t& bells_;
};

}  // namespace synfluid::spawner::store
