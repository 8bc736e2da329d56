// The sections of a policy file, one reader each. They fill what they can and report the rest.
//
// Threads: none. Ownership: results own their text; Sourced values remember the node they came from, which
// belongs to the tree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policies/policy.h"
#include "policies/report.h"
#include "policies/yaml_tree.h"

namespace synfluid::policies {

/// Words for an action that needs no service; no service may bear one as its name.
inline constexpr std::string_view kActionWords[] = {"bypass", "drop", "reset"};

struct SourcedService {
  Service service;
  const YamlNode* name;
};

struct SourcedRule {
  Rule rule;
  const YamlNode* node;  ///< the rule's map
};

/// `folder` is where relative image paths start.
std::vector<SourcedService> read_services(const YamlNode& node, const std::string& folder, Report& report);

/// What is more than kMaxRules or kMaxConditions is reported once, and not read.
std::vector<SourcedRule> read_rules(const YamlNode& node, const std::vector<SourcedService>& services,
                                    Report& report);

Limits read_limits(const YamlNode& node, Report& report);

/// bypass, drop, reset or the name of a service.
Verdict read_default(const YamlNode& node, const std::vector<SourcedService>& services, Report& report);

/// A service's `config`, for the image it goes to.
std::vector<std::pair<std::string, std::string>> read_config(const YamlNode& node, std::string_view image,
                                                             Report& report);

/// Warns of rules that no SYN can ever reach.
void warn_of_shadowed_rules(const std::vector<SourcedRule>& rules, Report& report);

}  // namespace synfluid::policies
