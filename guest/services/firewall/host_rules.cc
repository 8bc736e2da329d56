#include "guest/services/firewall/host_rules.h"

#include "guest/services/config.h"

namespace synfluid::guest {
namespace {

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool same_name(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != lower(b[i])) return false;
  return true;
}

std::string_view without_dot(std::string_view name) {
  if (!name.empty() && name.back() == '.') name.remove_suffix(1);
  return name;
}

std::string_view without_port(std::string_view host) {
  if (!host.empty() && host.front() == '[') {
    size_t end = 1;
    while (end < host.size() && host[end] != ']') ++end;
    return {host.data() + 1, end - 1};
  }
  size_t end = 0;
  while (end < host.size() && host[end] != ':') ++end;
  return {host.data(), end};
}

/// Calls `use` with each word of a value.
template <class Use>
void for_each_word(std::string_view text, Use use) {
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] != ' ' && text[i] != ',' && text[i] != '\t') continue;
    if (i > begin) use(std::string_view(text.data() + begin, i - begin));
    begin = i + 1;
  }
}

template <class Use>
void for_each_rule(const abi::Card& card, Use use) {
  ConfigReader config(card);
  for (ConfigLine line; config.next(line);)
    if (line.key == "block_hosts" || line.key == "block_host") for_each_word(line.value, use);
}

}  // namespace

HostRules::HostRules(const abi::Card& card, net::Arena& arena) {
  size_t count = 0;
  for_each_rule(card, [&](std::string_view) { ++count; });
  rules_ = arena.array<Rule>(count);
  size_t next = 0;
  for_each_rule(card, [&](std::string_view word) {
    if (next == rules_.size()) return;
    Rule& rule = rules_[next++];
    rule.below = word.starts_with("*.");
    if (rule.below) word.remove_prefix(2);
    rule.name = without_dot(without_port(word));
  });
}

bool HostRules::is_blocked(std::string_view host) const {
  const std::string_view name = without_dot(without_port(host));
  for (const Rule& rule : rules_) {
    if (!rule.below) {
      if (same_name(name, rule.name)) return true;
      continue;
    }
    if (name.size() <= rule.name.size() + 1) continue;
    const std::string_view tail(name.data() + name.size() - rule.name.size(), rule.name.size());
    if (name[name.size() - rule.name.size() - 1] == '.' && same_name(tail, rule.name)) return true;
  }
  return false;
}

}  // namespace synfluid::guest
