#include "gateway/ports.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <net/if.h>
#include <rte_ethdev.h>

#include "gateway/packet_socket.h"
#include "gateway/partial_checksum.h"
#include "gateway/rss_key.h"

namespace synfluid::gateway {

namespace {

constexpr uint16_t kRxDescriptors = 1024;
constexpr uint16_t kTxDescriptors = 1024;

constexpr uint64_t kRssFields = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP;

bool is_interface(const std::string& name) {
  return !name.empty() && if_nametoindex(name.c_str()) != 0;
}

/// "03:00.0" or "0000:03:00.0".
bool looks_like_pci(const std::string& text) {
  const size_t colon = text.rfind(':');
  const size_t dot = text.rfind('.');
  if (colon == std::string::npos || dot == std::string::npos || dot < colon) return false;
  return std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) || c == ':' || c == '.'; });
}

class DpdkQueue final : public PortDevice {
 public:
  DpdkQueue(uint16_t port, uint16_t queue, const PortName& name)
      : port_(port),
        queue_(queue),
        is_hardware_(name.kind == PortName::Kind::kPci),
        completes_checksums_(name.from_kernel) {}

  size_t rx_burst(std::span<rte_mbuf*> out) noexcept override {
    const uint16_t got = rte_eth_rx_burst(port_, queue_, out.data(), static_cast<uint16_t>(out.size()));
    if (is_hardware_) call_up(out.first(got));  // a virtual device's driver has just copied them, on this CPU
    if (completes_checksums_)
      for (rte_mbuf* frame : out.first(got))
        if (frame->nb_segs == 1) complete_partial_checksum(bytes_of(frame));
    return got;
  }
  size_t tx_burst(std::span<rte_mbuf*> frames) noexcept override {
    return rte_eth_tx_burst(port_, queue_, frames.data(), static_cast<uint16_t>(frames.size()));
  }

 private:
  const uint16_t port_;
  const uint16_t queue_;
  const bool is_hardware_;
  const bool completes_checksums_;
};

struct Opened {
  uint16_t port = 0;
  uint16_t queues = 1;
};

Error refused(const PortName& name, std::string_view what, int code) {
  return Error::from_errno(code < 0 ? -code : code, fmt::format("port {}: {}", name.device, what));
}

/// `key` has to stay until the device is configured.
rte_eth_conf configuration(const rte_eth_dev_info& info, uint16_t queues, RssKey& key) {
  rte_eth_conf conf{};
  if (queues < 2) return conf;
  conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
  conf.rx_adv_conf.rss_conf.rss_key = key.data();
  conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
  conf.rx_adv_conf.rss_conf.rss_hf = kRssFields & info.flow_type_rss_offloads;
  return conf;
}

Result<Opened> open_device(const PortName& name, uint16_t wanted_queues, rte_mempool& pool, RssKey key) {
  Opened opened;
  if (rte_eth_dev_get_port_by_name(name.device.c_str(), &opened.port) != 0)
    return Error(ErrorCode::kNotFound,
                 fmt::format("port {}: DPDK could not open it (does it exist, and may this process use it?)",
                             name.arguments.empty() ? name.device : name.arguments));
  rte_eth_dev_info info{};
  if (const int failed = rte_eth_dev_info_get(opened.port, &info); failed != 0)
    return refused(name, "no information", failed);
  const bool spreads = (info.flow_type_rss_offloads & kRssFields) != 0 && info.hash_key_size <= key.size() &&
                       std::min(info.max_rx_queues, info.max_tx_queues) >= wanted_queues;
  opened.queues = spreads ? wanted_queues : uint16_t{1};
  const rte_eth_conf conf = configuration(info, opened.queues, key);
  if (const int failed = rte_eth_dev_configure(opened.port, opened.queues, opened.queues, &conf); failed != 0)
    return refused(name, "cannot be configured", failed);
  uint16_t rx = kRxDescriptors;
  uint16_t tx = kTxDescriptors;
  rte_eth_dev_adjust_nb_rx_tx_desc(opened.port, &rx, &tx);
  for (uint16_t q = 0; q < opened.queues; ++q) {
    if (const int failed = rte_eth_rx_queue_setup(opened.port, q, rx, SOCKET_ID_ANY, nullptr, &pool);
        failed != 0)
      return refused(name, "receive queue", failed);
    if (const int failed = rte_eth_tx_queue_setup(opened.port, q, tx, SOCKET_ID_ANY, nullptr); failed != 0)
      return refused(name, "transmit queue", failed);
  }
  if (const int failed = rte_eth_dev_start(opened.port); failed != 0)
    return refused(name, "does not start", failed);
  rte_eth_promiscuous_enable(opened.port);  // some virtual devices have no such mode, and need none
  return opened;
}

}  // namespace

Result<PortName> parse_port(const std::string& text) {
  constexpr std::string_view kPrefix = "iface:";
  const bool prefixed = text.starts_with(kPrefix);
  const std::string interface = prefixed ? text.substr(kPrefix.size()) : text;
  if (prefixed || is_interface(interface)) {
    if (!is_interface(interface))
      return Error(ErrorCode::kNotFound,
                   fmt::format("port {}: there is no network interface '{}'", text, interface));
    return PortName{.kind = PortName::Kind::kInterface, .device = interface};
  }
  if (looks_like_pci(text))
    return PortName{.kind = PortName::Kind::kPci,
                    .device = std::ranges::count(text, ':') == 1 ? "0000:" + text : text};
  if (text.starts_with("net_"))
    return PortName{.kind = PortName::Kind::kVdev,
                    .device = text.substr(0, text.find(',')),
                    .arguments = text,
                    .from_kernel = text.starts_with("net_af_packet") || text.starts_with("net_tap")};
  return Error(
      ErrorCode::kInvalidArgument,
      fmt::format("port '{}' is no network interface, no DPDK device (net_...) and no PCI address", text));
}

Result<Ports::Queues> Ports::open_one(const PortName& name, const Config& config) {
  Queues queues;
  if (name.kind == PortName::Kind::kInterface) {
    // One queue: the kernel's fan-out moves flows between sockets when an interface goes down and comes back.
    auto socket = PacketSocket::open(name.device, config.pool);
    if (!socket) return socket.error();
    queues.push_back(std::move(*socket));
    return queues;
  }
  const auto opened = open_device(name, config.workers, config.pool,
                                  symmetric_rss_key(static_cast<uint16_t>(config.secret[0])));
  if (!opened) return opened.error();
  started_.push_back(opened->port);
  for (uint16_t q = 0; q < opened->queues; ++q)
    queues.push_back(std::make_unique<DpdkQueue>(opened->port, q, name));
  return queues;
}

Result<std::unique_ptr<Ports>> Ports::open(const PortName& access, const PortName& core,
                                           const Config& config) {
  const uint16_t workers = config.workers;
  std::unique_ptr<Ports> ports(new Ports());
  auto a = ports->open_one(access, config);
  if (!a) return a.error();
  auto c = ports->open_one(core, config);
  if (!c) return c.error();
  const Queues& on_access = ports->queues_[index_of(Side::kAccess)] = std::move(*a);
  const Queues& on_core = ports->queues_[index_of(Side::kCore)] = std::move(*c);
  if (std::min(on_access.size(), on_core.size()) >= workers) {
    for (uint16_t w = 0; w < workers; ++w)
      ports->ios_.push_back(std::make_unique<PortPair>(*on_access[w], *on_core[w]));
    return ports;
  }
  ports->device_ = std::make_unique<PortPair>(*on_access[0], *on_core[0]);
  ports->spread_ = std::make_unique<Spread>(*ports->device_, Spreading(workers, config.secret));
  for (uint16_t w = 0; w < workers; ++w) ports->ios_.push_back(ports->spread_->io(w));
  return ports;
}

PortLosses Ports::losses(Side side) {
  PortLosses all;
  for (const auto& queue : queues_[index_of(side)]) {
    const PortLosses one = queue->losses();
    all.kernel_drops += one.kernel_drops;
    all.too_long += one.too_long;
    all.not_sent += one.not_sent;
  }
  return all;
}

Ports::~Ports() {
  ios_.clear();
  spread_.reset();
  device_.reset();
  for (Queues& queues : queues_) queues.clear();
  for (uint16_t port : started_) {
    rte_eth_dev_stop(port);
    rte_eth_dev_close(port);
  }
}

}  // namespace synfluid::gateway
