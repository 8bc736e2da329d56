#include "policies/loader.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace synfluid::policies {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

/// What the loader says about a text, without "p.yaml:".
std::vector<std::string> complaints(const std::string& text) {
  const LoadResult loaded = load_text(text, "p.yaml");
  std::vector<std::string> lines;
  if (loaded) return {"it is loaded"};
  for (const Diagnostic& d : loaded.error()) lines.push_back(d.to_string().substr(7));
  return lines;
}

std::shared_ptr<const Policy> load(const std::string& text, const std::string& filename = "p.yaml") {
  LoadResult loaded = load_text(text, filename);
  if (!loaded) throw std::runtime_error(to_string(loaded.error()));
  return *loaded;
}

std::string service(const std::string& fields) {
  return "version: 1\nservices: { s: { image: /srv/x, mode: inline, per: flow, " + fields +
         " } }\ndefault: s\n";
}

Address address(const char* text) {
  return Address::parse(text).value();
}

TEST(Loader, TellsAllFaultsAtOnceInTheOrderOfTheFile) {
  EXPECT_THAT(
      complaints("version: 1\ndefault: x\nrules: [{ name: r, match: { dst: y }, action: z }]\nlimits: 3\n"),
      ElementsAre(HasSubstr("2:10: 'x' is no service"), HasSubstr("3:34: 'y' is no address"),
                  HasSubstr("3:47: 'z' is no action"), HasSubstr("4:9: '3' is no map of limits")));
}

TEST(Loader, StopsCountingItsWordsButNotTheFaults) {
  std::string rules = "version: 1\nrules:\n";
  for (int i = 0; i < 300; ++i) rules += "- 1\n";
  const auto lines = complaints(rules);
  ASSERT_EQ(lines.size(), 101u);
  EXPECT_EQ(lines.back(), " and 200 more");
}

TEST(Loader, FillsInWhatAServiceLeavesOpen) {
  const auto policy = load(service(""));
  const Service& s = policy->services()[0];
  EXPECT_EQ(s.name, "s");
  EXPECT_EQ(s.image, "/srv/x");
  EXPECT_EQ(s.mode, ServiceMode::kInline);
  EXPECT_EQ(s.memory_bytes, 512u * 1024);
  EXPECT_EQ(s.idle_timeout_ns, 30 * kNsPerSecond);
  EXPECT_EQ(s.answer_timeout_ns, 3 * kNsPerSecond);
  EXPECT_EQ(s.pool.min, 0u);
  EXPECT_EQ(s.pool.max, 0u);
  EXPECT_EQ(s.on_failure, OnFailure::kBypass);
}

TEST(Loader, DoesNotLetAFlowPastAServerThatFails) {
  const auto policy = load(
      "version: 1\nservices: { s: { image: 'builtin:responder', mode: terminate, per: flow } }\ndefault: s");
  EXPECT_EQ(policy->services()[0].on_failure, OnFailure::kReset);
}

TEST(Loader, ReadsEachFieldOfAService) {
  const auto policy =
      load(service("memory: 8MiB, idle_timeout: 5m, answer_timeout: 250ms, pool: { min: 100 }, "
                   "on_failure: drop, config: { a: [1, two], b: '3 4' }"));
  const Service& s = policy->services()[0];
  EXPECT_EQ(s.memory_bytes, 8u << 20);
  EXPECT_EQ(s.idle_timeout_ns, 300 * kNsPerSecond);
  EXPECT_EQ(s.answer_timeout_ns, 250 * kNsPerMs);
  EXPECT_EQ(s.pool.min, 100u);
  EXPECT_EQ(s.pool.max, 100u);
  EXPECT_EQ(s.on_failure, OnFailure::kDrop);
  EXPECT_THAT(s.config, ElementsAre(Pair("a", "1"), Pair("a", "two"), Pair("b", "3 4")));
}

TEST(Loader, ReadsTheConfigOfTheBuiltInServices) {
  const auto policy = load(
      "version: 1\nservices:\n  f: { image: 'builtin:firewall', mode: inline, per: flow, config: { "
      "block_hosts: "
      "[Ads.Example.NET., '*.x.org'] } }\n  r: { image: 'builtin:responder', mode: terminate, per: flow, "
      "config: { "
      "body: \"one\\n\\ntwo\\n\" } }\n");
  EXPECT_THAT(policy->services()[0].config,
              ElementsAre(Pair("block_hosts", "ads.example.net"), Pair("block_hosts", "*.x.org")));
  EXPECT_THAT(policy->services()[1].config,
              ElementsAre(Pair("body", "one"), Pair("body", ""), Pair("body", "two")));
}

TEST(Loader, TakesRelativeImagesFromThePolicysFolder) {
  const auto image = [](const std::string& path, const std::string& file) {
    return load("version: 1\nservices: { s: { image: " + path + ", mode: inline, per: flow } }\ndefault: s",
                file)
        ->services()[0]
        .image;
  };
  EXPECT_EQ(image("../images/os", "/etc/synfluid/policy.yaml"), "/etc/images/os");
  EXPECT_EQ(image("/srv/os", "/etc/synfluid/policy.yaml"), "/srv/os");
  EXPECT_EQ(image("os", "policy.yaml"), "os");
}

TEST(Loader, ReadsLimits) {
  const auto policy = load(
      "version: 1\nlimits: { max_vms: 7, spawn_rate: 20/10s, held_packets: 3, hold_time: 1s, on_table_full: "
      "drop, "
      "per_subscriber: { spawn_rate: 5/m, max_vms: 2, ipv6_prefix: 56 } }");
  const Limits& limits = policy->limits();
  EXPECT_EQ(limits.max_vms, 7u);
  EXPECT_EQ(limits.spawn_rate, (Rate{20, 10 * kNsPerSecond}));
  EXPECT_EQ(limits.held_packets, 3u);
  EXPECT_EQ(limits.hold_time_ns, kNsPerSecond);
  EXPECT_EQ(limits.on_table_full, OnTableFull::kDrop);
  EXPECT_EQ(limits.per_subscriber.spawn_rate, (Rate{5, 60 * kNsPerSecond}));
  EXPECT_EQ(limits.per_subscriber.max_vms, 2u);
  EXPECT_EQ(policy->subscriber_of(address("2001:db8:1:2ff::1")), address("2001:db8:1:200::"));
  EXPECT_EQ(policy->subscriber_of(address("10.0.0.255")), address("10.0.0.255"));
}

TEST(Loader, DecidesByTheFirstRuleThatMatches) {
  const auto policy = load(R"(
version: 1
services: { s: { image: /x, mode: inline, per: flow } }
rules:
- { name: exception, match: { subscribers: 10.0.0.9 }, action: reset }
- { name: wide, match: { subscribers: [10.0.0.0/8, "2001:db8::/32"], dst_ports: [80, 8000-8100] }, service: s }
- { name: tagged, match: { vlan: [any, 5] }, action: bypass }
default: drop
)");
  const auto decide = [&](const char* from, uint16_t port, uint16_t inner = 0) {
    return policy->classify({address(from), address("192.0.2.1"), 1, port, {inner, inner}});
  };
  using Kind = Verdict::Kind;
  EXPECT_EQ(decide("10.0.0.9", 80), (Verdict{Kind::kReset, kNoService, 0}));
  EXPECT_EQ(decide("10.0.0.8", 8050), (Verdict{Kind::kService, 0, 1}));
  EXPECT_EQ(decide("2001:db8::1", 80), (Verdict{Kind::kService, 0, 1}));
  EXPECT_EQ(decide("10.0.0.8", 81, 5), (Verdict{Kind::kBypass, kNoService, 2}));
  EXPECT_EQ(decide("10.0.0.8", 81), (Verdict{Kind::kDrop, kNoService, kDefaultRule}));
  EXPECT_EQ(policy->rule_name(1), "wide");
  EXPECT_EQ(policy->rule_name(kDefaultRule), "default");
}

std::vector<std::string> warnings(const std::string& text) {
  std::vector<std::string> lines;
  const auto policy = load(text);
  for (const Diagnostic& d : policy->warnings()) lines.push_back(d.to_string().substr(7));
  return lines;
}

TEST(Loader, WarnsOfARuleThatAnotherCoversWhole) {
  EXPECT_THAT(
      warnings("version: 1\nrules:\n"
               "- { name: a, match: { subscribers: [10.0.0.0/9, 10.128.0.0/9], dst_ports: 1-100 }, action: "
               "drop }\n"
               "- { name: part, match: { subscribers: 10.0.0.0/8, dst_ports: 100-101 }, action: drop }\n"
               "- { name: whole, match: { subscribers: 10.0.0.0/8, dst_ports: [7, 100], vlan: 3 }, action: "
               "drop }\n"
               "- { name: wider, match: { dst_ports: 7 }, action: drop }\n"),
      ElementsAre("5:3: warning: the rule 'whole' can never match: 'a' before it matches all that it does"));
}

TEST(Loader, WarnsOfRulesBehindOneThatMatchesAll) {
  EXPECT_THAT(
      warnings(
          "version: 1\nrules:\n- { name: all, match: { subscribers: [0.0.0.0/0, '::/0'] }, action: drop }\n"
          "- { name: late, match: {}, action: drop }\n"),
      ElementsAre("4:3: warning: the rule 'late' can never match: 'all' before it matches all that it does"));
}

TEST(Loader, WarnsOfServicesThatNobodyUsesAndOfMixedFamilies) {
  EXPECT_THAT(
      warnings(
          "version: 1\nservices: { s: { image: /x, mode: inline, per: flow } }\n"
          "rules: [{ name: r, match: { subscribers: 10.0.0.0/8, dst: '2001:db8::/32' }, action: drop }]\n"),
      ElementsAre(
          "2:13: warning: no rule uses the service 's'",
          HasSubstr("3:27: warning: this can never match: one of subscribers and dst is IPv4 alone")));
}

TEST(Loader, RefusesDeepNestingWithoutRunningOutOfStack) {
  for (const std::string step : {"[", "{a: ", "- ", "? ", "a: ["}) {
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += step;
    EXPECT_EQ(complaints(text).size(), 1u) << step;
  }
}

TEST(Loader, SharesAliasesInsteadOfExpandingThem) {
  const auto policy = load(
      "version: 1\nrules:\n- { name: a, match: { subscribers: &s [10.0.0.0/8] }, action: drop }\n"
      "- { name: b, match: { dst: *s }, action: drop }\n");
  EXPECT_EQ(policy->rules()[1].match.destinations.size(), 1u);
  std::string bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 60; ++i) {
    bomb += fmt::format("a{0}: &a{0} [*a{1}, *a{1}]\n", i, i - 1);
  }
  EXPECT_EQ(complaints(bomb + "rules: *a59\n").front(),
            "2:1: 'a0' is no key of a policy; allowed: version, services, rules, limits, default");
}

TEST(Loader, BoundsWhatManyAliasesOfALongListCost) {
  std::string text = "version: 1\nservices: { s: { image: /x, mode: inline, per: flow, config: { k: &long [";
  for (int i = 0; i < 1000; ++i) text += "x, ";
  text += "]";
  for (int i = 0; i < 1000; ++i) text += fmt::format(", k{}: *long", i);
  EXPECT_THAT(complaints(text + " } } }\ndefault: s\n"),
              ElementsAre(HasSubstr("this config is too long for a guest")));
}

TEST(Loader, RefusesMoreRulesThanTheClassifierTakes) {
  std::string text = "version: 1\nrules:\n";
  for (size_t i = 0; i <= kMaxRules; ++i)
    text += fmt::format("- {{ name: r{0}, match: {{ dst_ports: {0} }}, action: drop }}\n", i);
  EXPECT_THAT(complaints(text), ElementsAre("4099:3: there are too many rules; allowed: at most 4096"));
}

TEST(Loader, RefusesAFileThatIsTooLarge) {
  EXPECT_THAT(complaints(std::string(kMaxPolicyBytes + 1, '#')),
              ElementsAre(" the policy is too large; allowed: up to 16777216 bytes"));
}

TEST(Loader, SaysWhyAFileCannotBeRead) {
  const LoadResult missing = load_file("/nowhere/policy.yaml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error()[0].to_string(),
            "/nowhere/policy.yaml: cannot be read: No such file or directory");
  EXPECT_THAT(load_file("/").error()[0].to_string(), HasSubstr("this is a folder"));
}

class Examples : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(Examples, LoadWithoutAWarning) {
  const LoadResult loaded = load_file(GetParam().string());
  ASSERT_TRUE(loaded) << to_string(loaded.error());
  EXPECT_EQ(to_string((*loaded)->warnings()), "");
}

std::vector<std::filesystem::path> examples() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(SYNFLUID_POLICY_EXAMPLES))
    paths.push_back(entry.path());
  return paths;
}

INSTANTIATE_TEST_SUITE_P(Policies, Examples, testing::ValuesIn(examples()), [](const auto& path) {
  std::string name = path.param.stem().string();
  std::erase(name, '-');
  return name;
});

TEST(Demo, SendsEachKindOfFlowWhereItBelongs) {
  const auto policy = load_file(SYNFLUID_POLICY_EXAMPLES "/demo.yaml").value();
  const auto rule = [&](const char* from, const char* to, uint16_t port) {
    return std::string(
        policy->rule_name(policy->classify({address(from), address(to), 40000, port, {}}).rule));
  };
  EXPECT_EQ(rule("10.20.3.4", "198.51.100.80", 80), "walled-garden");
  EXPECT_EQ(rule("2001:db8:20::7", "2001:db8:5::80", 80), "walled-garden");
  EXPECT_EQ(rule("10.20.3.4", "198.51.100.80", 443), "ad-removal");
  EXPECT_EQ(rule("2001:db8:20::7", "2001:db8:5::81", 80), "ad-removal");
  EXPECT_EQ(rule("10.20.3.4", "198.51.100.10", 8080), "monitored");
  EXPECT_EQ(rule("10.20.3.4", "198.51.100.10", 22), "default");
  EXPECT_EQ(rule("10.21.3.4", "198.51.100.10", 80), "default");
}

}  // namespace
}  // namespace synfluid::policies
