// The hypercalls that building a domain is made of, straight to Xen through libxencall.
//
// libxenctrl copies each argument into memory that it maps for the call and unmaps again; here one area is
// kept for all of them, and what need not wait for an answer goes in one multicall. The structures are those
// of Xen's control interface, which belongs to one version of Xen: a hypervisor of another refuses the first
// call.
//
// Threads: one at a time. Ownership: owns its handle and its area. Errors: 0 or a positive errno.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/strong_id.h"
#include "spawner/toolstack/xen_calls.h"

struct xencall_handle;

namespace synfluid::spawner::toolstack {

class Hypercalls {
 public:
  /// nullptr with errno set on a host without Xen.
  static std::unique_ptr<Hypercalls> open();
  ~Hypercalls();
  Hypercalls(const Hypercalls&) = delete;
  Hypercalls& operator=(const Hypercalls&) = delete;

  int create_domain(DomId domid, const DomainHandle& handle);
  int destroy_domain(DomId domid);
  /// So many in one multicall at the most; an error for each.
  static constexpr size_t kMostDestroyed = 8;
  void destroy_domains(std::span<const DomId> domids, std::span<int> failed);
  /// Gives way to it: on a processor that the domain shares with us it runs now, instead of somewhere within
  /// what we do next, when Xen's scheduler would have let us go on for up to a millisecond.
  int unpause_domain(DomId domid);

  /// As XenCalls::equip(), in one multicall.
  int equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory, Outfit& outfit);
  int set_context(DomId domid, const VcpuStart& start);

 private:
  struct Area;
  class Batch;

  Hypercalls(xencall_handle* handle, Area* area) : handle_(handle), area_(area) {}
  int call_domctl(DomId domid, uint32_t command);

  xencall_handle* handle_;
  Area* area_;  ///< memory that a hypercall may reach: never paged out
};

}  // namespace synfluid::spawner::toolstack
