#include <algorithm>

#include "base/abi/card.h"
#include "policies/fields.h"
#include "policies/sections.h"

namespace synfluid::policies {

namespace {

using Config = std::vector<std::pair<std::string, std::string>>;

/// Collects entries up to what a guest can be handed: lines of "key value".
class ConfigBuilder {
 public:
  ConfigBuilder(const YamlNode& node, Report& report) : node_(node), report_(report) {}

  /// False once they are too many, which is said once.
  bool add(std::string_view key, std::string_view value) {
    const bool fitted = bytes_ <= abi::kCardConfigBytes;
    bytes_ += key.size() + value.size() + 2;
    const bool fits = bytes_ <= abi::kCardConfigBytes;
    if (fits) config_.emplace_back(key, value);
    if (fitted && !fits)
      report_.error(
          node_.mark, {}, "this config is too long for a guest",
          fmt::format("at most {} bytes: key and value of each entry, and two more", abi::kCardConfigBytes));
    return fits;
  }
  Config take() { return std::move(config_); }

 private:
  const YamlNode& node_;
  Report& report_;
  Config config_;
  size_t bytes_ = 0;
};

Parsed<std::string> parse_line(std::string_view text) {
  if (text.find_first_of("\n\r") != std::string_view::npos)
    return tl::unexpected(ValueFault{"has a line break", "one line"});
  return std::string(text);
}

/// A guest prints each of its `body` lines.
void read_body(const YamlNode& value, ConfigBuilder& config, Report& report) {
  if (value.kind != NodeKind::kScalar) return report.error_no(value, "text", {});
  std::string_view rest = value.text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    if (!config.add("body", rest.substr(0, end))) return;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

void read_block_hosts(const YamlNode& value, ConfigBuilder& config, Report& report) {
  for_each_item(value, "host names", report, [&](const YamlNode& item) {
    const auto host = read_value(&item, "host name", report, parse_host_pattern);
    return !host || config.add("block_hosts", *host);
  });
}

void read_builtin(const YamlNode& node, std::string_view image, ConfigBuilder& config, Report& report) {
  static constexpr std::string_view kResponderKeys[] = {"body"};
  static constexpr std::string_view kFirewallKeys[] = {"block_hosts"};
  if (image == kImageResponder) {
    const MapReader map(node, "responder's config", kResponderKeys, report);
    if (const YamlNode* body = map.find("body")) read_body(*body, config, report);
  } else if (image == kImageFirewall) {
    const MapReader map(node, "firewall's config", kFirewallKeys, report);
    if (const YamlNode* hosts = map.find("block_hosts")) read_block_hosts(*hosts, config, report);
  } else if (!node.entries.empty() || node.kind != NodeKind::kMap) {
    report.error(node.mark, {}, fmt::format("{} takes no config", image), "no such key");
  }
}

void read_custom(const YamlNode& node, ConfigBuilder& config, Report& report) {
  if (node.kind != NodeKind::kMap) return report.error_no(node, "config", "a map");
  std::vector<std::string_view> keys;
  for (const auto& entry : node.entries) {
    const YamlNode& key = *entry.first;
    if (!check_key(key, keys, report) || !read_value(&key, "key", report, parse_name)) continue;
    keys.push_back(key.text);
    bool fits = true;
    for_each_item(*entry.second, "texts", report, [&](const YamlNode& item) {
      const auto line = read_value(&item, "text", report, parse_line);
      fits = !line || config.add(key.text, *line);
      return fits;
    });
    if (!fits || keys.size() > abi::kCardConfigBytes) return;
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> read_config(const YamlNode& node, std::string_view image,
                                                             Report& report) {
  ConfigBuilder config(node, report);
  image.starts_with("builtin:") ? read_builtin(node, image, config, report)
                                : read_custom(node, config, report);
  return config.take();
}

}  // namespace synfluid::policies
