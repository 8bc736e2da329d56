#include "policies/loader.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fmt/format.h>

#include "policies/fields.h"
#include "policies/sections.h"
#include "policies/yaml_tree.h"

namespace synfluid::policies {

namespace {

constexpr std::string_view kRootKeys[] = {"version", "services", "rules", "limits", "default"};

std::vector<Diagnostic> one_error(const std::string& file, Mark mark, std::string text,
                                  std::string allowed = {}) {
  Report report(file);
  report.error(mark, {}, std::move(text), std::move(allowed));
  return report.take();
}

/// "default: portal" and rules without it: a service that nobody names is most likely a mistake.
void warn_of_unused_services(const std::vector<SourcedService>& services,
                             const std::vector<SourcedRule>& rules, const Verdict& fallback, Report& report) {
  std::vector<bool> used(services.size());
  const auto mark = [&](const Verdict& verdict) {
    if (verdict.kind == Verdict::Kind::kService) used[verdict.service] = true;
  };
  for (const SourcedRule& rule : rules) mark(rule.rule.verdict);
  mark(fallback);
  for (size_t i = 0; i < services.size(); ++i)
    if (!used[i])
      report.warning(services[i].name->mark, services[i].service.name,
                     fmt::format("no rule uses the service '{}'", services[i].service.name));
}

void check_pools(const std::vector<SourcedService>& services, const Limits& limits, Report& report) {
  uint64_t together = 0;
  for (const SourcedService& s : services) {
    together += s.service.pool.min;
    if (together <= limits.max_vms) continue;
    return report.error(
        s.name->mark, s.service.name,
        fmt::format("up to '{}', the pools keep {} VMs ready, more than max_vms", s.service.name, together),
        fmt::format("{} together", limits.max_vms));
  }
}

PolicySpec read_spec(const YamlNode& root, const std::string& folder, Report& report) {
  const MapReader map(root, "policy", kRootKeys, report);
  static constexpr Word<int> kVersions[] = {{"1", 1}};
  read_word<int>(map.require("version"), "version of the policy language", report, kVersions);

  std::vector<SourcedService> services;
  std::vector<SourcedRule> rules;
  PolicySpec spec;
  if (const YamlNode* node = map.find("services")) services = read_services(*node, folder, report);
  if (const YamlNode* node = map.find("rules")) rules = read_rules(*node, services, report);
  if (const YamlNode* node = map.find("limits")) spec.limits = read_limits(*node, report);
  if (const YamlNode* node = map.find("default")) spec.fallback = read_default(*node, services, report);
  check_pools(services, spec.limits, report);
  if (!report.has_errors()) {
    warn_of_unused_services(services, rules, spec.fallback, report);
    warn_of_shadowed_rules(rules, report);
  }
  for (SourcedService& s : services) spec.services.push_back(std::move(s.service));
  for (SourcedRule& s : rules) spec.rules.push_back(std::move(s.rule));
  return spec;
}

LoadResult load(std::string_view text, const std::string& filename) {
  const auto tree = parse_yaml(text);
  if (!tree) return tl::unexpected(one_error(filename, tree.error().mark, tree.error().text));
  if (tree->root == nullptr || tree->root->kind == NodeKind::kNull)
    return tl::unexpected(one_error(filename, {}, "the policy is empty", "version: 1, and what follows it"));
  Report report(filename);
  PolicySpec spec = read_spec(*tree->root, std::filesystem::path(filename).parent_path().string(), report);
  const bool failed = report.has_errors();
  spec.warnings = report.take();
  if (failed) return tl::unexpected(std::move(spec.warnings));
  return std::make_shared<const Policy>(std::move(spec));
}

LoadResult too_large(const std::string& file) {
  return tl::unexpected(
      one_error(file, {}, "the policy is too large", fmt::format("up to {} bytes", kMaxPolicyBytes)));
}

}  // namespace

LoadResult load_text(std::string_view text, const std::string& filename) {
  if (text.size() > kMaxPolicyBytes) return too_large(filename);
  try {
    return load(text, filename);
  } catch (const std::exception& e) {  // no memory; a path that is none
    return tl::unexpected(one_error(filename, {}, fmt::format("the policy cannot be loaded: {}", e.what())));
  }
}

LoadResult load_file(const std::string& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec))
    return tl::unexpected(one_error(path, {}, "this is a folder", "a file"));
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text;
  if (in) {
    text.resize(kMaxPolicyBytes + 1);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
  }
  if (!in.is_open() || in.bad())
    return tl::unexpected(
        one_error(path, {}, fmt::format("cannot be read: {}", std::generic_category().message(errno))));
  return load_text(text, path);
}

}  // namespace synfluid::policies
