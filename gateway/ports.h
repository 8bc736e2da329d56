// The two ports of the bump in the wire, as DPDK devices.
//
// A port is named as "iface:NAME" or just "NAME" of a network interface (then the af_packet driver carries
// it), as a DPDK virtual device with its arguments ("net_tap0,iface=x"), or as a PCI address. Devices with
// enough queues and RSS spread flows over the workers themselves, by a symmetric key so that both directions
// meet; for the others worker 0 receives and spreads in software (spread.h). Threads: open() from main after
// the EAL; each io(w) belongs to worker w. Ownership: Ports closes the devices when it goes. Errors: one line
// naming the port.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/packet_io.h"
#include "gateway/spread.h"

namespace synfluid::gateway {

/// What the command line said about a port, understood.
struct PortName {
  enum class Kind : uint8_t { kVdev, kPci };
  Kind kind = Kind::kVdev;
  std::string device;     ///< as DPDK knows it: "net_af_packet0", "0000:03:00.0"
  std::string arguments;  ///< for --vdev: "net_af_packet0,iface=veth1"
  bool from_kernel =
      false;  ///< frames come out of the kernel's stack: their checksums may be left to hardware
};

/// `number` tells apart the devices that are named here.
Result<PortName> parse_port(const std::string& text, int number);

class Ports {
 public:
  static Result<std::unique_ptr<Ports>> open(const PortName& access, const PortName& core, uint16_t workers,
                                             rte_mempool& pool);
  ~Ports();
  Ports(const Ports&) = delete;
  Ports& operator=(const Ports&) = delete;

  PacketIo& io(uint16_t worker) { return *ios_[worker]; }
  /// Frames that found no room in a worker's queue while being spread in software.
  uint64_t spread_drops() const { return spread_ ? spread_->drops() : 0; }

 private:
  Ports() = default;

  std::vector<uint16_t> started_;
  std::unique_ptr<PacketIo> device_;  ///< of worker 0, behind the spreading one
  std::unique_ptr<Spread> spread_;
  std::vector<std::unique_ptr<PacketIo>> ios_;
};

}  // namespace synfluid::gateway
