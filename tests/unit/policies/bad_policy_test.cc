#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policies/loader.h"

namespace synfluid::policies {
namespace {

using testing::ElementsAre;

/// What the loader says about a text, without "p.yaml:".
std::vector<std::string> complaints(const std::string& text) {
  const LoadResult loaded = load_text(text, "p.yaml");
  std::vector<std::string> lines;
  if (loaded) return {"it is loaded"};
  for (const Diagnostic& d : loaded.error()) lines.push_back(d.to_string().substr(7));
  return lines;
}

std::string service(const std::string& fields) {
  return "version: 1\nservices: { s: { image: /srv/x, mode: inline, per: flow, " + fields +
         " } }\ndefault: s\n";
}

std::string match(const std::string& conditions) {
  return "version: 1\nrules: [{ name: r, action: drop, match: { " + conditions + " } }]\n";
}

struct Row {
  const char* name;
  std::string text;
  std::string complaint;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class BadPolicy : public testing::TestWithParam<Row> {};

TEST_P(BadPolicy, IsToldInOneLineWithItsPlace) {
  EXPECT_THAT(complaints(GetParam().text), ElementsAre(GetParam().complaint)) << GetParam().text;
}

const Row kBadPolicies[] = {
    {"Empty", "", " the policy is empty; allowed: version: 1, and what follows it"},
    {"Comment", "# nothing\n", " the policy is empty; allowed: version: 1, and what follows it"},
    {"NoMap", "[1]",
     "1:1: a list is no policy; allowed: a map with version, services, rules, limits, default"},
    {"NoVersion", "default: drop", "1:1: this policy lacks 'version'"},
    {"OtherVersion", "version: 2", "1:10: '2' is no version of the policy language; allowed: 1"},
    {"UnknownKey", "version: 1\nrule: []",
     "2:1: 'rule' is no key of a policy, did you mean 'rules'?; allowed: version, services, rules, limits, "
     "default"},
    {"DuplicateKey", "version: 1\ndefault: drop\ndefault: drop", "3:1: 'default' is there twice in this map"},
    {"NoValue", "version: 1\ndefault:\n", "2:1: 'default' has no value; allowed: a value, or no such key"},
    {"Syntax", "version: 1\nrules: [ }", "2:10: YAML: illegal flow end"},
    {"Tab", "version: 1\n\trules: []", "2:1: YAML: illegal tab when looking for indentation"},
    {"UnknownAlias", "version: *one", "1:10: YAML: the referenced anchor is not defined"},
    {"TwoDocuments", "version: 1\n---\nversion: 1", "3:1: a second YAML document; a policy is one"},
    {"Nul", std::string("version: 1\nx\0y", 14), "2:2: byte 0x00 is no text; a policy is UTF-8"},
    {"Utf16", "\xff\xfe\x76", "1:1: byte 0xff is no text; a policy is UTF-8"},
    {"Surrogate", "a: \xed\xa0\x80", "1:4: byte 0xed is no text; a policy is UTF-8"},
    {"Mode", "version: 1\nservices: { s: { image: /x, mode: terminat, per: flow } }\ndefault: s",
     "2:35: 'terminat' is no mode; allowed: terminate, inline"},
    {"Per", "version: 1\nservices: { s: { image: /x, mode: inline, per: vm } }\ndefault: s",
     "2:48: 'vm' is no scope; allowed: flow, subscriber, service"},
    {"NoImage", "version: 1\nservices: { s: { mode: inline, per: flow } }\ndefault: s",
     "2:16: this service lacks 'image'"},
    {"Builtin",
     "version: 1\nservices: { s: { image: 'builtin:firewal', mode: inline, per: flow } }\ndefault: s",
     "2:25: 'builtin:firewal' is no built-in image, did you mean 'builtin:firewall'?; allowed: "
     "builtin:responder, "
     "builtin:passthrough, builtin:firewall, or the path of an image"},
    {"BuiltinMode",
     "version: 1\nservices: { s: { image: 'builtin:firewall', mode: terminate, per: flow } }\ndefault: s",
     "2:51: 'terminate' is not what builtin:firewall does; allowed: inline"},
    {"ReservedName", "version: 1\nservices: { drop: { image: /x, mode: inline, per: flow } }",
     "2:13: 'drop' is an action, no name for a service"},
    {"BadName", "version: 1\nservices: { 'a b': { image: /x, mode: inline, per: flow } }",
     "2:13: 'a b' is no name; allowed: 1 to 63 letters, digits, '-', '_' and '.', beginning with a letter or "
     "digit"},
    {"DuplicateService",
     "version: 1\nservices:\n  s: { image: /x, mode: inline, per: flow }\n  s: { image: /x, mode: inline, "
     "per: flow }",
     "4:3: the service 's' is there twice"},
    {"Size", service("memory: 512K"),
     "2:66: '512K' is no size; allowed: a size such as 512KiB, 8MiB or 1GiB"},
    {"SizeOverflow", service("memory: 18446744073709551615GiB"),
     "2:66: '18446744073709551615GiB' is no size; allowed: a size such as 512KiB, 8MiB or 1GiB"},
    {"SmallSize", service("memory: 4KiB"), "2:66: '4KiB' is too little memory; allowed: 64KiB to 64GiB"},
    {"OddSize", service("memory: 100001"),
     "2:66: '100001' is not a whole number of pages; allowed: multiples of 4KiB"},
    {"Duration", service("idle_timeout: 10"),
     "2:72: '10' is no duration; allowed: a duration such as 500ms, 10s or 5m"},
    {"LongDuration", service("answer_timeout: 25h"), "2:74: '25h' is too long; allowed: 1ms to 24h"},
    {"Pool", service("pool: { min: 4, max: 2 }"),
     "2:79: the pool's max 2 is below its min 4; allowed: 4 or more"},
    {"PoolOverLimit", service("pool: { min: 20000 }"),
     "2:13: up to 's', the pools keep 20000 VMs ready, more than max_vms; allowed: 10000 together"},
    {"OnFailure", service("on_failure: retry"), "2:70: 'retry' is no action; allowed: bypass, drop, reset"},
    {"ConfigLine", service("config: { a: \"x\\ny\" }"), "2:71: 'x?y' has a line break; allowed: one line"},
    {"ConfigLength", service("config: { a: " + std::string(4000, 'x') + " }"),
     "2:66: this config is too long for a guest; allowed: at most 3072 bytes: key and value of each entry, "
     "and two "
     "more"},
    {"ConfigKey",
     "version: 1\nservices: { s: { image: 'builtin:firewall', mode: inline, per: flow, config: { body: x } } "
     "}\n"
     "default: s",
     "2:80: 'body' is no key of a firewall's config; allowed: block_hosts"},
    {"ConfigOfPassthrough",
     "version: 1\nservices: { s: { image: 'builtin:passthrough', mode: inline, per: flow, config: { a: x } } "
     "}\n"
     "default: s",
     "2:81: builtin:passthrough takes no config; allowed: no such key"},
    {"Host",
     "version: 1\nservices: { s: { image: 'builtin:firewall', mode: inline, per: flow, config: { "
     "block_hosts: "
     "['http://x'] } } }\ndefault: s",
     "2:94: 'http://x' is no host name; allowed: a DNS name such as ads.example.net, or one behind a "
     "wildcard: "
     "\"*.example.net\""},
    {"UnknownService", "version: 1\nrules: [{ name: r, match: {}, service: s }]",
     "2:40: 's' is no service; allowed: none, for there are no services"},
    {"UnknownDefault", "version: 1\ndefault: bypas",
     "2:10: 'bypas' is no service, did you mean 'bypass'?; allowed: bypass, drop, reset"},
    {"ServiceAndAction", service("").append("rules: [{ name: r, match: {}, service: s, action: drop }]"),
     "4:51: this rule has a service and an action; allowed: either service or action"},
    {"NothingToDo", "version: 1\nrules: [{ name: r, match: {} }]",
     "2:9: this rule says not what to do; allowed: either service or action"},
    {"DuplicateRule",
     "version: 1\nrules:\n- { name: r, match: { dst_ports: 1 }, action: drop }\n- { name: r, match: {}, "
     "action: drop }",
     "4:11: the rule 'r' is there twice, first in line 3"},
    {"RulesAsMap", "version: 1\nrules: { a: b }",
     "2:8: a map is no list of rules; allowed: - { name: ..., match: { ... }, service: ... }"},
    {"HostBits", match("subscribers: 10.20.0.1/16"),
     "2:56: '10.20.0.1/16' has address bits set behind its prefix length; allowed: \"10.20.0.0/16\""},
    {"HostBitsIpv6", match("dst: \"2001:db8::1/32\""),
     "2:48: '2001:db8::1/32' has address bits set behind its prefix length; allowed: \"2001:db8::/32\""},
    {"PrefixLength", match("dst: 10.0.0.0/33"),
     "2:48: '10.0.0.0/33' is no address and no prefix; allowed: an address, or a prefix such as 10.20.0.0/16 "
     "or "
     "\"2001:db8::/32\""},
    {"EmptyList", match("dst: []"),
     "2:48: an empty list is no list of prefixes; allowed: at least one of prefixes, or no such key"},
    {"Port", match("dst_ports: [80, 65536]"),
     "2:59: '65536' is out of range; allowed: a number from 0 to 65535, or a range such as \"8000-8100\""},
    {"PortRange", match("dst_ports: 90-80"), "2:54: '90-80' ends before it begins; allowed: \"80-90\""},
    {"PortName", match("dst_ports: http"),
     "2:54: 'http' is no number and no range; allowed: a number from 0 to 65535, or a range such as "
     "\"8000-8100\""},
    {"Vlan", match("vlan: 4095"),
     "2:49: '4095' is out of range; allowed: a number from 0 to 4094, or a range such as \"100-199\""},
    {"VlanList", match("vlan: [1, 2, 3]"),
     "2:49: a list is no VLAN; allowed: a VLAN id, a range such as \"100-199\", or [outer, inner] of these "
     "or any"},
    {"Rate", "version: 1\nlimits: { spawn_rate: 2000 }",
     "2:23: '2000' is no rate; allowed: a rate such as 2000/s, 100/m or 20/10s"},
    {"NoEvents", "version: 1\nlimits: { spawn_rate: 0/s }",
     "2:23: '0/s' is out of range; allowed: 1 to 1000000000 events"},
    {"MaxVms", "version: 1\nlimits: { max_vms: 40000 }",
     "2:20: '40000' is too large; allowed: a whole number from 1 to 32752"},
    {"Ipv6Prefix", "version: 1\nlimits: { per_subscriber: { ipv6_prefix: 8 } }",
     "2:42: '8' is too small; allowed: a whole number from 16 to 128"},
};

INSTANTIATE_TEST_SUITE_P(Loader, BadPolicy, testing::ValuesIn(kBadPolicies),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace synfluid::policies
