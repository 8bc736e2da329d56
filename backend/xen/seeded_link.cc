#include <array>
#include <cassert>
#include <numeric>
#include <vector>

#include "backend/xen/xen_link.h"
#include "base/abi/card.h"

namespace synfluid::backend::xen {

namespace {

constexpr uint32_t kMaxPages = abi::shared_pages(abi::kMaxBuffers);

class MappedSeededLink final : public SeededLink {
 public:
  MappedSeededLink(GrantMap area, XenDoorbells& doorbells, const SeededLinkConfig& config)
      : doorbells_(&doorbells), port_(config.port), area_(std::move(area)) {
    const auto bytes = area_.bytes();
    pages_.reserve(config.pages);
    for (size_t at = 0; at < bytes.size(); at += abi::kPageBytes) pages_.push_back(bytes.data() + at);
    doorbells_->rename(port_, config.token);
  }
  MappedSeededLink(const MappedSeededLink&) = delete;
  MappedSeededLink& operator=(const MappedSeededLink&) = delete;
  // Nothing rings for pages that are gone.
  ~MappedSeededLink() override { doorbells_->silence(port_); }

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
  void notify() noexcept override { doorbells_->notify(port_); }

  void set_doorbell(XenDoorbells& doorbells, EventPort port, DoorbellToken token) noexcept override {
    if (doorbells_ != &doorbells || port_ != port) {
      doorbells_->silence(port_);
      doorbells_ = &doorbells;
      port_ = port;
      reinterpret_cast<abi::Card*>(card())->fixed.event_port = port.value();
    }
    doorbells_->rename(port_, token);
  }

 private:
  XenDoorbells* doorbells_;
  EventPort port_;
  GrantMap area_;
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
  return std::unique_ptr<SeededLink>(std::make_unique<MappedSeededLink>(std::move(*area), doorbells, config));
}

}  // namespace synfluid::backend::xen
