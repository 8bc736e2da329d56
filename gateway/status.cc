#include "gateway/status.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace synfluid::gateway {

using nlohmann::json;

namespace {

template <class Get>
uint64_t sum(std::span<const Worker* const> workers, Get&& get) {
  uint64_t total = 0;
  for (const Worker* worker : workers) total += get(worker->counters());
  return total;
}

json ports(std::span<const Worker* const> workers) {
  json out = json::object();
  for (Side side : {Side::kAccess, Side::kCore})
    out[name_of(side)] = {
        {"rx", sum(workers, [side](const WorkerCounters& c) { return c.rx[index_of(side)].get(); })},
        {"tx", sum(workers, [side](const WorkerCounters& c) { return c.tx[index_of(side)].get(); })}};
  return out;
}

json drops(std::span<const Worker* const> workers) {
  json out = json::object();
  for (const DropReasonText& entry : kDropReasons) {
    const auto reason = static_cast<size_t>(entry.reason);
    const uint64_t n = sum(workers, [reason](const WorkerCounters& c) { return c.drops[reason].get(); });
    if (n > 0) out[entry.name] = n;
  }
  return out;
}

/// The worst worker's figures: a percentile of percentiles would be none.
json latency(std::span<const Worker* const> workers, const LatencyHistogram WorkerCounters::*which) {
  int64_t p50 = 0, p99 = 0, max = 0;
  uint64_t count = 0;
  for (const Worker* worker : workers) {
    const LatencyHistogram& h = worker->counters().*which;
    count += h.count();
    p50 = std::max(p50, h.quantile_ns(0.5));
    p99 = std::max(p99, h.quantile_ns(0.99));
    max = std::max(max, h.max_ns());
  }
  return {{"count", count}, {"p50", p50 / 1000}, {"p99", p99 / 1000}, {"max", max / 1000}};
}

std::string source_of(const Worker::FlowLine& line) {
  return (line.data.initiator == FromEnd::kLow ? line.key.low_end() : line.key.high_end()).to_string();
}

std::string destination_of(const Worker::FlowLine& line) {
  return (line.data.initiator == FromEnd::kLow ? line.key.high_end() : line.key.low_end()).to_string();
}

}  // namespace

json status_of_all(std::span<const Worker* const> workers, const spawner::SpawnerCounters& s) {
  uint64_t table = 0;
  for (const Worker* worker : workers) table += worker->table_stats().size;
  const auto total = [&](Counter WorkerCounters::*counter) {
    return sum(workers, [counter](const WorkerCounters& c) { return (c.*counter).get(); });
  };
  return {
      {"workers", workers.size()},
      {"ports", ports(workers)},
      {"packets",
       {{"to_vm", total(&WorkerCounters::to_vm)},
        {"from_vm", total(&WorkerCounters::from_vm)},
        {"crafted", total(&WorkerCounters::crafted)},
        {"held", total(&WorkerCounters::held)},
        {"dropped", total(&WorkerCounters::dropped)},
        {"handed_over", total(&WorkerCounters::handed_out)}}},
      {"drops", drops(workers)},
      {"syns",
       {{"bypassed", total(&WorkerCounters::syn_bypassed)},
        {"refused", total(&WorkerCounters::syn_refused)},
        {"matched", total(&WorkerCounters::syn_matched)},
        {"proven", total(&WorkerCounters::syn_proven)}}},
      {"flows",
       {{"now", table},
        {"served", total(&WorkerCounters::flows_served)},
        {"failed", total(&WorkerCounters::flows_failed)},
        {"ended", total(&WorkerCounters::flows_ended)}}},
      {"vms",
       {{"now", s.vms},
        {"peak", s.peak},
        {"spawned", s.spawned},
        {"destroyed", s.destroyed},
        {"cold", s.served_cold},
        {"pooled", s.served_pooled},
        {"shared", s.shared},
        {"failed", s.failed},
        {"crashed", s.crashed},
        {"exited", s.exited}}},
      {"syn_to_vif_us", latency(workers, &WorkerCounters::syn_to_vif)},
      {"syn_to_answer_us", latency(workers, &WorkerCounters::syn_to_answer)},
      {"sleeps", total(&WorkerCounters::sleeps)},
  };
}

json to_json(const PortLosses& losses) {
  return {
      {"kernel_drops", losses.kernel_drops}, {"too_long", losses.too_long}, {"not_sent", losses.not_sent}};
}

json describe_vms(const std::vector<spawner::VmInfo>& vms, int64_t now_ns) {
  json out = json::array();
  for (const spawner::VmInfo& vm : vms) {
    json one = {{"domid", vm.vm.domid.value()},
                {"generation", vm.vm.generation},
                {"name", vm.name},
                {"service", vm.service},
                {"per", policies::to_string(vm.scope)},
                {"state", to_string(vm.state)},
                {"age_ms", (now_ns - vm.created_at_ns) / kNsPerMs}};
    if (vm.owner) one["worker"] = vm.owner->value();
    if (vm.subscriber) one["subscriber"] = vm.subscriber->to_string();
    if (vm.flow)
      one["flow"] = fmt::format("{} {}", vm.flow->low_end().to_string(), vm.flow->high_end().to_string());
    out.push_back(std::move(one));
  }
  return out;
}

json describe_flows(const std::vector<Worker::FlowLine>& flows, size_t worker) {
  json out = json::array();
  for (const Worker::FlowLine& line : flows) {
    const auto from = static_cast<size_t>(line.data.initiator);
    json one = {{"source", source_of(line)},
                {"destination", destination_of(line)},
                {"state", flowtable::to_string(line.state)},
                {"worker", worker},
                {"held", line.data.held.count},
                {"bytes_from_client", line.data.bytes[from]},
                {"bytes_from_server", line.data.bytes[1 - from]}};
    if (line.has_vm) one["vm"] = fmt::format("{}.{}", line.vm.domid.value(), line.vm.generation);
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace synfluid::gateway
