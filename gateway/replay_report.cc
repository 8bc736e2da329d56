#include "gateway/replay_report.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace synfluid::gateway {

using nlohmann::json;

namespace {

/// Flows in the table for people; the CSV has all.
constexpr size_t kTableRows = 20;

std::string us_or_empty(const std::optional<int64_t>& ns) {
  return ns ? fmt::format("{:.1f}", static_cast<double>(*ns) / 1000.0) : std::string();
}

std::string_view outcome_of(const FlowRecord& r) {
  if (!r.decided) return "undecided";
  switch (r.fate) {
    case SynFate::kBypassed:
      return "bypassed";
    case SynFate::kRefused:
      return "refused";
    case SynFate::kHeld:
      return r.served ? "served" : "unanswered";
  }
  return "unknown";
}

std::string service_of(const FlowRecord& r, const policies::Policy& policy) {
  return r.verdict.kind == policies::Verdict::Kind::kService ? policy.services()[r.verdict.service].name
                                                             : std::string();
}

std::string vm_of(const FlowRecord& r) {
  return r.vm ? fmt::format("{}.{}", r.vm->domid.value(), r.vm->generation) : std::string();
}

std::string_view origin_of(const FlowRecord& r) {
  if (!r.vm) return "";
  return r.shared ? "shared" : r.pooled ? "pooled" : "cold";
}

std::string vlan_of(const FlowRecord& r) {
  if (r.vlan.outer == 0 && r.vlan.inner == 0) return "";
  return r.vlan.inner == 0 ? fmt::format("{}", r.vlan.outer)
                           : fmt::format("{}.{}", r.vlan.outer, r.vlan.inner);
}

std::vector<int64_t> answer_times(const FlowRecords& records) {
  std::vector<int64_t> times;
  for (const FlowRecord& r : records.all())
    if (r.syn_to_synack_ns) times.push_back(*r.syn_to_synack_ns);
  return times;
}

using Row = std::array<std::string, 8>;

Row to_row(const FlowRecord& r, const policies::Policy& policy) {
  return {fmt::format("{} > {}", r.client.to_string(), r.server.to_string()),
          service_of(r, policy),
          std::string(outcome_of(r)),
          vm_of(r),
          std::string(origin_of(r)),
          us_or_empty(r.syn_to_synack_ns),
          fmt::format("{}", r.bytes_from_client),
          fmt::format("{}", r.bytes_from_server)};
}

/// A line per flow under a heading, in columns as wide as what is in them; nothing for no flows.
std::string flow_rows(std::span<const FlowRecord* const> flows, const policies::Policy& policy) {
  constexpr size_t kTexts = 5;  // those are on the left, numbers on the right
  if (flows.empty()) return {};
  std::vector<Row> rows = {
      {"flow", "service", "outcome", "vm", "origin", "syn-ack us", "bytes in", "bytes out"}};
  for (const FlowRecord* r : flows) rows.push_back(to_row(*r, policy));
  std::array<size_t, std::tuple_size_v<Row>> widths{};
  for (const Row& row : rows)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  std::string out;
  for (const Row& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c)
      line += c < kTexts ? fmt::format("{:<{}}  ", row[c], widths[c])
                         : fmt::format("{:>{}}  ", row[c], widths[c]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

}  // namespace

FlowCounts count_flows(const std::vector<FlowRecord>& records) {
  FlowCounts c;
  for (const FlowRecord& r : records) {
    ++c.seen;
    if (r.decided && r.verdict.kind == policies::Verdict::Kind::kService) ++c.matched;
    if (r.served) ++c.served;
    if (r.served || !r.decided) continue;
    if (r.fate == SynFate::kRefused) ++c.refused;
    if (r.fate == SynFate::kBypassed) ++c.bypassed;
  }
  return c;
}

double percentile_us(std::vector<int64_t> values_ns, double quantile) {
  if (values_ns.empty()) return 0;
  const auto n = static_cast<double>(values_ns.size());
  const auto rank = static_cast<size_t>(std::max(0.0, std::ceil(quantile * n) - 1));
  std::ranges::nth_element(values_ns, values_ns.begin() + static_cast<ptrdiff_t>(rank));
  return static_cast<double>(values_ns[rank]) / 1000.0;
}

void MalformedFrames::see(const TraceFrame& frame, PacketKind kind) {
  if (frame.cut || (kind != PacketKind::kTruncated && kind != PacketKind::kMalformed)) return;
  if (count++ > 0) return;
  first_record = frame.record;
  first_kind = kind;
}

Error to_error(const MalformedFrames& malformed, std::string_view trace_file) {
  const std::string_view what = malformed.first_kind == PacketKind::kTruncated
                                    ? "a header says more bytes than the frame has"
                                    : "a header contradicts itself";
  return Error(ErrorCode::kProtocol,
               fmt::format("{}: record {} holds a malformed packet: {}; {} such in all, played as they are "
                           "(--malformed pass accepts them)",
                           trace_file, malformed.first_record, what, malformed.count));
}

json to_json(const ReplayTotals& t, const FlowRecords& records, const WorkerCounters& counters) {
  const FlowCounts flows = count_flows(records.all());
  const std::vector<int64_t> times = answer_times(records);
  json drops = json::object();
  for (const DropReasonText& entry : kDropReasons)
    if (const uint64_t n = counters.drops[static_cast<size_t>(entry.reason)].get(); n > 0)
      drops[entry.name] = n;
  return {
      {"hypervisor", t.hypervisor},
      {"policy", t.policy_file},
      {"seed", t.seed},
      {"loops", t.loops},
      {"interrupted", t.interrupted},
      {"wall_seconds", t.wall_seconds},
      {"trace",
       {{"file", t.trace_file},
        {"packets", t.trace_packets},
        {"malformed", t.malformed.count},
        {"first_malformed_record", t.malformed.count > 0 ? json(t.malformed.first_record) : json(nullptr)},
        {"not_sent", t.trace_skipped},
        {"client_packets_made", t.client_crafted}}},
      {"flows",
       {{"seen", flows.seen},
        {"matched", flows.matched},
        {"served", flows.served},
        {"refused", flows.refused},
        {"bypassed", flows.bypassed}}},
      {"vms",
       {{"spawned", t.vms_spawned},
        {"failed", t.vms_failed},
        {"destroyed", t.vms_destroyed},
        {"peak", t.vms_peak}}},
      {"syn_to_synack_us",
       {{"p50", percentile_us(times, 0.5)},
        {"p90", percentile_us(times, 0.9)},
        {"p99", percentile_us(times, 0.99)},
        {"max", percentile_us(times, 1)}}},
      {"packets",
       {{"rx", counters.rx_total()},
        {"tx", counters.tx_total()},
        {"to_vm", counters.to_vm.get()},
        {"from_vm", counters.from_vm.get()},
        {"crafted", counters.crafted.get()},
        {"dropped", counters.dropped.get()},
        {"held", counters.held.get()}}},
      {"drops", drops},
  };
}

std::string to_csv(const FlowRecords& records, const policies::Policy& policy) {
  std::string csv =
      "stream,client,client_port,server,server_port,vlan,rule,service,outcome,refusal,vm,origin,syn_to_vif_"
      "us,"
      "syn_to_synack_us,bytes_from_client,bytes_from_server,end\n";
  for (const FlowRecord& r : records.all())
    csv += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", r.stream,
                       r.client.address.to_string(), r.client.port, r.server.address.to_string(),
                       r.server.port, vlan_of(r), r.decided ? policy.rule_name(r.verdict.rule) : "",
                       service_of(r, policy), outcome_of(r), r.refusal ? describe(*r.refusal).name : "",
                       vm_of(r), origin_of(r), us_or_empty(r.syn_to_vif_ns), us_or_empty(r.syn_to_synack_ns),
                       r.bytes_from_client, r.bytes_from_server, name_of(r.end));
  return csv;
}

std::string to_table(const json& s, const FlowRecords& records, const policies::Policy& policy) {
  std::vector<const FlowRecord*> served;
  for (const FlowRecord& r : records.all())
    if (!service_of(r, policy).empty()) served.push_back(&r);
  const size_t rows = served.size();
  std::string out("\n");
  out += flow_rows(std::span(served).first(std::min(rows, kTableRows)), policy);
  if (rows > kTableRows) out += fmt::format("... and {} more flows with a service\n", rows - kTableRows);
  const auto n = [&s](const char* group, const char* name) { return s[group][name].get<uint64_t>(); };
  if (s["interrupted"].get<bool>())
    out += fmt::format("\ninterrupted after {} packets\n", s["trace"]["packets"].get<uint64_t>());
  out += fmt::format("\nflows    {} seen: {} matched a service, {} served, {} bypassed, {} refused\n",
                     n("flows", "seen"), n("flows", "matched"), n("flows", "served"), n("flows", "bypassed"),
                     n("flows", "refused"));
  out += fmt::format("VMs      {} spawned on {}, {} at once, {} failed, {} destroyed\n", n("vms", "spawned"),
                     s["hypervisor"].get<std::string>(), n("vms", "peak"), n("vms", "failed"),
                     n("vms", "destroyed"));
  const json& us = s["syn_to_synack_us"];
  if (n("flows", "served") > 0)
    out += fmt::format("SYN to first answer  p50 {:.0f} us, p90 {:.0f} us, p99 {:.0f} us, max {:.0f} us\n",
                       us["p50"].get<double>(), us["p90"].get<double>(), us["p99"].get<double>(),
                       us["max"].get<double>());
  out += fmt::format("packets  {} received, {} sent, {} to VMs, {} from VMs, {} dropped\n",
                     n("packets", "rx"), n("packets", "tx"), n("packets", "to_vm"), n("packets", "from_vm"),
                     n("packets", "dropped"));
  for (const auto& [reason, count] : s["drops"].items())
    out += fmt::format("         dropped {}: {}\n", reason, count.get<uint64_t>());
  return out;
}

Status write_text(const std::string& path, std::string_view text) {
  if (path == "-") {
    const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    return written && std::fflush(stdout) == 0 ? Status()
                                               : Status(Error::from_errno(errno, "cannot write to stdout"));
  }
  struct Closer {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  const std::unique_ptr<std::FILE, Closer> file(std::fopen(path.c_str(), "wb"));
  if (!file || std::fwrite(text.data(), 1, text.size(), file.get()) != text.size() ||
      std::fflush(file.get()) != 0)
    return Error::from_errno(errno, fmt::format("cannot write {}", path));
  return {};
}

Status check_output(const std::string& path, const ReplayConfig& config) {
  namespace fs = std::filesystem;
  if (path.empty() || path == "-") return {};
  const auto cannot = [&](int error) {
    return Error::from_errno(error, fmt::format("cannot write {}", path));
  };
  std::error_code ignored;
  for (const std::string& input : {config.trace, config.policy_file})
    if (fs::equivalent(path, input, ignored))
      return Error(ErrorCode::kInvalidArgument, fmt::format("cannot write {}: it is what is read", path));
  if (fs::is_directory(path, ignored)) return cannot(EISDIR);
  const fs::path folder = fs::path(path).parent_path();
  const bool there = fs::exists(path, ignored);
  if (access(there ? path.c_str() : folder.empty() ? "." : folder.c_str(), W_OK) != 0) return cannot(errno);
  return {};
}

Status check_outputs(const ReplayConfig& config) {
  for (const std::string& path : {config.json, config.csv, config.out})
    if (Status good = check_output(path, config); !good) return good;
  return {};
}

Status report(const ReplayConfig& config, const ReplayTotals& totals, const FlowRecords& records,
              const WorkerCounters& counters) {
  const json summary = to_json(totals, records, counters);
  if (!config.json.empty())
    if (Status s =
            write_text(config.json, summary.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
        !s)
      return s;
  if (!config.csv.empty())
    if (Status s = write_text(config.csv, to_csv(records, *config.policy)); !s) return s;
  const bool stdout_is_taken = config.json == "-" || config.csv == "-";
  if (!stdout_is_taken)
    if (Status s = write_text("-", to_table(summary, records, *config.policy)); !s) return s;
  if (const int64_t off = counters.balance(); off != 0)
    return Error(ErrorCode::kSystem,
                 fmt::format("the packet counters do not balance: {} packets are unaccounted for", off));
  if (totals.malformed.count > 0 && config.malformed == OnMalformed::kError)
    return to_error(totals.malformed, totals.trace_file);
  return {};
}

}  // namespace synfluid::gateway
