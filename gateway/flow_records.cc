#include <algorithm>

#include "gateway/replay_report.h"

namespace synfluid::gateway {

FlowRecord& FlowRecords::begin(const ParsedPacket& syn, uint32_t stream) {
  current_[syn.flow.key] = records_.size();
  FlowRecord& record = records_.emplace_back();
  record.stream = stream;
  record.client = syn.flow.source();
  record.server = syn.flow.destination();
  record.vlan = syn.flow.key.vlan;
  return record;
}

FlowRecord* FlowRecords::current(const FlowKey& key) {
  const auto it = current_.find(key);
  return it == current_.end() ? nullptr : &records_[it->second];
}

void FlowRecords::on_syn(const ParsedPacket& syn, const policies::Verdict& verdict, SynFate fate,
                         std::optional<DropReason> refusal) {
  FlowRecord* const record = current(syn.flow.key);
  if (record == nullptr || record->decided)
    return;  // a retransmitted SYN is decided on again; the first time counts
  record->decided = true;
  record->verdict = verdict;
  record->fate = fate;
  record->refusal = refusal;
}

void FlowRecords::on_vm(const FlowKey& key, spawner::VmId vm, bool pooled, bool shared,
                        int64_t since_syn_ns) {
  FlowRecord* const record = current(key);
  if (record == nullptr || record->vm) return;
  record->vm = vm;
  record->pooled = pooled;
  record->shared = shared;
  record->syn_to_vif_ns = since_syn_ns;
}

void FlowRecords::on_answer(const FlowKey& key, int64_t since_syn_ns) {
  FlowRecord* const record = current(key);
  if (record == nullptr || record->served) return;
  record->served = true;
  record->syn_to_synack_ns = since_syn_ns;
}

void FlowRecords::on_failure(const FlowKey& key, policies::OnFailure what, DropReason why) {
  FlowRecord* const record = current(key);
  if (record == nullptr) return;
  record->fate = what == policies::OnFailure::kBypass ? SynFate::kBypassed : SynFate::kRefused;
  record->refusal = why;
}

void FlowRecords::on_end(const FlowKey& key, const FlowData& flow, FlowEnd end) {
  if (listener_) listener_(key);
  FlowRecord* const record = current(key);
  if (record == nullptr || record->end != FlowEnd::kOpen) return;
  const auto client = static_cast<size_t>(flow.initiator);
  record->bytes_from_client = std::max(record->bytes_from_client, flow.bytes[client]);
  record->bytes_from_server = std::max(record->bytes_from_server, flow.bytes[1 - client]);
  record->end = end;
}

}  // namespace synfluid::gateway
