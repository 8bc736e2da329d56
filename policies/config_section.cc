#include <algorithm>

#include "base/abi/card.h"
#include "policies/fields.h"
#include "policies/sections.h"

namespace synfluid::policies {

namespace {

using Config = std::vector<std::pair<std::string, std::string>>;

/// What a guest is handed is lines of "key value".
size_t line_bytes(const std::pair<std::string, std::string>& entry) {
  return entry.first.size() + entry.second.size() + 2;
}

Parsed<std::string> parse_line(std::string_view text) {
  if (text.find_first_of("\n\r") != std::string_view::npos)
    return tl::unexpected(ValueFault{"has a line break", "one line"});
  return std::string(text);
}

void read_body(const YamlNode& value, Config& config, Report& report) {
  if (value.kind != NodeKind::kScalar) return report.error_no(value, "text", {});
  // A guest prints each of its `body` lines.
  std::string_view rest = value.text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    config.emplace_back("body", rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

void read_block_hosts(const YamlNode& value, Config& config, Report& report) {
  for (const YamlNode* item : read_list(value, "host names", report))
    if (auto host = read_value(item, "host name", report, parse_host_pattern))
      config.emplace_back("block_hosts", std::move(*host));
}

Config read_builtin(const YamlNode& node, std::string_view image, Report& report) {
  static constexpr std::string_view kResponderKeys[] = {"body"};
  static constexpr std::string_view kFirewallKeys[] = {"block_hosts"};
  Config config;
  if (image == kImageResponder) {
    const MapReader map(node, "responder's config", kResponderKeys, report);
    if (const YamlNode* body = map.find("body")) read_body(*body, config, report);
  } else if (image == kImageFirewall) {
    const MapReader map(node, "firewall's config", kFirewallKeys, report);
    if (const YamlNode* hosts = map.find("block_hosts")) read_block_hosts(*hosts, config, report);
  } else if (!node.entries.empty() || node.kind != NodeKind::kMap) {
    report.error(node.mark, {}, "this image takes no config", "no such key");
  }
  return config;
}

Config read_custom(const YamlNode& node, Report& report) {
  Config config;
  if (node.kind != NodeKind::kMap) {
    report.error_no(node, "config", "a map");
    return config;
  }
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : node.entries) {
    if (!check_key(*key, keys, report) || !read_value(key, "key", report, parse_name)) continue;
    keys.push_back(key->text);
    for (const YamlNode* item : read_list(*value, "texts", report))
      if (auto line = read_value(item, "text", report, parse_line))
        config.emplace_back(key->text, std::move(*line));
  }
  return config;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> read_config(const YamlNode& node, std::string_view image,
                                                             Report& report) {
  Config config =
      image.starts_with("builtin:") ? read_builtin(node, image, report) : read_custom(node, report);
  size_t bytes = 0;
  for (const auto& entry : config) bytes += line_bytes(entry);
  if (bytes > abi::kCardConfigBytes)
    report.error(node.mark, {}, fmt::format("this config takes {} bytes", bytes),
                 fmt::format("at most {}", abi::kCardConfigBytes));
  return config;
}

}  // namespace synfluid::policies
