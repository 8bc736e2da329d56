// Domain ids for guests of ours, each with an event channel that is open for its domain before there is one.
//
// Opening a port costs Xen a walk over every port that dom0 has, and Linux an interrupt. So it is done ahead,
// in the spawner's idle turns, and once for each id: when a guest has gone, its port is open for the next one
// with that id.
//
// Which id comes next: Xen keeps its domains in a list sorted by id and walks it from the lowest to insert
// one. So unused ids are handed out downwards, and an id that has come back goes again as soon as it costs no
// long walk. An id that Xen still has (a domain slow to die) or that another toolstack uses is set aside,
// until there is nothing else left.
//
// Threads: the spawner's. Ownership: a DoorbellId gives its id back when it goes, which must be after its
// domain's end; ids and doorbell sets outlive them all. Errors: kExhausted when all ids are in use.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <utility>

#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::spawner::xen {

class DoorbellIds;

/// The ids that no worker has opened a port for yet, from `highest` downwards.
class FreshIds {
 public:
  explicit FreshIds(DomId highest) : next_(highest.value()) {}
  bool any() const { return next_ != 0; }
  DomId next() const { return DomId(next_); }
  void take() { --next_; }

 private:
  uint16_t next_;
};

struct OpenId {
  DomId domid = {};
  EventPort port = {};
  friend auto operator<=>(const OpenId&, const OpenId&) = default;
};

/// An id in use.
class DoorbellId {
 public:
  DoorbellId(DoorbellIds& home, OpenId id) : home_(&home), id_(id) {}
  DoorbellId(DoorbellId&& other) noexcept : home_(std::exchange(other.home_, nullptr)), id_(other.id_) {}
  DoorbellId& operator=(DoorbellId&& other) noexcept {
    std::swap(home_, other.home_);
    std::swap(id_, other.id_);
    return *this;
  }
  ~DoorbellId();
  DomId domid() const { return id_.domid; }
  EventPort port() const { return id_.port; }
  bool is_from(const DoorbellIds& ids) const { return home_ == &ids; }

  /// The domain could not be made: somebody has it.
  void set_aside() &&;
  /// To another worker's set: a new port there, for the same domain. Unchanged on failure.
  Status move_to(DoorbellIds& ids);

 private:
  DoorbellIds* home_;
  OpenId id_;
};

/// What opens and closes ports: a worker's XenDoorbells.
struct PortOpener {
  std::function<Result<EventPort>(DomId)> open;
  std::function<void(EventPort)> close;
};

/// One worker's.
class DoorbellIds {
 public:
  DoorbellIds(FreshIds& fresh, PortOpener opener, uint32_t ahead)
      : fresh_(fresh), opener_(std::move(opener)), ahead_(ahead) {}
  DoorbellIds(const DoorbellIds&) = delete;
  DoorbellIds& operator=(const DoorbellIds&) = delete;

  /// An id with its port: one that is ready, or a new one, opened now.
  Result<DoorbellId> take();
  /// Ids that take() could give without opening a port.
  size_t ready() const { return unused_.size() + returned_.size(); }
  /// How many can be tried: those in nobody's use, set aside ones included.
  size_t left() const { return ready() + aside_.size() + (fresh_.any() ? fresh_.next().value() : 0u); }

  /// Opens one port if there are fewer ready than there should be. False if there is nothing to do.
  bool open_ahead();

  /// How many should be ready.
  void set_ahead(uint32_t ahead) { ahead_ = ahead; }

 private:
  friend class DoorbellId;
  Result<OpenId> open_fresh();
  OpenId take_ready();

  FreshIds& fresh_;
  PortOpener opener_;
  uint32_t ahead_;
  bool opener_failed_ = false;  ///< not asked again ahead of need until an id has come back
  std::deque<OpenId> unused_;   ///< opened and never used, descending
  std::set<OpenId> returned_;
  std::deque<OpenId> aside_;
};

}  // namespace synfluid::spawner::xen
