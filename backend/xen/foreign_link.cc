#include <array>
#include <optional>
#include <utility>
#include <vector>

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

class ForeignControl final : public ControlLink {
 public:
  ForeignControl(GrantMap ring, Channel channel, DomId domid)
      : ring_(std::move(ring)), channel_(std::move(channel)), domid_(domid), pages_(kMaxStaticGrants) {}

  abi::NetCtrlRing& ring() noexcept override {
    return *reinterpret_cast<abi::NetCtrlRing*>(ring_.bytes().data());
  }
  uint32_t places() const noexcept override { return kMaxStaticGrants; }
  std::byte* map(uint32_t place, GrantRef gref, PageAccess access) noexcept override {
    const uint32_t ref = gref.value();
    auto page = map_grants(ring_.shard(), domid_, std::span(&ref, 1), access);
    if (!page) return nullptr;
    pages_[place] = std::move(*page);
    return pages_[place].bytes().data();
  }
  void unmap(uint32_t place) noexcept override { pages_[place] = GrantMap(); }
  void notify() noexcept override { channel_.notify(); }

 private:
  GrantMap ring_;
  Channel channel_;
  DomId domid_;
  std::vector<GrantMap> pages_;
};

class ForeignLink final : public GuestLink {
 public:
  ForeignLink(GrantMap rings, Channels channels, std::unique_ptr<ForeignControl> control,
              const ForeignLinkConfig& config)
      : config_(config),
        rings_(std::move(rings)),
        channels_(std::move(channels)),
        control_(std::move(control)),
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
  ControlLink* control() noexcept override { return control_.get(); }
  void copy(std::span<GrantCopy> batch) noexcept override { copier_.copy(batch); }

  void notify() noexcept override {
    if (channels_.rx) channels_.rx->notify();
    channels_.tx.notify();
  }

 private:
  ForeignLinkConfig config_;
  GrantMap rings_;
  Channels channels_;
  std::unique_ptr<ForeignControl> control_;
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

/// Precondition: the front end has a control ring.
Result<std::unique_ptr<ForeignControl>> connect_control(const std::shared_ptr<GrantShard>& shard,
                                                        XenDoorbells& doorbells,
                                                        const ForeignLinkConfig& config) {
  const uint32_t ref = config.control->ring.value();
  auto ring = map_grants(shard, config.domid, std::span(&ref, 1));
  if (!ring) return ring.error();
  auto channel = Channel::bind(doorbells, config.domid, config.control->port, config.token);
  if (!channel) return channel.error();
  return std::make_unique<ForeignControl>(std::move(*ring), std::move(*channel), config.domid);
}

}  // namespace

Result<std::unique_ptr<GuestLink>> connect_foreign(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const ForeignLinkConfig& config) {
  auto shard = config.control ? mapper.own_shard() : mapper.shard();
  if (!shard) return shard.error();
  const std::array<uint32_t, 2> refs = {config.tx_ring.value(), config.rx_ring.value()};
  auto rings = map_grants(std::move(*shard), config.domid, refs);
  if (!rings) return rings.error();
  auto channels = bind_channels(doorbells, config);
  if (!channels) return channels.error();
  std::unique_ptr<ForeignControl> control;
  if (config.control) {
    auto connected = connect_control(rings->shard(), doorbells, config);
    if (!connected) return connected.error();
    control = std::move(*connected);
  }
  return std::unique_ptr<GuestLink>(
      std::make_unique<ForeignLink>(std::move(*rings), std::move(*channels), std::move(control), config));
}

}  // namespace synfluid::backend::xen
