#include "bench/shared_port.h"

#include <fmt/format.h>
#include <rte_ethdev.h>
#include <time.h>

namespace synfluid::bench {

namespace {

constexpr int kPatienceMs = 10'000;

Status start(uint16_t port, uint16_t descriptors, rte_mempool& pool) {
  const rte_eth_conf conf{};
  int failed = rte_eth_dev_configure(port, 1, 1, &conf);
  if (failed == 0) failed = rte_eth_rx_queue_setup(port, 0, descriptors, SOCKET_ID_ANY, nullptr, &pool);
  if (failed == 0) failed = rte_eth_tx_queue_setup(port, 0, descriptors, SOCKET_ID_ANY, nullptr);
  if (failed == 0) failed = rte_eth_dev_start(port);
  if (failed != 0) return Error::from_errno(-failed, "starting it");
  return {};
}

bool is_up(uint16_t port) {
  rte_eth_link link{};
  return rte_eth_link_get_nowait(port, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

}  // namespace

Result<std::unique_ptr<SharedPort>> SharedPort::open(const Config& config, rte_mempool& pool) {
  uint16_t port = 0;
  if (rte_eth_dev_get_port_by_name(config.device.c_str(), &port) != 0)
    return Error(ErrorCode::kNotFound, fmt::format("there is no port {}", config.device));
  std::unique_ptr<SharedPort> made(new SharedPort(port));
  if (Status started = start(port, config.descriptors, pool); !started)
    return started.error().within(config.device);
  auto peer = Testpmd::create({.vdevs = {config.peer_vdev},
                               .forward_mode = config.forward_mode,
                               .frames = 16'384,
                               .frame_room = 2176,
                               .memory_mib = 128,
                               .cpu = config.cpu,
                               .descriptors = config.descriptors});
  if (!peer) return peer.error();
  made->peer_ = std::move(*peer);
  for (int waited = 0; !is_up(port); ++waited) {
    if (waited == kPatienceMs)
      return Error(ErrorCode::kTimeout, fmt::format("{} does not come up", config.device));
    const timespec pause{0, 1'000'000};
    nanosleep(&pause, nullptr);
  }
  return made;
}

Status SharedPort::end() {
  if (auto ended = peer_->end(); !ended) return ended.error();
  return {};
}

SharedPort::~SharedPort() {
  peer_.reset();
  rte_eth_dev_stop(port_);
}

}  // namespace synfluid::bench
