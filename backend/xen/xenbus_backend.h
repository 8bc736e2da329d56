// The back end's side of the xenbus handshake of one vif, for front ends that wire themselves.
//
//     front end                        back end
//     Initialising ──────────────────▶ InitWait       (features offered)
//     Connected: rings, port, features
//                  ──────────────────▶ connect()      Connected, or Closing with a reason
//     Closing ───────────────────────▶ disconnect()   Closing
//     Closed ────────────────────────▶                Closed
//     Initialising (again) ──────────▶ InitWait       at most kMaxConnects connections in all
//
// What the front end wrote is read once per change, parsed strictly and bounded; nonsense closes the vif and
// harms nobody else. Where the nodes are, and what connecting means, is the XenbusDevice's business: this
// file is only the protocol, without Xen.
//
// Threads: the spawner's. Ownership: none; the device must outlive the back end. Errors: Result for a store
// that fails us; a front end's mistakes are changes of kind kRefused. Protocol: Xen public headers
// xen/io/xenbus.h and xen/io/netif.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::backend::xen {

/// xen/io/xenbus.h.
enum class XenbusState : uint8_t {
  kUnknown = 0,
  kInitialising = 1,
  kInitWait = 2,
  kInitialised = 3,
  kConnected = 4,
  kClosing = 5,
  kClosed = 6,
  kReconfiguring = 7,
  kReconfigured = 8,
};

/// What is offered beyond what every back end of ours can do.
struct XenbusOffer {
  bool control_ring = false;  ///< feature-ctrl-ring
};

struct ControlRingDetails {
  GrantRef ring = {};
  EventPort port = {};
};

/// What a front end said of itself, checked.
struct FrontEndDetails {
  GrantRef tx_ring = {};
  GrantRef rx_ring = {};
  EventPort tx_port = {};
  EventPort rx_port = {};                          ///< the same as tx_port unless it has split event channels
  bool persistent = false;                         ///< feature-persistent
  bool receives_chains = false;                    ///< feature-sg
  std::optional<ControlRingDetails> control = {};  ///< only if it was offered
};

/// One vif's nodes, and its rings.
class XenbusDevice {
 public:
  virtual ~XenbusDevice() = default;
  /// The value of a node in the front end's directory; nothing if there is none.
  virtual Result<std::optional<std::string>> read_front(std::string_view key) = 0;
  virtual Status write_state(XenbusState state) = 0;
  virtual Status connect(const FrontEndDetails& details) = 0;
  virtual void disconnect() = 0;
};

struct XenbusChange {
  enum class Kind : uint8_t {
    kNone,       ///< nothing that matters outside
    kConnected,  ///< connect() was called and went well
    kClosed,     ///< a connected front end left; disconnect() was called
    kRefused,    ///< the front end can't be served; `reason` says why
  };
  Kind kind = Kind::kNone;
  std::string reason;
};

/// A front end may leave and come back (a driver reloaded, a kernel booted by a kernel), but not forever.
inline constexpr int kMaxConnects = 16;

class XenbusBackend {
 public:
  /// The device's own state node says InitWait from the start.
  explicit XenbusBackend(XenbusDevice& device, XenbusOffer offer = {}) : device_(device), offer_(offer) {}

  /// To be called when the front end's state node may have changed.
  Result<XenbusChange> front_changed();

  XenbusState state() const { return state_; }

 private:
  Result<XenbusChange> restart();
  Result<XenbusChange> connect();
  Result<XenbusChange> leave(XenbusState state);
  Result<XenbusChange> refuse(std::string reason);
  Status enter(XenbusState state);

  XenbusDevice& device_;
  const XenbusOffer offer_;
  XenbusState state_ = XenbusState::kInitWait;
  int connects_ = 0;
};

/// Reads and checks a front end's directory. kProtocol for what can't be served.
Result<FrontEndDetails> read_front_end(XenbusDevice& device, XenbusOffer offer);

}  // namespace synfluid::backend::xen
