#include "gateway/control.h"

#include <charconv>
#include <system_error>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

#include "gateway/status.h"
#include "policies/loader.h"

namespace synfluid::gateway {

using nlohmann::json;

namespace {

constexpr size_t kMostFlows = 1000;

}  // namespace

Result<json> Control::handle(const ControlRequest& request) {
  const std::string& command = request.command;
  const auto as_json = [](const Result<std::string>& text) -> Result<json> {
    if (!text) return text.error();
    return json(*text);
  };
  if (command == "status") return status();
  if (command == "vms") return describe_vms(parts_.spawner.snapshot(), parts_.clock.now_ns());
  if (command == "flows") return flows();
  if (command == "console") return console(request.argument);
  if (command == "reload") return as_json(reload());
  if (command == "drain") return json(drain());
  return Error(
      ErrorCode::kInvalidArgument,
      fmt::format("unknown command '{}'; known: status, vms, flows, console, reload, drain", command));
}

json Control::status() const {
  std::vector<const Worker*> workers;
  for (size_t w = 0; w < parts_.crew.size(); ++w) workers.push_back(&parts_.crew.worker(w));
  json status = status_of_all(workers, parts_.spawner.counters());
  for (Side side : {Side::kAccess, Side::kCore})
    status["ports"][name_of(side)]["lost"] = to_json(parts_.ports.losses(side));
  status["draining"] = !parts_.plans.get().admits_new_vms;
  return status;
}

json Control::flows() {
  json all = json::array();
  for (size_t w = 0; w < parts_.crew.size() && all.size() < kMostFlows; ++w) {
    std::vector<Worker::FlowLine> lines;
    parts_.crew.ask(w, [&](Worker& worker) { lines = worker.list_flows(kMostFlows - all.size()); });
    for (json& line : describe_flows(lines, w)) all.push_back(std::move(line));
  }
  return all;
}

Result<std::string> Control::reload() {
  auto policy = policies::load_file(parts_.policy_file);
  if (!policy) {
    std::string text = policies::to_string(policy.error());
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return Error(ErrorCode::kInvalidArgument, text);
  }
  auto services = parts_.spawner.prepare(*policy);
  if (!services) return services.error();
  put_in_force({.services = *services});
  parts_.admission.set_limits((*policy)->limits());
  parts_.spawner.activate(*services);
  spdlog::info("policy {} is in force: {} services, {} rules", parts_.policy_file,
               (*policy)->services().size(), (*policy)->rules().size());
  return fmt::format("{} is in force", parts_.policy_file);
}

Result<json> Control::console(const std::string& vm) {
  uint16_t domid = 0;
  const auto [end, error] = std::from_chars(vm.data(), vm.data() + vm.size(), domid);
  if (error != std::errc() || end != vm.data() + vm.size())
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("'{}' is no VM: name it by its domain id, as `ctl vms` shows it", vm));
  const auto text = parts_.spawner.console(DomId(domid));
  if (!text) return text.error();
  return json(*text);
}

std::string Control::drain() {
  put_in_force({.services = parts_.plans.get().services, .admits_new_vms = false});
  parts_.spawner.drain();
  return "draining: no new VMs; a reload ends it";
}

void Control::put_in_force(Plan plan) {
  parts_.plans.publish(std::move(plan));
  parts_.crew.wait_for_new_turns();
  parts_.plans.forget_old();
}

}  // namespace synfluid::gateway
