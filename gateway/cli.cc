#include "gateway/cli.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "gateway/ctl.h"
#include "gateway/doctor.h"
#include "gateway/replay.h"
#include "gateway/run.h"
#include "gateway/version.h"
#include "policies/loader.h"
#include "spawner/spawner.h"

namespace synfluid::gateway {

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;
/// Xen's domain ids end there.
constexpr int kMostVms = 32'752;

const std::map<std::string, HypervisorChoice> kHypervisors = {{"auto", HypervisorChoice::kAuto},
                                                              {"xen", HypervisorChoice::kXen},
                                                              {"process", HypervisorChoice::kProcess}};

int fail(const Error& error) {
  fmt::print(stderr, "synfluid: {}\n", error.text());
  return kFailed;
}

int finish(const Status& status) {
  return status ? 0 : fail(status.error());
}

/// The policy of a file, its diagnostics on stderr.
std::shared_ptr<const policies::Policy> load_policy(const std::string& path) {
  auto loaded = policies::load_file(path);
  if (!loaded) {
    fmt::print(stderr, "{}", policies::to_string(loaded.error()));
    return nullptr;
  }
  fmt::print(stderr, "{}", policies::to_string((*loaded)->warnings()));
  return *loaded;
}

struct Options {
  std::string policy;
  std::string hypervisor = "auto";
  std::string speed = "max";
  std::string malformed = "error";
  std::vector<std::string> access_prefixes;
  ReplayConfig replay;
  RunConfig run;
  CtlConfig ctl;
  DoctorConfig doctor;
};

Status read_speed(const std::string& text, std::optional<double>& speed) {
  if (text == "max") return {};
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(value > 0) || value > 1e9)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("--speed: '{}' is neither a positive number nor max", text));
  speed = value;
  return {};
}

int do_replay(Options& o, const Wiring& wiring) {
  const Interrupt interrupt;
  o.replay.policy = load_policy(o.policy);
  if (o.replay.policy == nullptr) return kFailed;
  o.replay.policy_file = o.policy;
  if (Status s = read_speed(o.speed, o.replay.speed); !s) return fail(s.error());
  if (o.malformed == "pass") o.replay.malformed = OnMalformed::kPass;
  for (const std::string& text : o.access_prefixes) {
    auto prefix = Prefix::parse(text);
    if (!prefix) return fail(prefix.error().within("--access-prefix"));
    o.replay.access_prefixes.push_back(*prefix);
  }
  std::unique_ptr<spawner::Hypervisor> hypervisor;
  if (!o.replay.policy->services().empty()) {
    auto made = wiring.make_hypervisor(kHypervisors.at(o.hypervisor), 1);
    if (!made) return fail(made.error());
    hypervisor = std::move(*made);
  }
  const Status played = replay(o.replay, hypervisor.get(), interrupt);
  if (!played) return fail(played.error());
  if (!interrupt.came()) return 0;
  fmt::print(stderr, "synfluid: interrupted\n");
  return Interrupt::exit_status(interrupt.signal());
}

int do_run(Options& o, const Wiring& wiring) {
  o.run.policy_file = o.policy;
  o.run.policy = load_policy(o.policy);
  if (o.run.policy == nullptr) return kFailed;
  auto hypervisor = wiring.make_hypervisor(kHypervisors.at(o.hypervisor), o.run.workers);
  if (!hypervisor) return fail(hypervisor.error());
  return finish(run_gateway(o.run, **hypervisor));
}

/// What the hypervisor would say of the services' images.
std::vector<policies::Diagnostic> check_images(const policies::Policy& policy, const Options& o,
                                               const Wiring& wiring) {
  std::vector<policies::Diagnostic> wrong;
  for (const policies::Service& service : policy.services()) {
    const Status good = wiring.check_image(kHypervisors.at(o.hypervisor), spawner::image_spec(service));
    if (good) continue;
    wrong.push_back({.file = o.policy,
                     .line = service.image_line,
                     .column = service.image_column,
                     .found = service.image,
                     .allowed = {},
                     .text = fmt::format("service '{}': {}", service.name, good.error().text())});
  }
  return wrong;
}

int do_check(const Options& o, const Wiring& wiring) {
  const auto policy = load_policy(o.policy);
  if (policy == nullptr) return kFailed;
  if (const auto wrong = check_images(*policy, o, wiring); !wrong.empty()) {
    fmt::print(stderr, "{}", policies::to_string(wrong));
    return kFailed;
  }
  fmt::print("{}: good: {} services, {} rules\n", o.policy, policy->services().size(),
             policy->rules().size());
  return 0;
}

int do_doctor(Options& o, const Wiring& wiring) {
  o.doctor.xen = o.hypervisor != "process";
  o.doctor.process = o.hypervisor != "xen";
  o.doctor.probe_process = wiring.probe_process;
  o.doctor.xen_command_line = wiring.xen_command_line;
  bool faults = false;
  for (const Finding& finding : examine(o.doctor)) {
    fmt::print("{}\n", to_line(finding));
    faults = faults || finding.level == Finding::Level::kFault;
  }
  return faults ? kFailed : 0;
}

void add_policy(CLI::App& command, Options& o) {
  command.add_option("--policy", o.policy, "The policy file (YAML)")->required()->type_name("FILE");
}

void add_hypervisor(CLI::App& command, Options& o) {
  command
      .add_option("--hypervisor", o.hypervisor,
                  "xen, process (sandboxed processes, not VMs), or auto: xen in dom0")
      ->check(CLI::IsMember({"auto", "xen", "process"}))
      ->type_name("NAME");
}

CLI::App* add_run(CLI::App& app, Options& o) {
  CLI::App* c = app.add_subcommand("run", "Run the gateway between two ports until SIGTERM");
  add_policy(*c, o);
  add_hypervisor(*c, o);
  c->add_option("--access", o.run.access,
                "Port on the subscribers' side: iface:NAME, a DPDK vdev (net_tap0,iface=x), or a PCI address")
      ->required()
      ->type_name("PORT");
  c->add_option("--core", o.run.core, "Port on the network's side, likewise")->required()->type_name("PORT");
  c->add_option("--workers", o.run.workers, "Worker threads")->check(CLI::Range(1, 64))->type_name("N");
  c->add_option("--control", o.run.control, "Path of the control socket; empty: none")->type_name("SOCKET");
  c->add_option("--flows", o.run.flow_capacity, "Flows per worker")
      ->check(CLI::Range(1024, 1 << 24))
      ->type_name("N");
  c->add_flag("--no-huge", o.run.no_huge, "Use no hugepages even if there are free ones");
  return c;
}

CLI::App* add_replay(CLI::App& app, Options& o) {
  CLI::App* c = app.add_subcommand("replay", "Play a capture (pcap, pcapng) through the gateway");
  c->add_option("trace", o.replay.trace, "The capture; - is stdin")->required()->type_name("FILE");
  add_policy(*c, o);
  add_hypervisor(*c, o);
  c->add_option("--speed", o.speed, "Times the trace's own speed, or max")->type_name("N|max");
  c->add_option("--loop", o.replay.loops, "Play the trace so many times")
      ->check(CLI::Range(1, 1'000'000))
      ->type_name("N");
  c->add_option("--seed", o.replay.seed, "Of the flow table's and admission's hashes")->type_name("S");
  c->add_option("--malformed", o.malformed,
                "Whether packets whose headers contradict themselves fail the replay at its end, or pass")
      ->check(CLI::IsMember({"error", "pass"}))
      ->type_name("error|pass");
  c->add_option("--json", o.replay.json, "Totals as JSON; - is stdout")->type_name("FILE");
  c->add_option("--csv", o.replay.csv, "A line per flow; - is stdout")->type_name("FILE");
  c->add_option("--out", o.replay.out, "What left the gateway, as pcapng")->type_name("FILE");
  c->add_option("--access-prefix", o.access_prefixes,
                "Sources on the access side; without it, whoever sends the first SYN is")
      ->type_name("PREFIX");
  return c;
}

CLI::App* add_ctl(CLI::App& app, Options& o) {
  CLI::App* c = app.add_subcommand("ctl", "Ask or tell a running gateway");
  c->add_option("--control", o.ctl.socket, "Path of its control socket")->type_name("SOCKET");
  c->add_flag("--json", o.ctl.json, "Print the answer as JSON");
  c->require_subcommand(1);
  const auto add = [&](const char* name, const char* text) {
    CLI::App* const sub = c->add_subcommand(name, text)->fallthrough();  // ctl's options may stand behind it
    return sub->callback([&o, name] { o.ctl.command = name; });
  };
  add("status", "Counters, drops by reason, latencies");
  add("vms", "The VMs there are");
  add("flows", "The flows of the workers (the first thousand)");
  add("console", "The last that a VM wrote to its console")
      ->add_option("vm", o.ctl.argument, "Its domain id, as `vms` shows it")
      ->required()
      ->type_name("DOMID");
  add("reload", "Read the policy file again; running flows keep what they have");
  add("drain", "Make no new VMs; flows that would need one follow on_failure");
  return c;
}

}  // namespace

int run_command_line(int argc, char** argv, const Wiring& wiring) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("synfluid"));
  spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");

  Options o;
  CLI::App app("Synfluid: the first SYN of a flow summons its VM", "synfluid");
  app.set_version_flag("--version", std::string("synfluid ") + kVersion);
  app.require_subcommand(1);
  CLI::App* const run = add_run(app, o);
  CLI::App* const replay_command = add_replay(app, o);
  CLI::App* const check =
      app.add_subcommand("check", "Check a policy file with its images, and print everything that is wrong");
  check->add_option("policy", o.policy, "The policy file")->required()->type_name("FILE");
  add_hypervisor(*check, o);
  CLI::App* const doctor = app.add_subcommand("doctor", "Check this host's limits and set-up");
  add_hypervisor(*doctor, o);
  doctor->add_option("--vms", o.doctor.vms, "How many VMs are meant to run at once")
      ->check(CLI::Range(1, kMostVms))
      ->type_name("N");
  doctor->add_option("--interface", o.doctor.interfaces, "A network interface that `run` is to use")
      ->type_name("NAME");
  CLI::App* const ctl = add_ctl(app, o);
  for (CLI::App* command : {run, replay_command, check, doctor, ctl})
    command->set_version_flag("--version", std::string("synfluid ") + kVersion);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    const bool is_command = app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-';
    if (is_command)
      fmt::print(stderr, "synfluid: unknown command '{}'; known: run, replay, check, doctor, ctl\n", argv[1]);
    else
      fmt::print(stderr, "synfluid: {}; see synfluid --help\n", e.what());
    return kUsage;
  }
  try {
    if (*replay_command) return do_replay(o, wiring);
    if (*run) return do_run(o, wiring);
    if (*check) return do_check(o, wiring);
    if (*doctor) return do_doctor(o, wiring);
    return finish(ask_gateway(o.ctl));
  } catch (const std::bad_alloc&) {
    return fail(Error(ErrorCode::kNoMemory, "out of memory"));
  } catch (const std::exception& e) {
    return fail(Error(ErrorCode::kSystem, e.what()));
  }
}

}  // namespace synfluid::gateway
