// The two ports of the bump in the wire: network interfaces of this host, or DPDK devices.
//
// A port is named as "iface:NAME" or just "NAME" of a network interface (packet_socket.h), as a DPDK virtual
// device with its arguments ("net_tap0,iface=x"), or as a PCI address. Devices with
// enough queues and RSS spread flows over the workers themselves, by a symmetric key of this boot so that
// both directions meet (rss_key.h); for the others worker 0 receives and spreads in software (spread.h).
// Threads: open() from main after the EAL; each io(w) belongs to worker w. Ownership: Ports closes the
// devices when it goes. Errors: one line naming the port.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/port_device.h"
#include "gateway/spread.h"

namespace synfluid::gateway {

/// What the command line said about a port, understood.
struct PortName {
  enum class Kind : uint8_t { kInterface, kVdev, kPci };
  Kind kind = Kind::kInterface;
  std::string device;          ///< the interface, or as DPDK knows it: "net_tap0", "0000:03:00.0"
  std::string arguments = {};  ///< for --vdev: "net_tap0,iface=x"
  bool from_kernel =
      false;  ///< frames come out of the kernel's stack: their checksums may be left to hardware
};

Result<PortName> parse_port(const std::string& text);

class Ports {
 public:
  struct Config {
    uint16_t workers = 1;
    rte_mempool& pool;
    flowtable::Secret secret{};  ///< of the spreading; not the one of the workers' tables (spread.h)
  };
  static Result<std::unique_ptr<Ports>> open(const PortName& access, const PortName& core,
                                             const Config& config);
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  PacketIo& io(uint16_t worker) { return *ios_[worker]; }
  /// From the control thread.
  PortLosses losses(Side side);
  /// Frames that found no room in a worker's queue while being spread in software.
  uint64_t spread_drops() const { return spread_ ? spread_->drops() : 0; }

 private:
  Ports() = default;

  /// One side's queues, each a worker's; or one for all.
  using Queues = std::vector<std::unique_ptr<PortDevice>>;

  Result<Queues> open_one(const PortName& name, const Config& config);

  std::vector<uint16_t> started_;
  Queues queues_[kSides];
  std::unique_ptr<PacketIo> device_;  ///< of worker 0, behind the spreading one
  std::unique_ptr<Spread> spread_;
  std::vector<std::unique_ptr<PacketIo>> ios_;
};

}  // namespace synfluid::gateway
