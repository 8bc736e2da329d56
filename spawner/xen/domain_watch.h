// Finds out which of our domains have died.
//
// Xen tells of a domain's end by VIRQ_DOM_EXC, which only one program of dom0 may have, and that is
// xenstored. So the watch asks Xen itself, a small slice of the domains at a time: a flow that comes
// meanwhile does not wait for a walk over all of them, and only the time until a death is seen grows with
// their number.
//
// Threads: the spawner's. Ownership: owns its timer. Errors: a failed question is asked again at the next
// tick.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "spawner/hypervisor.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::xen {

class DomainWatch {
 public:
  static Result<DomainWatch> create(toolstack::XenCalls& xen);

  void add(VmId vm, uint64_t card_frame);
  void remove(VmId vm);

  /// Readable when it is time to call next().
  int fd() const { return timer_.get(); }
  std::optional<VmEvent> next();

 private:
  struct Watched {
    uint32_t generation = 0;
    uint64_t card_frame = 0;  ///< 0: no card
    bool reported = false;
  };

  DomainWatch(toolstack::XenCalls& xen, UniqueFd timer) : xen_(xen), timer_(std::move(timer)) {}
  void tick_every(long period_ns);
  bool take_tick();
  void look_at_a_slice();
  void report(const toolstack::DomainInfo& info, Watched& watched);
  std::string last_words(DomId domid, uint64_t card_frame);

  toolstack::XenCalls& xen_;
  UniqueFd timer_;
  long period_ns_ = 0;  ///< 0: the timer stands still
  uint16_t next_id_ = 0;
  std::map<DomId, Watched> watched_;
  std::deque<VmEvent> events_;
};

}  // namespace synfluid::spawner::xen
