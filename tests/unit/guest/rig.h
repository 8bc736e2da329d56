// A guest in a test: its shared area, a back end that plays the host's side of the rings by itself, and a
// clock that the test moves.
#pragma once

#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/abi/card.h"
#include "guest/platform/platform.h"
#include "guest/services/guest.h"

namespace synfluid::guest::testing {

using Frame = std::vector<std::byte>;

struct AreaConfig {
  abi::ServiceKind service = abi::ServiceKind::kResponder;
  uint32_t buffers = 32;
  uint32_t rx_posted = 16;
  uint32_t domid = 32751;
  uint32_t generation = 7;
  uint64_t syn_age_ns = 0;
  std::string config;
};

/// The host's end of one area: an independent netback, strict about what a correct front end may do.
class HostEnd {
 public:
  /// In memory of its own, or in `area`: zeroed and shared_pages(config.buffers) long.
  explicit HostEnd(const AreaConfig& config, std::byte* area = nullptr)
      : pages_(abi::shared_pages(config.buffers)) {
    if (area == nullptr) own_ = std::make_unique<Page[]>(pages_);
    memory_ = area == nullptr ? own_.get() : reinterpret_cast<Page*>(area);
    abi::Card& c = card();
    c.fixed = {.magic = abi::kCardMagic,
               .version = abi::kCardVersion,
               .domid = config.domid,
               .generation = config.generation,
               .service = config.service,
               .event_port = 0,
               .buffers = config.buffers,
               .rx_posted = config.rx_posted,
               .mac = {2, 0x53, 0, 0, 0, 1},
               .config_bytes = static_cast<uint16_t>(config.config.size()),
               .ready_pages = 0,
               .entropy = {0x0123456789abcdef, 0xfedcba9876543210, 3, 4}};
    c.assignment.syn_age_ns = config.syn_age_ns;
    std::memcpy(c.config, config.config.data(), config.config.size());
    for (uint32_t i = 0; i < config.rx_posted; ++i)
      rx().entries[i].request = {static_cast<uint16_t>(i), 0, abi::kFirstGrant + abi::kFirstBufferPage + i};
    rx().indices.req_prod = config.rx_posted;
    tx().indices.req_event = 1;
  }

  abi::Card& card() { return *reinterpret_cast<abi::Card*>(memory_[abi::kCardPage].bytes); }
  abi::NetTxRing& tx() { return *reinterpret_cast<abi::NetTxRing*>(memory_[abi::kTxRingPage].bytes); }
  abi::NetRxRing& rx() { return *reinterpret_cast<abi::NetRxRing*>(memory_[abi::kRxRingPage].bytes); }
  std::byte* area() { return memory_[0].bytes; }
  uint32_t posted() { return rx().indices.req_prod - rx_req_cons_; }

  /// Puts a frame on the receive ring, over as many pages as it needs; false: too few are posted.
  bool push(std::span<const std::byte> frame, uint16_t first_offset = 0, uint16_t flags = 0) {
    const size_t pages = (frame.size() + first_offset + abi::kPageBytes - 1) / abi::kPageBytes;
    if (posted() < pages) return false;
    uint16_t offset = first_offset;
    while (!frame.empty()) {
      const abi::NetRxRequest request = rx().entries[rx_req_cons_++ % abi::kRingSlots].request;
      const size_t bytes = std::min<size_t>(abi::kPageBytes - offset, frame.size());
      std::memcpy(granted(request.gref) + offset, frame.data(), bytes);
      frame = frame.subspan(bytes);
      const auto more = frame.empty() ? uint16_t{0} : abi::kRxMoreData;
      rx().entries[rx_rsp_prod_++ % abi::kRingSlots].response = {
          request.id, offset, static_cast<uint16_t>(flags | more), static_cast<int16_t>(bytes)};
      offset = 0;
    }
    return true;
  }
  bool push(const Frame& frame) { return push(std::span(frame)); }

  /// Publishes what was pushed; true if the guest asked to be rung for it.
  bool publish() {
    const uint32_t before = rx().indices.rsp_prod;
    rx().indices.rsp_prod = rx_rsp_prod_;
    return rx_rsp_prod_ - rx().indices.rsp_event < rx_rsp_prod_ - before;
  }

  /// Takes what the guest transmitted, at most `most` frames, and answers it.
  std::vector<Frame> pull(size_t most = SIZE_MAX) {
    std::vector<Frame> frames;
    const uint32_t before = tx_rsp_prod_;
    while (frames.size() < most && tx_req_cons_ != tx().indices.req_prod) frames.push_back(next_frame());
    tx().indices.rsp_prod = tx_rsp_prod_;
    rang_for_tx_ = tx_rsp_prod_ - tx().indices.rsp_event < tx_rsp_prod_ - before;
    return frames;
  }
  /// Whether the guest asked to be rung for the last pull().
  bool rang_for_tx() const { return rang_for_tx_; }

 private:
  struct alignas(abi::kPageBytes) Page {
    std::byte bytes[abi::kPageBytes] = {};
  };

  std::byte* granted(uint32_t gref) {
    const uint32_t page = gref - abi::kFirstGrant;
    if (page < abi::kFirstBufferPage || page >= pages_) throw std::runtime_error("not a granted buffer page");
    return memory_[page].bytes;
  }

  Frame next_frame() {
    Frame frame;
    size_t total = 0;
    for (bool more = true; more;) {
      if (tx_req_cons_ == tx().indices.req_prod) throw std::runtime_error("a frame without its end");
      const abi::NetTxRequest request = tx().entries[tx_req_cons_++ % abi::kRingSlots].request;
      if (total == 0) total = request.size;
      more = (request.flags & abi::kTxMoreData) != 0;
      tails_.push_back(request);
      tx().entries[tx_rsp_prod_++ % abi::kRingSlots].response = {request.id, abi::kRspOkay};
    }
    size_t behind_first = 0;
    for (size_t i = 1; i < tails_.size(); ++i) behind_first += tails_[i].size;
    for (size_t i = 0; i < tails_.size(); ++i) {
      const size_t bytes = i == 0 ? total - behind_first : tails_[i].size;
      if (tails_[i].offset + bytes > abi::kPageBytes) throw std::runtime_error("a fragment crosses its page");
      const std::byte* from = granted(tails_[i].gref) + tails_[i].offset;
      frame.insert(frame.end(), from, from + bytes);
    }
    tails_.clear();
    return frame;
  }

  uint32_t pages_;
  std::unique_ptr<Page[]> own_;
  Page* memory_ = nullptr;
  uint32_t rx_req_cons_ = 0;
  uint32_t rx_rsp_prod_ = 0;
  uint32_t tx_req_cons_ = 0;
  uint32_t tx_rsp_prod_ = 0;
  bool rang_for_tx_ = false;
  std::vector<abi::NetTxRequest> tails_;
};

class RigPlatform final : public Platform {
 public:
  RigPlatform(HostEnd& host, size_t memory_bytes)
      : host_(host), lines_((memory_bytes + sizeof(Line) - 1) / sizeof(Line)), bytes_(memory_bytes) {}

  uint64_t now_ns() override { return now_ns_; }
  uint64_t started_ns() override { return 0; }
  void wait(uint64_t) override {}
  void ring_host() override { ++rings_; }
  [[noreturn]] void halt(const char* note) override { throw std::runtime_error(note); }
  std::byte* shared_area() override { return host_.area(); }
  std::span<std::byte> memory() override { return {lines_[0].bytes, bytes_}; }

  void advance(uint64_t ns) { now_ns_ += ns; }
  void set_now(uint64_t ns) { now_ns_ = ns; }
  uint64_t rings() const { return rings_; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64] = {};
  };
  HostEnd& host_;
  std::vector<Line> lines_;
  size_t bytes_;
  uint64_t now_ns_ = 1'000'000'000;
  uint64_t rings_ = 0;
};

/// Host's end, platform and guest together.
class Rig {
 public:
  explicit Rig(const AreaConfig& config, size_t memory_bytes = 256 * 1024)
      : host_(config), platform_(host_, memory_bytes), guest_(Guest::make(platform_)) {}

  bool running() const { return guest_ != nullptr; }
  HostEnd& host() { return host_; }
  RigPlatform& platform() { return platform_; }
  Guest& guest() { return *guest_; }
  abi::CardGuest& report() { return host_.card().guest; }
  const abi::CardConsole& console() { return host_.card().console; }

  /// Lets the guest work until it would sleep, and takes what it sent.
  std::vector<Frame> run() {
    std::vector<Frame> out;
    for (int turns = 0; turns < 10'000; ++turns) {
      const Guest::Turn turn = guest_->turn();
      auto sent = host_.pull();
      const bool had = !sent.empty();
      for (Frame& frame : sent) out.push_back(std::move(frame));
      if (turn == Guest::Turn::kIdle && !(had && host_.rang_for_tx())) return out;
    }
    throw std::runtime_error("the guest never becomes idle");
  }

  /// One frame in, all frames out.
  std::vector<Frame> exchange(const Frame& frame) {
    if (!host_.push(frame)) throw std::runtime_error("no receive buffer");
    host_.publish();
    return run();
  }
  /// Time passes; the guest runs its timers at each deadline on the way.
  std::vector<Frame> sleep(uint64_t ns) {
    std::vector<Frame> out;
    const uint64_t until = platform_.now_ns() + ns;
    for (;;) {
      const uint64_t deadline = guest_->next_deadline_ns();
      const uint64_t now = deadline < until ? deadline : until;
      if (now > platform_.now_ns()) platform_.set_now(now);
      for (Frame& frame : run()) out.push_back(std::move(frame));
      if (now == until) return out;
    }
  }

 private:
  HostEnd host_;
  RigPlatform platform_;
  Guest* guest_;
};

}  // namespace synfluid::guest::testing
