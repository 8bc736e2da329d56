#include "bench/report.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace synfluid::bench {

namespace {

using nlohmann::json;

#if defined(__OPTIMIZE__)
constexpr bool kOptimised = true;
#else
constexpr bool kOptimised = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitised = true;
#else
constexpr bool kSanitised = false;
#endif

std::string_view to_string(ClockKind clock) {
  switch (clock) {
    case ClockKind::kWall:
      return "wall";
    case ClockKind::kCycles:
      return "cycles";
    case ClockKind::kInstructions:
      return "instructions";
  }
  return "unknown";
}

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

/// The name by which a hypervisor announces itself (CPUID leaf 0x40000000), or "none".
std::string hypervisor() {
#if defined(__x86_64__)
  constexpr unsigned kHypervisorLeaf = 0x40000000;
  constexpr unsigned kHypervisorPresent = 1u << 31;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kHypervisorPresent) == 0) return "none";
  __cpuid(kHypervisorLeaf, eax, ebx, ecx, edx);
  const unsigned words[3] = {ebx, ecx, edx};
  char name[sizeof words + 1] = {};
  std::memcpy(name, words, sizeof words);
  return name;
#else
  return "unknown";
#endif
}

json machine() {
  utsname kernel{};
  uname(&kernel);
  const std::string host = hypervisor();
  return {{"cpu", cpu_model()},
          {"cores", sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory_mib", sysconf(_SC_PHYS_PAGES) / 256},
          {"kernel", kernel.release},
          {"hypervisor", host},
          {"emulated", host.starts_with("TCG")}};
}

json build() {
  return {{"version", SYNFLUID_VERSION},
          {"compiler", "gcc " __VERSION__},
          {"optimised", kOptimised},
          {"sanitised", kSanitised}};
}

/// By linear interpolation between the two nearest samples.
double quantile(std::vector<double> samples, double fraction) {
  if (samples.empty()) return 0;
  std::ranges::sort(samples);
  const double at = fraction * static_cast<double>(samples.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, samples.size() - 1);
  return samples[below] + (at - static_cast<double>(below)) * (samples[above] - samples[below]);
}

json to_json(const Figure& figure) {
  json object = {
      {"name", figure.name}, {"value", figure.value}, {"unit", figure.unit}, {"spread", figure.spread}};
  if (!figure.samples.empty()) object["samples"] = figure.samples;
  if (figure.curve) object["curve"] = {{"x", figure.curve->x}, {"points", figure.curve->points}};
  if (figure.peer) {
    object["peer"] = figure.peer->name;
    object["peer_value"] = figure.peer->value;
    object["ratio"] = figure.peer->ratio;
  }
  return object;
}

Status write_text(std::FILE* file, const std::string& text, std::string_view name) {
  if (std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0) return {};
  return Error::from_errno(errno, fmt::format("writing {}", name));
}

Status write_file(const std::string& path, const std::string& text) {
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return Error::from_errno(errno, fmt::format("opening {}", path));
  Status status = write_text(file, text, path);
  if (std::fclose(file) != 0 && status) return Error::from_errno(errno, fmt::format("writing {}", path));
  return status;
}

}  // namespace

double median(std::vector<double> samples) {
  return quantile(std::move(samples), 0.5);
}

double interquartile_range(std::vector<double> samples) {
  return quantile(samples, 0.75) - quantile(samples, 0.25);
}

Figure Figure::of(std::string name, std::string unit, std::vector<double> samples) {
  return {.name = std::move(name),
          .value = median(samples),
          .unit = std::move(unit),
          .spread = interquartile_range(samples),
          .samples = samples};
}

Report::Report(std::string bench, ClockKind clock) : bench_(std::move(bench)), clock_(clock) {}

void Report::set_parameter(const std::string& name, json value) {
  parameters_[name] = std::move(value);
}

void Report::add(Figure figure) {
  figures_.push_back(std::move(figure));
}

json Report::to_json() const {
  json figures = json::array();
  for (const Figure& figure : figures_) figures.push_back(bench::to_json(figure));
  return {{"bench", bench_},           {"machine", machine()},
          {"build", build()},          {"clock", to_string(clock_)},
          {"parameters", parameters_}, {"figures", std::move(figures)}};
}

std::string Report::table() const {
  std::string text;
  if (!kOptimised || kSanitised)
    text += "warning: this build is not optimised, or sanitised: its figures mean little\n";
  if (machine()["emulated"]) text += "warning: this machine is emulated\n";
  text += fmt::format("{:<40} {:>12} {:>10} {:<8} {}\n", bench_, "median", "spread", "unit", "peer");
  for (const Figure& f : figures_) {
    text += fmt::format("{:<40} {:>12.4g} {:>10.2g} {:<8}", f.name, f.value, f.spread, f.unit);
    if (f.peer) text += fmt::format(" {} {:.4g}: x {:.2f}", f.peer->name, f.peer->value, f.peer->ratio);
    text += '\n';
  }
  return text;
}

Status Report::write(const std::string& json_path) const {
  const bool to_stdout = json_path == "-";
  if (Status shown = write_text(to_stdout ? stderr : stdout, table(), "the table"); !shown) return shown;
  if (json_path.empty()) return {};
  const std::string text = to_json().dump(2) + "\n";
  return to_stdout ? write_text(stdout, text, "standard output") : write_file(json_path, text);
}

}  // namespace synfluid::bench
