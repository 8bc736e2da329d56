#include <array>
#include <optional>

#include "backend/xen/channel.h"
#include "backend/xen/grant_copier.h"
#include "backend/xen/persistent_pages.h"
#include "backend/xen/xen_link.h"
#include "base/abi/netif.h"

namespace synfluid::backend::xen {

namespace {

struct Channels {
  Channel tx;
  std::optional<Channel> rx;  ///< only where the front end has one for each ring
};

class ForeignLink final : public GuestLink {
 public:
  ForeignLink(GrantMap rings, Channels channels, const ForeignLinkConfig& config)
      : config_(config),
        rings_(std::move(rings)),
        channels_(std::move(channels)),
        copier_(rings_.shard(), config.domid) {
    if (config.persistent) pages_.emplace(rings_.shard(), config.domid);
  }

  FrontEnd front_end() const noexcept override { return {.receives_chains = config_.receives_chains}; }
  abi::NetTxRing& tx_ring() noexcept override {
    return *reinterpret_cast<abi::NetTxRing*>(rings_.bytes().data());
  }
  abi::NetRxRing& rx_ring() noexcept override {
    return *reinterpret_cast<abi::NetRxRing*>(rings_.bytes().data() + abi::kPageBytes);
  }
  std::byte* card() noexcept override { return nullptr; }
  Seeded seeded() noexcept override { return {}; }
  std::byte* map(GrantRef gref) noexcept override { return pages_ ? pages_->find(gref.value()) : nullptr; }
  bool is_persistent() const noexcept override { return config_.persistent; }

  void copy(std::span<GrantCopy> batch) noexcept override { copier_.copy(batch); }

  void notify() noexcept override {
    if (channels_.rx) channels_.rx->notify();
    channels_.tx.notify();
  }

 private:
  ForeignLinkConfig config_;
  GrantMap rings_;
  Channels channels_;
  GrantCopier copier_;
  std::optional<PersistentPages> pages_;
};

Result<Channels> bind_channels(XenDoorbells& doorbells, const ForeignLinkConfig& config) {
  auto tx = Channel::bind(doorbells, config.domid, config.tx_port, config.token);
  if (!tx) return tx.error();
  Channels channels{std::move(*tx), std::nullopt};
  if (config.rx_port == config.tx_port) return channels;
  auto rx = Channel::bind(doorbells, config.domid, config.rx_port, config.token);
  if (!rx) return rx.error();
  channels.rx.emplace(std::move(*rx));
  return channels;
}

}  // namespace

Result<std::unique_ptr<GuestLink>> connect_foreign(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const ForeignLinkConfig& config) {
  auto shard = mapper.shard();
  if (!shard) return shard.error();
  const std::array<uint32_t, 2> refs = {config.tx_ring.value(), config.rx_ring.value()};
  auto rings = map_grants(std::move(*shard), config.domid, refs);
  if (!rings) return rings.error();
  auto channels = bind_channels(doorbells, config);
  if (!channels) return channels.error();
  return std::unique_ptr<GuestLink>(
      std::make_unique<ForeignLink>(std::move(*rings), std::move(*channels), config));
}

}  // namespace synfluid::backend::xen
