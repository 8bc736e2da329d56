// The waist between the ring code and a hypervisor: the mapped pages of one vif, and its doorbell.
//
// GuestLink: one per vif, made by the toolstack's side (backend/xen, backend/process, or a test), owned by
// the Vif. Its destructor gives everything back: maps, event channel, descriptors. All calls but the
// constructor come from the one thread that owns the vif at the time; a vif is handed between threads whole.
//
// DoorbellSet: one per worker, where the doorbells of its vifs arrive. add() and remove() may be called from
// the spawner's thread while the worker waits; collect() and fd() are the worker's.
//
// On Xen the pages are persistent grant maps (libxengnttab) and the doorbell is an event channel; on
// `process` they are memfd pages and eventfds. What the pages hold is written by a guest: read once, check,
// use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/abi/netif.h"
#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::backend {

/// Names a vif to a DoorbellSet; chosen by the worker, unique within the set while added.
using DoorbellToken = uint32_t;

/// One piece of a batched copy between a host buffer and a page that is not mapped (a front end without
/// persistent grants). `status` is an int16_t of the netif protocol, 0 when the copy was made.
struct GrantCopy {
  enum class Direction : uint8_t { kFromGuest, kToGuest };
  Direction direction;
  GrantRef gref;
  uint16_t offset;
  uint16_t length;
  std::byte* host;
  int16_t status;
};

/// What the back end does with a page.
enum class PageAccess : uint8_t { kRead, kWrite };

/// The control ring of a front end, and what its static grants take of the hypervisor: numbered places for
/// mapped pages, which control_ring.h fills.
class ControlLink {
 public:
  virtual ~ControlLink() = default;
  virtual abi::NetCtrlRing& ring() noexcept = 0;
  /// How many pages may be mapped at once.
  virtual uint32_t places() const noexcept = 0;
  /// Maps a page into a free place; nullptr if it is not granted so.
  virtual std::byte* map(uint32_t place, GrantRef gref, PageAccess access) noexcept = 0;
  virtual void unmap(uint32_t place) noexcept = 0;
  virtual void notify() noexcept = 0;
};

class GuestLink {
 public:
  virtual ~GuestLink() = default;

  /// What the front end can take, beyond the protocol's least.
  struct FrontEnd {
    bool receives_chains = false;  ///< frames that span several receive slots (feature-sg)
  };
  virtual FrontEnd front_end() const noexcept { return {}; }

  virtual abi::NetTxRing& tx_ring() noexcept = 0;
  virtual abi::NetRxRing& rx_ring() noexcept = 0;

  /// The card page of a guest of ours; nullptr for a foreign front end.
  virtual std::byte* card() noexcept = 0;

  /// Pages known from the start: page i has grant reference first_gref + i. Empty where grants come as they
  /// are used.
  struct Seeded {
    uint32_t first_gref = 0;
    std::span<std::byte* const> pages;
  };
  virtual Seeded seeded() noexcept = 0;

  /// Maps a grant that is not seeded and keeps it mapped until the link goes; nullptr if the guest does not
  /// grant it, or has used up its share. Only called for front ends that promised persistence.
  virtual std::byte* map(GrantRef gref) noexcept = 0;
  virtual bool is_persistent() const noexcept = 0;

  /// Of a front end that has a control ring; nullptr otherwise.
  virtual ControlLink* control() noexcept { return nullptr; }

  /// Copies a batch by grant copy, for front ends that are not persistent.
  virtual void copy(std::span<GrantCopy> batch) noexcept = 0;

  /// Rings the guest. One hypercall or system call (two for a front end with a channel for each ring).
  virtual void notify() noexcept = 0;
};

class DoorbellSet {
 public:
  virtual ~DoorbellSet() = default;

  /// Readable when a doorbell has rung. For the worker's epoll set, when it goes to sleep.
  virtual int fd() const noexcept = 0;

  /// Takes the doorbells that have rung, without waiting; each is armed again. Returns how many were written
  /// to `out`. Two system calls at the most, however many vifs there are.
  virtual size_t collect(std::span<DoorbellToken> out) noexcept = 0;
};

}  // namespace synfluid::backend
