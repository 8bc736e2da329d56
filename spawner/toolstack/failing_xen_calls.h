// XenCalls that fail when they are told to, and are another's otherwise: for tests of what is undone.
//
// Every call that can fail is a step of the FaultPlan; destroying and unmapping always go through. The calls
// that do several things at once are two steps: failed before anything, and failed when all was done. The
// injected error is kSystem, so that nothing is tried again because of it.
//
// Threads: as XenCalls. Ownership: the inner calls are the caller's and must outlive these.
#pragma once

#include "spawner/faulty_hypervisor.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::spawner::toolstack {

class FailingXenCalls final : public XenCalls {
 public:
  explicit FailingXenCalls(XenCalls& inner) : inner_(inner) {}

  FaultPlan& faults() { return faults_; }

  Status create_domain(DomId domid, const DomainHandle& handle) override;
  Status destroy_domain(DomId domid) override { return inner_.destroy_domain(domid); }
  Result<Outfit> equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) override;
  Result<uint64_t> populate(DomId domid, uint64_t pfn, unsigned order) override;
  Result<std::byte*> map_frames(DomId domid, std::span<const uint64_t> frames) override;
  void unmap_frames(std::byte* address, size_t pages) override { inner_.unmap_frames(address, pages); }
  Status set_context(DomId domid, const VcpuStart& start) override;
  Status unpause(DomId domid) override;
  Result<std::vector<DomainInfo>> list_domains(DomId first, uint32_t max) override;
  Result<uint64_t> free_memory() override;

 private:
  XenCalls& inner_;
  FaultPlan faults_;
};

}  // namespace synfluid::spawner::toolstack
