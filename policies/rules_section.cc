#include <algorithm>
#include <unordered_map>

#include "policies/fields.h"
#include "policies/sections.h"

namespace synfluid::policies {

namespace {

constexpr std::string_view kRuleKeys[] = {"name", "match", "service", "action"};
constexpr std::string_view kMatchKeys[] = {"subscribers", "dst", "dst_ports", "vlan"};
constexpr std::string_view kVlanAllowed =
    "a VLAN id, a range such as \"100-199\", or [outer, inner] of these or any";
constexpr Bounds kPorts{0, 65535};
/// 4095 is reserved (IEEE 802.1Q); 0 stands for a frame without the tag.
constexpr Bounds kVlanIds{0, 4094};

constexpr Word<Verdict::Kind> kActions[] = {
    {"bypass", Verdict::Kind::kBypass}, {"drop", Verdict::Kind::kDrop}, {"reset", Verdict::Kind::kReset}};

using ServiceIndex = std::unordered_map<std::string_view, uint16_t>;

ServiceIndex index_of(const std::vector<SourcedService>& services) {
  ServiceIndex index;
  for (size_t i = 0; i < services.size(); ++i)
    index.emplace(services[i].service.name, static_cast<uint16_t>(i));
  return index;
}

std::optional<Verdict> find_service(const YamlNode& node, const ServiceIndex& services) {
  const auto it = node.kind == NodeKind::kScalar ? services.find(node.text) : services.end();
  if (it == services.end()) return std::nullopt;
  return Verdict{Verdict::Kind::kService, it->second, kDefaultRule};
}

void complain_of_service(const YamlNode& node, const ServiceIndex& services,
                         std::span<const std::string_view> also, Report& report) {
  std::vector<std::string_view> names(also.begin(), also.end());
  for (const auto& [name, index] : services) names.push_back(name);
  std::sort(names.begin() + static_cast<ptrdiff_t>(also.size()), names.end());
  const std::string hint = node.kind == NodeKind::kScalar ? did_you_mean(node.text, names) : std::string();
  constexpr size_t kShown = 20;
  const bool all = names.size() <= kShown;
  std::string allowed = join(std::span(names).first(std::min(names.size(), kShown))) + (all ? "" : ", ...");
  if (names.empty()) allowed = "none, for there are no services";
  report.error(node.mark, node.text, fmt::format("{} is no service{}", describe(node), hint),
               std::move(allowed));
}

/// Reads the rules one after the other; counts the conditions of all of them.
class RulesReader {
 public:
  RulesReader(const std::vector<SourcedService>& services, Report& report)
      : services_(index_of(services)), report_(report) {}

  std::optional<Rule> read(const YamlNode& node) {
    const MapReader map(node, "rule", kRuleKeys, report_);
    Rule rule;
    const YamlNode* name = map.require("name");
    if (auto text = read_value(name, "name", report_, parse_name)) rule.name = std::move(*text);
    if (!rule.name.empty()) check_unique(*name);
    if (const YamlNode* match = map.require("match")) rule.match = read_match(*match);
    rule.verdict = read_verdict(node, map);
    return rule;
  }

 private:
  void check_unique(const YamlNode& name) {
    if (const auto [other, fresh] = names_.emplace(name.text, &name); !fresh)
      report_.error(name.mark, name.text,
                    fmt::format("the rule {} is there twice, first in line {}", describe(name),
                                other->second->mark.line));
  }

  Verdict read_verdict(const YamlNode& node, const MapReader& map) {
    const YamlNode* service = map.find("service");
    const YamlNode* action = map.find("action");
    if ((service == nullptr) == (action == nullptr)) {
      if (node.kind == NodeKind::kMap)
        report_.error(
            service == nullptr ? node.mark : action->mark, {},
            service == nullptr ? "this rule says not what to do" : "this rule has a service and an action",
            "either service or action");
      return {};
    }
    if (action != nullptr) {
      const auto kind = read_word<Verdict::Kind>(action, "action", report_, kActions);
      return {kind.value_or(Verdict::Kind::kBypass), kNoService, kDefaultRule};
    }
    if (const auto verdict = find_service(*service, services_)) return *verdict;
    complain_of_service(*service, services_, {}, report_);
    return {};
  }

  Match read_match(const YamlNode& node) {
    const MapReader map(node, "match", kMatchKeys, report_);
    Match match;
    match.subscribers = read_prefixes(map.find("subscribers"));
    match.destinations = read_prefixes(map.find("dst"));
    match.destination_ports = read_ports(map.find("dst_ports"));
    if (const YamlNode* vlan = map.find("vlan")) read_vlan(*vlan, match);
    warn_of_mixed_families(node, match);
    return match;
  }

  /// False once the rules together have too many; says so the first time.
  bool count_condition(const YamlNode& node) {
    if (++conditions_ == kMaxConditions + 1)
      report_.error(node.mark, {}, "the rules have too many prefixes and ports",
                    fmt::format("at most {} together", kMaxConditions));
    return conditions_ <= kMaxConditions;
  }

  std::vector<Prefix> read_prefixes(const YamlNode* node) {
    std::vector<Prefix> prefixes;
    if (node == nullptr) return prefixes;
    for_each_item(*node, "prefixes", report_, [&](const YamlNode& item) {
      if (!count_condition(item)) return false;
      if (const auto prefix = read_value(&item, "prefix", report_, parse_prefix)) prefixes.push_back(*prefix);
      return true;
    });
    return prefixes;
  }

  std::vector<Range> read_ports(const YamlNode* node) {
    std::vector<Range> ports;
    if (node == nullptr) return ports;
    const auto parse = [](std::string_view text) { return parse_range(text, kPorts, "8000-8100"); };
    for_each_item(*node, "ports", report_, [&](const YamlNode& item) {
      if (!count_condition(item)) return false;
      if (const auto range = read_value(&item, "port", report_, parse)) ports.push_back(*range);
      return true;
    });
    return ports;
  }

  std::optional<Range> read_tag(const YamlNode& node) {
    if (node.kind == NodeKind::kScalar && node.text == "any") return std::nullopt;
    return read_value(&node, "VLAN", report_,
                      [](std::string_view text) { return parse_range(text, kVlanIds, "100-199"); });
  }

  void read_vlan(const YamlNode& node, Match& match) {
    if (node.kind == NodeKind::kScalar) {
      match.vlan_outer = read_tag(node);
      return;
    }
    if (node.kind != NodeKind::kSequence || node.items.size() != 2)
      return report_.error_no(node, "VLAN", std::string(kVlanAllowed));
    match.vlan_outer = read_tag(*node.items[0]);
    match.vlan_inner = read_tag(*node.items[1]);
  }

  void warn_of_mixed_families(const YamlNode& node, const Match& match) {
    const auto is_v4 = [](const Prefix& prefix) { return prefix.length >= 96 && prefix.address.is_v4(); };
    const auto all_v4 = [&](const auto& list) { return !list.empty() && std::ranges::all_of(list, is_v4); };
    const auto all_v6 = [&](const auto& list) { return !list.empty() && std::ranges::none_of(list, is_v4); };
    if ((all_v4(match.subscribers) && all_v6(match.destinations)) ||
        (all_v6(match.subscribers) && all_v4(match.destinations)))
      report_.warning(node.mark, {},
                      "this can never match: one of subscribers and dst is IPv4 alone, the other IPv6 alone");
  }

  const ServiceIndex services_;
  Report& report_;
  std::unordered_map<std::string_view, const YamlNode*> names_;
  size_t conditions_ = 0;
};

}  // namespace

std::vector<SourcedRule> read_rules(const YamlNode& node, const std::vector<SourcedService>& services,
                                    Report& report) {
  std::vector<SourcedRule> rules;
  if (node.kind != NodeKind::kSequence) {
    report.error_no(node, "list of rules", "- { name: ..., match: { ... }, service: ... }");
    return rules;
  }
  RulesReader reader(services, report);
  for (const YamlNode* item : node.items) {
    if (rules.size() == kMaxRules) {
      report.error(item->mark, {}, "there are too many rules", fmt::format("at most {}", kMaxRules));
      break;
    }
    if (auto rule = reader.read(*item)) rules.push_back({std::move(*rule), item});
  }
  return rules;
}

Verdict read_default(const YamlNode& node, const std::vector<SourcedService>& services, Report& report) {
  for (const Word<Verdict::Kind>& action : kActions)
    if (node.kind == NodeKind::kScalar && node.text == action.text)
      return {action.value, kNoService, kDefaultRule};
  const ServiceIndex index = index_of(services);
  if (const auto verdict = find_service(node, index)) return *verdict;
  complain_of_service(node, index, kActionWords, report);
  return {};
}

}  // namespace synfluid::policies
