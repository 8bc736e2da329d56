#include <array>
#include <cassert>
#include <numeric>
#include <optional>
#include <vector>

#include "backend/xen/channel.h"
#include "backend/xen/xen_link.h"
#include "base/abi/card.h"

namespace synfluid::backend::xen {

namespace {

constexpr uint32_t kMaxPages = abi::shared_pages(abi::kMaxBuffers);

class MappedSeededLink final : public SeededLink {
 public:
  MappedSeededLink(GrantMap area, Channel channel, const SeededLinkConfig& config)
      : config_(config), area_(std::move(area)) {
    channel_.emplace(std::move(channel));
    const auto bytes = area_.bytes();
    for (size_t at = 0; at < bytes.size(); at += abi::kPageBytes) pages_.push_back(bytes.data() + at);
  }

  abi::NetTxRing& tx_ring() noexcept override {
    return *reinterpret_cast<abi::NetTxRing*>(pages_[abi::kTxRingPage]);
  }
  abi::NetRxRing& rx_ring() noexcept override {
    return *reinterpret_cast<abi::NetRxRing*>(pages_[abi::kRxRingPage]);
  }
  std::byte* card() noexcept override { return pages_[abi::kCardPage]; }
  Seeded seeded() noexcept override { return {abi::kFirstGrant, pages_}; }
  std::byte* map(GrantRef) noexcept override { return nullptr; }
  bool is_persistent() const noexcept override { return false; }
  void copy(std::span<GrantCopy> batch) noexcept override {
    for (GrantCopy& piece : batch) piece.status = abi::kRspError;
  }
  void notify() noexcept override {
    if (channel_) channel_->notify();
  }

  Status set_doorbell(XenDoorbells& doorbells, DoorbellToken token) override {
    if (channel_ && channel_->is_in(doorbells)) {
      channel_->rename(token);
      return {};
    }
    channel_.reset();  // the guest's port is open to us again only when our old end is closed
    auto channel = Channel::bind(doorbells, config_.domid, config_.guest_port, token);
    if (!channel) return channel.error();
    channel_.emplace(std::move(*channel));
    return {};
  }

 private:
  SeededLinkConfig config_;
  // The channel goes first: nothing rings for pages that are gone.
  GrantMap area_;
  std::optional<Channel> channel_;
  std::vector<std::byte*> pages_;
};

}  // namespace

Result<std::unique_ptr<SeededLink>> connect_seeded(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const SeededLinkConfig& config) {
  assert(config.pages > abi::kFirstBufferPage && config.pages <= kMaxPages);
  auto shard = mapper.shard();
  if (!shard) return shard.error();
  std::array<uint32_t, kMaxPages> refs;
  const auto used = std::span(refs).first(config.pages);
  std::iota(used.begin(), used.end(), abi::kFirstGrant);
  auto area = map_grants(std::move(*shard), config.domid, used);
  if (!area) return area.error();
  auto channel = Channel::bind(doorbells, config.domid, config.guest_port, config.token);
  if (!channel) return channel.error();
  return std::unique_ptr<SeededLink>(
      std::make_unique<MappedSeededLink>(std::move(*area), std::move(*channel), config));
}

}  // namespace synfluid::backend::xen
