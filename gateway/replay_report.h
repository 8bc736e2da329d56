// What a replay has to tell: a line per flow, and the totals; as CSV, as JSON, and as a table for people.
//
// Threads: one. Memory: a record per TCP connection of the trace. docs: README.md of this folder lists the
// fields.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/packet.h"
#include "base/result.h"
#include "gateway/flow_observer.h"
#include "gateway/pcap_source.h"
#include "gateway/replay.h"
#include "gateway/stream_tracker.h"
#include "gateway/worker_counters.h"
#include "spawner/spawner.h"

namespace synfluid::gateway {

/// One connection that began with a SYN.
struct FlowRecord {
  uint32_t stream = 0;
  Endpoint client;
  Endpoint server;
  VlanTags vlan;
  policies::Verdict verdict;
  bool decided = false;
  SynFate fate = SynFate::kBypassed;  ///< where it ended up; kHeld: with a VM
  bool served = false;
  bool shared = false;
  bool pooled = false;
  std::optional<spawner::VmId> vm;
  std::optional<int64_t> syn_to_vif_ns;
  std::optional<int64_t> syn_to_synack_ns;
  std::optional<DropReason> refusal;
  uint64_t bytes_from_client = 0;
  uint64_t bytes_from_server = 0;
  FlowEnd end = FlowEnd::kOpen;
};

/// Keeps the records while the replay runs. The newest connection of a 5-tuple is the one that is meant.
class FlowRecords final : public FlowObserver {
 public:
  FlowRecord& begin(const ParsedPacket& syn, uint32_t stream);
  FlowRecord* current(const FlowKey& key);
  const std::vector<FlowRecord>& all() const { return records_; }
  /// Called when a flow's entry goes: what is said in it from then on reaches no VM.
  void set_end_listener(std::function<void(const FlowKey&)> listener) { listener_ = std::move(listener); }

  void on_syn(const ParsedPacket& syn, const policies::Verdict& verdict, SynFate fate,
              std::optional<DropReason> refusal) override;
  void on_vm(const FlowKey& key, spawner::VmId vm, bool pooled, bool shared, int64_t since_syn_ns) override;
  void on_answer(const FlowKey& key, int64_t since_syn_ns) override;
  void on_failure(const FlowKey& key, policies::OnFailure what, DropReason why) override;
  void on_end(const FlowKey& key, const FlowData& flow, FlowEnd end) override;

 private:
  struct KeyHash {
    size_t operator()(const FlowKey& key) const noexcept {
      return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof(key)});
    }
  };
  std::function<void(const FlowKey&)> listener_;
  std::vector<FlowRecord> records_;
  std::unordered_map<FlowKey, size_t, KeyHash> current_;
};

/// Frames whose headers contradict their length or each other: they pass like any packet that is not
/// understood, but whoever plays a capture wants to know where they are. A frame that the capture cut short
/// is none.
struct MalformedFrames {
  uint64_t count = 0;
  uint64_t first_record = 0;  ///< in the file, from 1
  PacketKind first_kind = PacketKind::kMalformed;

  void see(const TraceFrame& frame, PacketKind kind);
};

struct ReplayTotals {
  std::string hypervisor;
  std::string trace_file;
  std::string policy_file;
  uint64_t trace_packets = 0;
  MalformedFrames malformed;
  uint64_t trace_skipped =
      0;  ///< server packets of flows that a VM serves, and what their client said after the end
  uint64_t client_crafted = 0;  ///< packets that played clients sent
  uint32_t loops = 1;
  uint32_t seed = 0;
  bool interrupted = false;  ///< the trace was not played to its end
  double wall_seconds = 0;
  uint64_t vms_spawned = 0;
  uint64_t vms_failed = 0;
  uint64_t vms_destroyed = 0;
  uint64_t vms_peak = 0;
};

struct FlowCounts {
  uint64_t seen = 0;
  uint64_t matched = 0;
  uint64_t served = 0;
  uint64_t refused = 0;
  uint64_t bypassed = 0;
};
FlowCounts count_flows(const std::vector<FlowRecord>& records);

/// Of the recorded values exactly; 0 when there are none. `quantile` 1 is the largest.
double percentile_us(std::vector<int64_t> values_ns, double quantile);

/// Names the first of them; to be called when there is one.
Error to_error(const MalformedFrames& malformed, std::string_view trace_file);

nlohmann::json to_json(const ReplayTotals& totals, const FlowRecords& records,
                       const WorkerCounters& counters);
std::string to_csv(const FlowRecords& records, const policies::Policy& policy);
std::string to_table(const nlohmann::json& summary, const FlowRecords& records,
                     const policies::Policy& policy);

/// Writes text to a file, or to stdout for "-".
Status write_text(const std::string& path, std::string_view text);

/// Before hours are spent on what cannot be kept: each output can be written, and is none of the inputs.
Status check_outputs(const ReplayConfig& config);

/// JSON and CSV where the config wants them, the table on stdout unless it is taken.
Status report(const ReplayConfig& config, const ReplayTotals& totals, const FlowRecords& records,
              const WorkerCounters& counters);

}  // namespace synfluid::gateway
