// The waist between the spawner and what runs guests: Xen, or sandboxed processes.
//
// A Vm is created paused with its vif wired, so that frames can be put into its receive ring before its first
// instruction. Foreign images wire their vif themselves, later, through xenbus: for those vif_ready comes as
// an event.
//
// Threads: all calls from the spawner's thread, except where a call says otherwise. Ownership: whoever holds
// the Vm holds the guest; destroying the object, or destroy_many(), destroys the guest and gives back all it
// took. Neither waits for a guest that is slow to die: that one goes on dying behind them. A link must be
// destroyed before its Vm. Units: bytes, nanoseconds. Errors: Result, with nothing left behind on failure.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backend/guest_link.h"
#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::spawner {

/// Domain ids come back; the generation tells two guests apart that had the same one.
struct VmId {
  DomId domid;
  uint32_t generation = 0;
  friend constexpr auto operator<=>(const VmId&, const VmId&) = default;
};

/// What a service runs, before anything is prepared.
struct ImageSpec {
  std::string service;  ///< names the guests of this service to people: "<service>-<domid>"
  std::string image;    ///< "builtin:responder", "builtin:passthrough", "builtin:firewall", or a path
  uint64_t memory_bytes = 0;
  std::vector<std::pair<std::string, std::string>> config = {};
};

/// Whatever a hypervisor keeps per service so that creating a guest is quick. Outlives its guests.
class PreparedImage {
 public:
  virtual ~PreparedImage() = default;
};

/// What only the new guest has.
struct VmConfig {
  std::string name;
  uint32_t generation = 0;
  WorkerId worker = {};                 ///< whose DoorbellSet the vif's doorbell goes to
  backend::DoorbellToken doorbell = 0;  ///< as the worker will know the vif
};

/// The doorbell of a guest that waits in a pool: built with whichever worker is likely to get it, and
/// replaced by set_doorbell() before its link is taken. A doorbell under it need not be delivered.
inline constexpr backend::DoorbellToken kNoDoorbell = 0xffff'ffff;

class Vm {
 public:
  virtual ~Vm() = default;
  virtual VmId id() const = 0;
  /// Lets a paused guest run. Once.
  virtual Status start() = 0;
  /// Directs the vif's doorbell to another worker's set, or to the same under another token: a pooled guest
  /// has found its worker. Before take_link(). Cheap when the worker stays the same.
  virtual Status set_doorbell(WorkerId worker, backend::DoorbellToken doorbell) = 0;
  /// The wired vif; once, after creation (guests of ours) or after vif_ready (foreign ones). Empty otherwise.
  virtual std::unique_ptr<backend::GuestLink> take_link() = 0;
  /// True if take_link() has something to give now.
  virtual bool link_ready() const = 0;
  /// The last of what the guest wrote for people, printable (card_console.h). Read when it is asked for;
  /// costs nothing otherwise.
  virtual Result<std::string> console() = 0;
};

struct VmEvent {
  enum class Kind : uint8_t {
    kVifReady,  ///< a foreign front end has connected
    kExited,    ///< the guest shut itself down
    kCrashed,   ///< the guest died
  };
  VmId vm;
  Kind kind;
  std::string detail;
};

/// One guest as `list()` finds it: our own ones, this run's or a former run's.
struct VmListing {
  VmId vm;
  std::string name;
};

class Hypervisor {
 public:
  virtual ~Hypervisor() = default;

  virtual std::string_view name() const = 0;

  /// Reads, checks and digests an image. Errors name the image and what is wrong with it.
  virtual Result<std::unique_ptr<PreparedImage>> prepare(const ImageSpec& spec) = 0;

  /// Builds a paused guest. `image` came from prepare() of this hypervisor.
  virtual Result<std::unique_ptr<Vm>> create(const PreparedImage& image, const VmConfig& config) = 0;

  /// Ends guests, many at once: cheaper than one after the other.
  virtual void destroy_many(std::vector<std::unique_ptr<Vm>> vms) { vms.clear(); }

  /// Where a worker's doorbells arrive. Stable; the worker uses it from its own thread.
  virtual backend::DoorbellSet& doorbells(WorkerId worker) = 0;

  /// Readable when next_event() has something. For the spawner's epoll set.
  virtual int event_fd() const = 0;
  virtual std::optional<VmEvent> next_event() = 0;

  /// One bounded step of what makes later guests quicker, for when nobody waits. False if there is none left.
  virtual bool work_ahead() { return false; }

  /// Bytes that new guests could still get.
  virtual Result<uint64_t> memory_left() = 0;

  /// Destroys guests that a former run of the gateway left behind, and whatever else of theirs is left.
  /// Returns how many guests it found. Called once, before the first create().
  virtual Result<uint32_t> sweep() = 0;
};

}  // namespace synfluid::spawner
