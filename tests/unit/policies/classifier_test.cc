#include "policies/classifier.h"

#include <algorithm>
#include <iostream>
#include <random>

#include <gtest/gtest.h>

namespace synfluid::policies {
namespace {

using Random = std::mt19937_64;

Prefix prefix(const char* text) {
  return Prefix::parse(text).value();
}
Address address(const char* text) {
  return Address::parse(text).value();
}

SynInfo syn(const char* source, const char* destination, uint16_t port, VlanTags vlan = {}) {
  return {address(source), address(destination), 40000, port, vlan};
}

/// What the classifier must agree with: each rule asked in turn.
uint16_t first_match(const std::vector<Rule>& rules, const SynInfo& packet) {
  const auto it = std::ranges::find_if(rules, [&](const Rule& rule) { return rule.matches(packet); });
  return it == rules.end() ? kDefaultRule : static_cast<uint16_t>(it - rules.begin());
}

uint64_t below(Random& random, uint64_t n) {
  return random() % n;
}

/// Few distinct bytes, so that prefixes nest and share.
Address random_address(Random& random) {
  Address a;
  const bool v4 = below(random, 2) == 0;
  for (size_t i = 0; i < 16; ++i)
    a.bytes[i] = static_cast<uint8_t>(below(random, 4) == 0 ? random() : below(random, 3) * 127);
  return v4 ? Address::from_v4(std::span<const uint8_t, 4>(a.bytes.data(), 4)) : a;
}

Prefix random_prefix(Random& random) {
  const Address a = random_address(random);
  const uint64_t shortest = a.is_v4() ? 96 : 0;
  Prefix p{a, static_cast<uint8_t>(shortest + below(random, 129 - shortest))};
  for (size_t bit = p.length; bit < 128; ++bit)
    p.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> bit % 8));
  return p;
}

Range random_range(Random& random, uint16_t last) {
  const auto a = static_cast<uint16_t>(below(random, last + 1u));
  const auto b = static_cast<uint16_t>(std::min<uint64_t>(last, a + below(random, 4) * below(random, 200)));
  return {a, b};
}

Rule random_rule(Random& random) {
  Rule rule;
  for (uint64_t n = below(random, 4); n > 0; --n) rule.match.subscribers.push_back(random_prefix(random));
  for (uint64_t n = below(random, 3); n > 0; --n) rule.match.destinations.push_back(random_prefix(random));
  for (uint64_t n = below(random, 3); n > 0; --n)
    rule.match.destination_ports.push_back(random_range(random, 65535));
  if (below(random, 4) == 0) rule.match.vlan_outer = random_range(random, 4095);
  if (below(random, 4) == 0) rule.match.vlan_inner = random_range(random, 4095);
  return rule;
}

/// Half of the time on or beside a boundary of some rule, where mistakes live.
Address near_rules(Random& random, const std::vector<Rule>& rules, bool source) {
  const Match& match = rules[below(random, rules.size())].match;
  const auto& prefixes = source ? match.subscribers : match.destinations;
  if (prefixes.empty() || below(random, 2) == 0) return random_address(random);
  const Prefix& p = prefixes[below(random, prefixes.size())];
  Address a = p.address;
  if (below(random, 3) == 0) a.bytes[15] ^= 1;
  if (below(random, 3) == 0)
    for (size_t bit = p.length; bit < 128; ++bit) a.bytes[bit / 8] |= static_cast<uint8_t>(0x80u >> bit % 8);
  if (below(random, 3) == 0) a.bytes[below(random, 16)] ^= static_cast<uint8_t>(1u << below(random, 8));
  return a;
}

SynInfo random_syn(Random& random, const std::vector<Rule>& rules) {
  const Match& match = rules[below(random, rules.size())].match;
  const auto port =
      match.destination_ports.empty() ? static_cast<uint16_t>(random()) : match.destination_ports[0].last;
  return {near_rules(random, rules, true),
          near_rules(random, rules, false),
          static_cast<uint16_t>(random()),
          static_cast<uint16_t>(port + below(random, 2)),
          {static_cast<uint16_t>(match.vlan_outer ? match.vlan_outer->first : below(random, 4096)),
           static_cast<uint16_t>(match.vlan_inner ? match.vlan_inner->last : below(random, 4096))}};
}

TEST(Classifier, AgreesWithAskingEachRuleInTurn) {
  const uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << '\n';
  Random random(seed);
  size_t matched = 0;
  for (const size_t count : {1, 2, 7, 63, 64, 65, 300, 1000, 4096}) {
    std::vector<Rule> rules(count);
    std::ranges::generate(rules, [&] { return random_rule(random); });
    const Classifier classifier(rules);
    for (size_t i = 0; i < 3000; ++i) {
      const SynInfo packet = random_syn(random, rules);
      const uint16_t expected = first_match(rules, packet);
      ASSERT_EQ(classifier.match(packet), expected)
          << "seed " << seed << " rules " << count << " from " << packet.source.to_string() << " to "
          << packet.destination.to_string() << ":" << packet.destination_port;
      matched += expected != kDefaultRule;
    }
  }
  EXPECT_GT(matched, 1000u) << "the test's packets miss its rules";
}

TEST(Classifier, ListsAllMatchesInOrder) {
  const uint64_t seed = std::random_device{}();
  std::cout << "seed " << seed << '\n';
  Random random(seed);
  std::vector<Rule> rules(200);
  std::ranges::generate(rules, [&] { return random_rule(random); });
  const Classifier classifier(rules);
  for (size_t i = 0; i < 1000; ++i) {
    const SynInfo packet = random_syn(random, rules);
    std::vector<uint16_t> expected;
    for (uint16_t rule = 0; rule < rules.size(); ++rule)
      if (rules[rule].matches(packet)) expected.push_back(rule);
    ASSERT_EQ(classifier.match_all(packet), expected) << "seed " << seed;
  }
}

TEST(Classifier, MatchesNothingWithoutRules) {
  const Classifier classifier({});
  EXPECT_EQ(classifier.match(syn("10.0.0.1", "10.0.0.2", 80)), kDefaultRule);
}

TEST(Classifier, LetsTheFirstRuleWin) {
  const std::vector<Rule> rules{{"host", {.destinations = {prefix("198.51.100.80/32")}}, {}},
                                {"net", {.destinations = {prefix("198.51.100.0/24")}}, {}}};
  const Classifier classifier(rules);
  EXPECT_EQ(classifier.match(syn("10.0.0.1", "198.51.100.80", 80)), 0);
  EXPECT_EQ(classifier.match(syn("10.0.0.1", "198.51.100.79", 80)), 1);
  EXPECT_EQ(classifier.match(syn("10.0.0.1", "198.51.100.81", 80)), 1);
  EXPECT_EQ(classifier.match(syn("10.0.0.1", "198.51.101.0", 80)), kDefaultRule);
}

TEST(Classifier, KeepsIpv4OutOfAllOfIpv6) {
  const std::vector<Rule> rules{{"six", {.subscribers = {prefix("::/0")}}, {}},
                                {"four", {.subscribers = {prefix("0.0.0.0/0")}}, {}}};
  const Classifier classifier(rules);
  EXPECT_EQ(classifier.match(syn("2001:db8::1", "2001:db8::2", 80)), 0);
  EXPECT_EQ(classifier.match(syn("::", "2001:db8::2", 80)), 0);
  EXPECT_EQ(classifier.match(syn("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::2", 80)), 0);
  EXPECT_EQ(classifier.match(syn("0.0.0.0", "10.0.0.2", 80)), 1);
  EXPECT_EQ(classifier.match(syn("255.255.255.255", "10.0.0.2", 80)), 1);
}

TEST(Classifier, TellsUntaggedFromTaggedFrames) {
  const std::vector<Rule> rules{{"untagged", {.vlan_outer = Range{0, 0}}, {}},
                                {"single", {.vlan_outer = Range{100, 100}, .vlan_inner = Range{0, 0}}, {}},
                                {"double", {.vlan_outer = Range{100, 199}}, {}}};
  const Classifier classifier(rules);
  const auto rule_of = [&](uint16_t outer, uint16_t inner) {
    return classifier.match(syn("10.0.0.1", "10.0.0.2", 80, {outer, inner}));
  };
  EXPECT_EQ(rule_of(0, 0), 0);
  EXPECT_EQ(rule_of(100, 0), 1);
  EXPECT_EQ(rule_of(100, 7), 2);
  EXPECT_EQ(rule_of(199, 4095), 2);
  EXPECT_EQ(rule_of(200, 0), kDefaultRule);
}

TEST(Classifier, FindsRulesThatShareASummaryWordButNotABit) {
  // Rule 0 has only the source, rule 1 only the destination: their words overlap, their bits do not.
  const std::vector<Rule> rules{
      {"a", {.subscribers = {prefix("10.0.0.1")}, .destinations = {prefix("10.9.9.9")}}, {}},
      {"b", {.subscribers = {prefix("10.0.0.2")}, .destinations = {prefix("10.0.0.3")}}, {}}};
  EXPECT_EQ(Classifier(rules).match(syn("10.0.0.1", "10.0.0.3", 80)), kDefaultRule);
}

TEST(Classifier, StaysSmallWithTenThousandPrefixes) {
  std::vector<Rule> rules(1000);
  for (uint32_t i = 0; i < 10'000; ++i) {
    const std::array<uint8_t, 4> net{10, static_cast<uint8_t>(i >> 8), static_cast<uint8_t>(i), 0};
    rules[i % 1000].match.subscribers.push_back({Address::from_v4(net), 120});
  }
  EXPECT_LT(Classifier(rules).memory_bytes(), size_t{2} << 20);
}

}  // namespace
}  // namespace synfluid::policies
