// How much TCP gets through a passthrough guest, beside the same gateway without the guest?
//
// iperf3's client and server in network namespaces, the gateway between them on AF_PACKET ports without
// offloads (iperf_paths has the whole path). Figures: what arrived, Mbit/s, and the rounds' ratios. Natively
// the guest is a process, and the clock the wall's: client, server, gateway and guest share the machine's
// CPUs. In dom0 it is a domain, and a second is 10^9 instructions of all of them on one CPU; a sample is a
// number of bytes.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "bench/instruction_clock.h"
#include "bench/report.h"

namespace synfluid::bench {
namespace {

namespace fs = std::filesystem;

fs::path beside_us(const std::string& name) {
  return fs::read_symlink("/proc/self/exe").parent_path() / name;
}

/// Where it is in a build, or else in the lab's dom0.
std::string find(const fs::path& in_build, const fs::path& in_dom0) {
  return fs::exists(in_build) ? in_build : in_dom0;
}

const bool kInDom0 = fs::exists("/dev/xen/privcmd");

struct Options {
  std::string json;
  int rounds = kInDom0 ? 3 : 5;
  int seconds = 3;
  int mebibytes = 8;
  std::string paths = find(SYNFLUID_SOURCE_ROOT "/bench/iperf_paths", beside_us("../bench/iperf_paths"));
  std::string synfluid = find(beside_us("../gateway/synfluid"), beside_us("synfluid"));
};

struct Samples {
  std::vector<double> bypass;
  std::vector<double> passthrough;
};

Result<Samples> run_script(const Options& options) {
  setenv("SYNFLUID", fs::absolute(options.synfluid).c_str(), 1);
  setenv("HYPERVISOR", kInDom0 ? "xen" : "process", 1);
  const std::string amount = kInDom0 ? fmt::format("--bytes {}M", options.mebibytes)
                                     : fmt::format("--time {} --omit 1", options.seconds);
  const std::string command = fmt::format("'{}' {} {}", options.paths, options.rounds, amount);
  std::unique_ptr<FILE, int (*)(FILE*)> output(popen(command.c_str(), "re"), &pclose);
  if (!output) return Error::from_errno(errno, command);
  Samples samples;
  std::array<char, 16> way{};
  double mbit = 0;
  while (std::fscanf(output.get(), "%15s %lf", way.data(), &mbit) == 2)
    (std::string_view(way.data()) == "bypass" ? samples.bypass : samples.passthrough).push_back(mbit);
  if (pclose(output.release()) != 0) return Error(ErrorCode::kSystem, command + " failed");
  const auto wanted = static_cast<size_t>(options.rounds);
  if (samples.bypass.size() != wanted || samples.passthrough.size() != wanted)
    return Error(ErrorCode::kProtocol, command + " said something else");
  return samples;
}

Status run(const Options& options) {
  const auto samples = run_script(options);
  if (!samples) return samples.error();
  Report report("iperf", kInDom0 ? detect_clock() : ClockKind::kWall);
  report.set_parameter("rounds", options.rounds);
  if (kInDom0)
    report.set_parameter("mebibytes", options.mebibytes);
  else
    report.set_parameter("seconds", options.seconds);
  std::vector<double> ratios;
  for (size_t i = 0; i < samples->bypass.size(); ++i)
    ratios.push_back(samples->passthrough[i] / samples->bypass[i]);
  report.add(Figure::of("bypass", "Mbit/s", samples->bypass));
  report.add(Figure::of("passthrough", "Mbit/s", samples->passthrough));
  Figure ratio = Figure::of("passthrough_over_bypass", "x", ratios);
  ratio.peer = {.name = "bypass", .value = median(samples->bypass), .ratio = ratio.value};
  report.add(std::move(ratio));
  return report.write(options.json);
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  synfluid::bench::Options options;
  CLI::App app("TCP through a passthrough guest, beside the gateway alone; as root");
  app.add_option("--json", options.json, "write the figures as JSON to FILE, or - for standard output");
  app.add_option("--rounds", options.rounds, "samples of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--seconds", options.seconds, "of each sample, natively")->check(CLI::Range(1, 60));
  app.add_option("--mebibytes", options.mebibytes, "of each sample, in dom0")->check(CLI::Range(1, 1000));
  app.add_option("--synfluid", options.synfluid, "the gateway");
  CLI11_PARSE(app, argc, argv);
  const auto done = synfluid::bench::run(options);
  if (done) return 0;
  std::cerr << "iperf: " << done.error().text() << '\n';
  return 1;
}
