// GuestLink and DoorbellSet for guest processes: memfd pages and eventfds.
//
// A guest process has two eventfds: `to_guest`, which it waits on, and `from_guest`, which it writes to. The
// set hangs every from_guest into one epoll instance, edge-triggered: each write by the guest is an edge of
// its own, so nobody ever reads the counter, and collect() is one system call for all vifs. A guest that
// spoils its own counter only silences itself.
//
// Threads: as in guest_link.h. Ownership: a link owns its memory and descriptors and leaves its set when it
// goes; the set must outlive its links. Errors: Result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/guest_link.h"
#include "backend/process/shared_memory.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace synfluid::backend {

class ProcessDoorbells final : public DoorbellSet {
 public:
  static Result<std::unique_ptr<ProcessDoorbells>> create();

  /// `fd` is polled until remove(); the set does not own it.
  Status add(int fd, DoorbellToken token);
  /// Must come before the last descriptor is closed: the guest's copy would keep the registration alive.
  void remove(int fd) noexcept;

  int fd() const noexcept override { return epoll_.get(); }
  size_t collect(std::span<DoorbellToken> out) noexcept override;

 private:
  explicit ProcessDoorbells(UniqueFd epoll) : epoll_(std::move(epoll)) {}

  UniqueFd epoll_;
};

/// An eventfd as a link wants it: close-on-exec, and writing to it never blocks.
Result<UniqueFd> make_doorbell_fd();

struct ProcessLinkConfig {
  std::shared_ptr<const SharedMemory> area;  ///< laid out as base/abi/card.h says
  UniqueFd to_guest;                         ///< from make_doorbell_fd(), both; the guest has copies
  UniqueFd from_guest;
  DoorbellToken token = 0;
};

/// The host's end of a guest process's vif; its doorbell is in `doorbells` from now on.
Result<std::unique_ptr<GuestLink>> make_process_link(ProcessLinkConfig config, ProcessDoorbells& doorbells);

}  // namespace synfluid::backend
