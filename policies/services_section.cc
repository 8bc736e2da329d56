#include <algorithm>
#include <filesystem>
#include <unordered_set>

#include "policies/fields.h"
#include "policies/sections.h"

namespace synfluid::policies {

namespace {

constexpr std::string_view kServiceKeys[] = {"image",          "mode", "per",        "memory", "idle_timeout",
                                             "answer_timeout", "pool", "on_failure", "config"};
constexpr std::string_view kPoolKeys[] = {"min", "max"};

constexpr Word<ServiceMode> kModes[] = {{"terminate", ServiceMode::kTerminate},
                                        {"inline", ServiceMode::kInline}};
constexpr Word<Scope> kScopes[] = {
    {"flow", Scope::kFlow}, {"subscriber", Scope::kSubscriber}, {"service", Scope::kService}};
constexpr Word<OnFailure> kOnFailures[] = {
    {"bypass", OnFailure::kBypass}, {"drop", OnFailure::kDrop}, {"reset", OnFailure::kReset}};

constexpr std::string_view kBuiltins[] = {kImageResponder, kImagePassthrough, kImageFirewall};

/// As many VMs as there are domain ids.
constexpr uint64_t kMostVms = 32'752;
/// `pool: {min: 4}` may grow to this.
constexpr uint32_t kUsualPoolMax = 64;

ServiceMode mode_of_builtin(std::string_view image) {
  return image == kImageResponder ? ServiceMode::kTerminate : ServiceMode::kInline;
}

std::string read_image(const YamlNode* node, const std::string& folder, Report& report) {
  if (node == nullptr) return {};
  const std::string allowed = fmt::format("{}, or the path of an image", join(kBuiltins));
  const std::string_view text = node->text;
  if (node->kind != NodeKind::kScalar || text.empty()) {
    report.error_no(*node, "image", allowed);
    return {};
  }
  if (text.starts_with("builtin:")) {
    if (std::ranges::find(kBuiltins, text) != std::end(kBuiltins)) return node->text;
    report.error(node->mark, text,
                 fmt::format("{} is no built-in image{}", describe(*node), did_you_mean(text, kBuiltins)),
                 allowed);
    return {};
  }
  return (std::filesystem::path(folder) / node->text).lexically_normal().string();
}

void read_mode(const MapReader& map, Service& service, Report& report) {
  const YamlNode* node = map.require("mode");
  const auto mode = read_word<ServiceMode>(node, "mode", report, kModes);
  if (!mode) return;
  service.mode = *mode;
  if (!service.image.starts_with("builtin:") || *mode == mode_of_builtin(service.image)) return;
  report.error(node->mark, node->text, fmt::format("{} is not what {} does", describe(*node), service.image),
               std::string(to_string(mode_of_builtin(service.image))));
}

Service::Pool read_pool(const YamlNode& node, Report& report) {
  const MapReader map(node, "pool", kPoolKeys, report);
  const auto count = [](std::string_view text) { return parse_count(text, {0, kMostVms}); };
  Service::Pool pool;
  assign(pool.min, read_value(map.find("min"), "number", report, count));
  pool.max = std::max(pool.min, kUsualPoolMax);
  const YamlNode* most = map.find("max");
  const auto max = read_value(most, "number", report, count);
  assign(pool.max, max);
  if (max && *max < pool.min)
    report.error(most->mark, most->text, fmt::format("the pool's max {} is below its min {}", *max, pool.min),
                 fmt::format("{} or more", pool.min));
  return pool;
}

Service read_service(const YamlNode& node, const std::string& folder, Report& report) {
  const MapReader map(node, "service", kServiceKeys, report);
  Service service;
  const YamlNode* image = map.require("image");
  service.image = read_image(image, folder, report);
  if (image != nullptr) {
    service.image_line = image->mark.line;
    service.image_column = image->mark.column;
  }
  read_mode(map, service, report);
  assign(service.scope, read_word<Scope>(map.require("per"), "scope", report, kScopes));
  assign(service.memory_bytes, read_value(map.find("memory"), "size", report, parse_memory));
  assign(service.idle_timeout_ns, read_value(map.find("idle_timeout"), "duration", report, parse_duration));
  assign(service.answer_timeout_ns,
         read_value(map.find("answer_timeout"), "duration", report, parse_duration));
  if (const YamlNode* pool = map.find("pool")) service.pool = read_pool(*pool, report);
  // Whoever terminates here does not want the flow to get through without its VM.
  service.on_failure = service.mode == ServiceMode::kInline ? OnFailure::kBypass : OnFailure::kReset;
  assign(service.on_failure, read_word<OnFailure>(map.find("on_failure"), "action", report, kOnFailures));
  const YamlNode* config = map.find("config");
  if (config != nullptr && !service.image.empty())
    service.config = read_config(*config, service.image, report);
  return service;
}

/// False where the name is no name, reserved, or another service's.
bool check_name(const YamlNode& name, std::unordered_set<std::string_view>& taken, Report& report) {
  if (!read_value(&name, "name", report, parse_name)) return false;
  if (std::ranges::find(kActionWords, name.text) != std::end(kActionWords)) {
    report.error(name.mark, name.text, fmt::format("{} is an action, no name for a service", describe(name)));
    return false;
  }
  if (taken.insert(name.text).second) return true;
  report.error(name.mark, name.text, fmt::format("the service {} is there twice", describe(name)));
  return false;
}

}  // namespace

std::vector<SourcedService> read_services(const YamlNode& node, const std::string& folder, Report& report) {
  std::vector<SourcedService> services;
  if (node.kind != NodeKind::kMap) {
    report.error_no(node, "map of services", "NAME: { image: ..., mode: ..., per: ... }");
    return services;
  }
  std::unordered_set<std::string_view> taken;
  for (const auto& [name, value] : node.entries) {
    if (services.size() == kMaxServices) {
      report.error(name->mark, {}, "there are too many services", fmt::format("at most {}", kMaxServices));
      break;
    }
    const bool named = check_name(*name, taken, report);
    Service service = read_service(*value, folder, report);
    if (!named) continue;
    service.name = name->text;
    services.push_back({std::move(service), name});
  }
  return services;
}

}  // namespace synfluid::policies
