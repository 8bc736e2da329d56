#include "spawner/toolstack/failing_xen_calls.h"

namespace synfluid::spawner::toolstack {

Status FailingXenCalls::create_domain(DomId domid, const DomainHandle& handle) {
  if (auto step = faults_.step("create_domain"); !step) return step.error();
  return inner_.create_domain(domid, handle);
}

Status FailingXenCalls::add_vcpu(DomId domid) {
  if (auto step = faults_.step("add_vcpu"); !step) return step.error();
  return inner_.add_vcpu(domid);
}

Status FailingXenCalls::limit_memory(DomId domid, uint64_t pages) {
  if (auto step = faults_.step("limit_memory"); !step) return step.error();
  return inner_.limit_memory(domid, pages);
}

Result<uint64_t> FailingXenCalls::populate(DomId domid, uint64_t pfn, unsigned order) {
  if (auto step = faults_.step("populate"); !step) return step.error();
  return inner_.populate(domid, pfn, order);
}

Result<uint64_t> FailingXenCalls::shared_info_frame(DomId domid) {
  if (auto step = faults_.step("shared_info_frame"); !step) return step.error();
  return inner_.shared_info_frame(domid);
}

Result<std::byte*> FailingXenCalls::map_frames(DomId domid, std::span<const uint64_t> frames) {
  if (auto step = faults_.step("map_frames"); !step) return step.error();
  return inner_.map_frames(domid, frames);
}

Status FailingXenCalls::pin_l4(DomId domid, uint64_t frame) {
  if (auto step = faults_.step("pin_l4"); !step) return step.error();
  return inner_.pin_l4(domid, frame);
}

Status FailingXenCalls::set_context(DomId domid, const VcpuStart& start) {
  if (auto step = faults_.step("set_context"); !step) return step.error();
  return inner_.set_context(domid, start);
}

Result<GrantTable> FailingXenCalls::map_grant_table(DomId domid) {
  if (auto step = faults_.step("map_grant_table"); !step) return step.error();
  return inner_.map_grant_table(domid);
}

Result<EventPort> FailingXenCalls::open_event_port(DomId domid) {
  if (auto step = faults_.step("open_event_port"); !step) return step.error();
  return inner_.open_event_port(domid);
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
