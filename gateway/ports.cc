#include "gateway/ports.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include <fmt/format.h>
#include <rte_ethdev.h>

#include "gateway/partial_checksum.h"

namespace synfluid::gateway {

namespace {

constexpr uint16_t kRxDescriptors = 1024;
constexpr uint16_t kTxDescriptors = 1024;

/// Toeplitz with this key gives both directions of a flow the same hash (Woo and Park, "Scalable TCP Session
/// Monitoring with Symmetric Receive-Side Scaling", 2012).
constexpr std::array<uint8_t, 52> kSymmetricKey = [] {
  std::array<uint8_t, 52> key{};
  for (size_t i = 0; i < key.size(); ++i) key[i] = i % 2 == 0 ? 0x6d : 0x5a;
  return key;
}();

constexpr uint64_t kRssFields = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP;

bool is_interface(const std::string& name) {
  std::error_code ignored;
  return !name.empty() && name.find('/') == std::string::npos &&
         std::filesystem::exists(std::filesystem::path("/sys/class/net") / name, ignored);
}

/// "03:00.0" or "0000:03:00.0".
bool looks_like_pci(const std::string& text) {
  const size_t colon = text.rfind(':');
  const size_t dot = text.rfind('.');
  if (colon == std::string::npos || dot == std::string::npos || dot < colon) return false;
  return std::ranges::all_of(text, [](unsigned char c) { return std::isxdigit(c) || c == ':' || c == '.'; });
}

class DpdkPort final : public PacketIo {
 public:
  struct Device {
    uint16_t port;
    bool completes_checksums;
  };
  DpdkPort(Device access, Device core, uint16_t queue) : devices_{access, core}, queue_(queue) {}

  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override {
    const Device& device = devices_[index_of(side)];
    const uint16_t got = rte_eth_rx_burst(device.port, queue_, out.data(), static_cast<uint16_t>(out.size()));
    if (device.completes_checksums)
      for (rte_mbuf* frame : out.first(got))
        if (frame->nb_segs == 1) complete_partial_checksum(bytes_of(frame));
    return got;
  }
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override {
    return rte_eth_tx_burst(devices_[index_of(side)].port, queue_, frames.data(),
                            static_cast<uint16_t>(frames.size()));
  }

 private:
  const std::array<Device, kSides> devices_;
  const uint16_t queue_;
};

struct Opened {
  uint16_t port = 0;
  uint16_t queues = 1;
};

Error refused(const PortName& name, std::string_view what, int code) {
  return Error::from_errno(code < 0 ? -code : code, fmt::format("port {}: {}", name.device, what));
}

rte_eth_conf configuration(const rte_eth_dev_info& info, uint16_t queues) {
  rte_eth_conf conf{};
  if (queues < 2) return conf;
  conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
  conf.rx_adv_conf.rss_conf.rss_key = const_cast<uint8_t*>(kSymmetricKey.data());
  conf.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
  conf.rx_adv_conf.rss_conf.rss_hf = kRssFields & info.flow_type_rss_offloads;
  return conf;
}

Result<Opened> open_device(const PortName& name, uint16_t wanted_queues, rte_mempool& pool) {
  Opened opened;
  if (rte_eth_dev_get_port_by_name(name.device.c_str(), &opened.port) != 0)
    return Error(ErrorCode::kNotFound,
                 fmt::format("port {}: DPDK could not open it (does it exist, and may this process use it?)",
                             name.arguments.empty() ? name.device : name.arguments));
  rte_eth_dev_info info{};
  if (const int failed = rte_eth_dev_info_get(opened.port, &info); failed != 0)
    return refused(name, "no information", failed);
  const bool spreads = (info.flow_type_rss_offloads & kRssFields) != 0 &&
                       info.hash_key_size <= kSymmetricKey.size() &&
                       std::min(info.max_rx_queues, info.max_tx_queues) >= wanted_queues;
  opened.queues = spreads ? wanted_queues : uint16_t{1};
  const rte_eth_conf conf = configuration(info, opened.queues);
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

Result<PortName> parse_port(const std::string& text, int number) {
  constexpr std::string_view kPrefix = "iface:";
  const bool prefixed = text.starts_with(kPrefix);
  const std::string interface = prefixed ? text.substr(kPrefix.size()) : text;
  if (prefixed || is_interface(interface)) {
    if (!is_interface(interface))
      return Error(ErrorCode::kNotFound,
                   fmt::format("port {}: there is no network interface '{}'", text, interface));
    // One queue: the kernel's fanout would put fragments together, and move flows between queues under load.
    const std::string device = fmt::format("net_af_packet9{}", number);
    return PortName{PortName::Kind::kVdev, device, fmt::format("{},iface={},qpairs=1", device, interface),
                    true};
  }
  if (looks_like_pci(text))
    return PortName{PortName::Kind::kPci, std::ranges::count(text, ':') == 1 ? "0000:" + text : text, "",
                    false};
  if (text.starts_with("net_"))
    return PortName{PortName::Kind::kVdev, text.substr(0, text.find(',')), text,
                    text.starts_with("net_af_packet") || text.starts_with("net_tap")};
  return Error(
      ErrorCode::kInvalidArgument,
      fmt::format("port '{}' is no network interface, no DPDK device (net_...) and no PCI address", text));
}

Result<std::unique_ptr<Ports>> Ports::open(const PortName& access, const PortName& core, uint16_t workers,
                                           rte_mempool& pool) {
  std::unique_ptr<Ports> ports(new Ports());
  auto a = open_device(access, workers, pool);
  if (!a) return a.error();
  ports->started_.push_back(a->port);
  auto c = open_device(core, workers, pool);
  if (!c) return c.error();
  ports->started_.push_back(c->port);
  const DpdkPort::Device on_access{a->port, access.from_kernel};
  const DpdkPort::Device on_core{c->port, core.from_kernel};
  if (a->queues >= workers && c->queues >= workers) {
    for (uint16_t w = 0; w < workers; ++w)
      ports->ios_.push_back(std::make_unique<DpdkPort>(on_access, on_core, w));
    return ports;
  }
  ports->device_ = std::make_unique<DpdkPort>(on_access, on_core, uint16_t{0});
  ports->spread_ = std::make_unique<Spread>(*ports->device_, workers);
  for (uint16_t w = 0; w < workers; ++w) ports->ios_.push_back(ports->spread_->io(w));
  return ports;
}

Ports::~Ports() {
  ios_.clear();
  spread_.reset();
  for (uint16_t port : started_) {
    rte_eth_dev_stop(port);
    rte_eth_dev_close(port);
  }
}

}  // namespace synfluid::gateway
