#include "spawner/toolstack/failing_xen_calls.h"

namespace synfluid::spawner::toolstack {

Status FailingXenCalls::create_domain(DomId domid, const DomainHandle& handle) {
  if (auto step = faults_.step("create_domain"); !step) return step.error();
  return inner_.create_domain(domid, handle);
}

Result<Outfit> FailingXenCalls::equip(DomId domid, uint64_t page_limit, std::span<MemoryPiece> memory) {
  if (auto step = faults_.step("equip"); !step) return step.error();
  auto outfit = inner_.equip(domid, page_limit, memory);
  if (auto step = faults_.step("equip, when done"); !step) return step.error();
  return outfit;
}

Result<uint64_t> FailingXenCalls::populate(DomId domid, uint64_t pfn, unsigned order) {
  if (auto step = faults_.step("populate"); !step) return step.error();
  return inner_.populate(domid, pfn, order);
}

Result<std::byte*> FailingXenCalls::map_frames(DomId domid, std::span<const uint64_t> frames) {
  if (auto step = faults_.step("map_frames"); !step) return step.error();
  return inner_.map_frames(domid, frames);
}

Status FailingXenCalls::set_context(DomId domid, const VcpuStart& start) {
  if (auto step = faults_.step("set_context"); !step) return step.error();
  auto status = inner_.set_context(domid, start);
  if (auto step = faults_.step("set_context, when done"); !step) return step.error();
  return status;
}

Status FailingXenCalls::unpause(DomId domid) {
  if (auto step = faults_.step("unpause"); !step) return step.error();
  return inner_.unpause(domid);
}

Result<std::vector<DomainInfo>> FailingXenCalls::list_domains(DomId first, uint32_t max) {
  if (auto step = faults_.step("list_domains"); !step) return step.error();
  return inner_.list_domains(first, max);
}

Result<uint64_t> FailingXenCalls::free_memory() {
  if (auto step = faults_.step("free_memory"); !step) return step.error();
  return inner_.free_memory();
}

}  // namespace synfluid::spawner::toolstack
