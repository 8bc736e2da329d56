#include "backend/process/process_link.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/abi/card.h"

namespace synfluid::backend {

namespace {

/// What one collect() takes at the most; the rest stays ready.
constexpr size_t kMaxEvents = 64;

class ProcessLink final : public GuestLink {
 public:
  ProcessLink(ProcessLinkConfig config, ProcessDoorbells& doorbells)
      : config_(std::move(config)), doorbells_(doorbells) {
    const std::span<std::byte> area = config_.area->bytes();
    for (size_t at = 0; at < area.size(); at += abi::kPageBytes) pages_.push_back(area.data() + at);
  }
  ~ProcessLink() override { doorbells_.remove(config_.from_guest.get()); }
  ProcessLink(const ProcessLink&) = delete;
  ProcessLink& operator=(const ProcessLink&) = delete;

  abi::NetTxRing& tx_ring() noexcept override {
    return *reinterpret_cast<abi::NetTxRing*>(pages_[abi::kTxRingPage]);
  }
  abi::NetRxRing& rx_ring() noexcept override {
    return *reinterpret_cast<abi::NetRxRing*>(pages_[abi::kRxRingPage]);
  }
  std::byte* card() noexcept override { return pages_[abi::kCardPage]; }

  // The card and the rings are granted as well, but they are no buffers: only those may be named in a
  // request.
  Seeded seeded() noexcept override {
    return {.first_gref = abi::kFirstGrant + abi::kFirstBufferPage,
            .pages = std::span(pages_).subspan(abi::kFirstBufferPage)};
  }
  std::byte* map(GrantRef) noexcept override { return nullptr; }
  bool is_persistent() const noexcept override { return false; }

  void copy(std::span<GrantCopy> batch) noexcept override {
    for (GrantCopy& piece : batch) piece.status = abi::kRspError;
  }

  void notify() noexcept override {
    const uint64_t one = 1;
    // Fails only when the guest has filled its own counter; then it is awake, or past help.
    [[maybe_unused]] const ssize_t written = write(config_.to_guest.get(), &one, sizeof(one));
  }

 private:
  ProcessLinkConfig config_;
  ProcessDoorbells& doorbells_;
  std::vector<std::byte*> pages_;
};

}  // namespace

Result<std::unique_ptr<ProcessDoorbells>> ProcessDoorbells::create() {
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return Error::from_errno(errno, "doorbells of guest processes");
  return std::unique_ptr<ProcessDoorbells>(new ProcessDoorbells(std::move(epoll)));
}

Status ProcessDoorbells::add(int fd, DoorbellToken token) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u32 = token;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return Error::from_errno(errno, "doorbell of a guest process");
  return {};
}

void ProcessDoorbells::remove(int fd) noexcept {
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

size_t ProcessDoorbells::collect(std::span<DoorbellToken> out) noexcept {
  std::array<epoll_event, kMaxEvents> events;
  const int wanted = static_cast<int>(std::min(out.size(), events.size()));
  if (wanted == 0) return 0;
  const int found = epoll_wait(epoll_.get(), events.data(), wanted, 0);
  for (int i = 0; i < found; ++i) out[static_cast<size_t>(i)] = events[static_cast<size_t>(i)].data.u32;
  return static_cast<size_t>(std::max(found, 0));
}

Result<UniqueFd> make_doorbell_fd() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return Error::from_errno(errno, "eventfd for a guest process");
  return fd;
}

Result<std::unique_ptr<GuestLink>> make_process_link(ProcessLinkConfig config, ProcessDoorbells& doorbells) {
  const size_t bytes = config.area->bytes().size();
  if (bytes % abi::kPageBytes != 0 || bytes < abi::shared_pages(1) * abi::kPageBytes)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("shared area of {} bytes has no room for a vif", bytes));
  if (const Status added = doorbells.add(config.from_guest.get(), config.token); !added) return added.error();
  return std::unique_ptr<GuestLink>(std::make_unique<ProcessLink>(std::move(config), doorbells));
}

}  // namespace synfluid::backend
