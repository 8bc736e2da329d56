// What the policy classifier takes for a new SYN, and how that grows from 10 subscriber prefixes and rules to
// 10,000 prefixes and 1,000 rules.
//
// Each SYN's source lies in a random subscriber prefix (one in ten: in none), its destination and port are
// those of a random rule. "one" waits for each verdict before it asks for the next, as a lone SYN does;
// "burst" does not, as within a burst of packets. The peer asks each rule in turn. Before anything is
// measured, both must agree.
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <time.h>

#include "bench/report.h"
#include "policies/policy.h"

namespace synfluid::bench {
namespace {

using policies::Policy;
using policies::Rule;
using policies::SynInfo;
using Random = std::mt19937_64;

/// Read one after the other, so that they come from the cache, as headers just parsed do.
constexpr size_t kSyns = 1 << 13;
/// The peer is slow; so many are enough for it, and for the comparison.
constexpr size_t kPeerSyns = 1 << 12;

enum class Family { kIpv4, kIpv6, kBoth };

struct Options {
  std::string json;
  int rounds = 101;
  uint64_t seed = 1;
};

uint64_t below(Random& random, uint64_t n) {
  return random() % n;
}

Address random_in(const Prefix& prefix, Random& random) {
  Address address = prefix.address;
  for (size_t bit = prefix.length; bit < 128; ++bit)
    if (random() & 1) address.bytes[bit / 8] |= static_cast<uint8_t>(0x80u >> bit % 8);
  return address;
}

Prefix cut(const Address& address, uint8_t length) {
  Prefix prefix{address, length};
  for (size_t bit = length; bit < 128; ++bit)
    prefix.address.bytes[bit / 8] &= static_cast<uint8_t>(~(0x80u >> bit % 8));
  return prefix;
}

/// Blocks as operators have them: /20 to /28 of 10.0.0.0/8, /44 to /60 of 2001:db8::/32.
Prefix random_subscribers(Family family, Random& random) {
  static const Prefix kNet4 = Prefix::parse("10.0.0.0/8").value();
  static const Prefix kNet6 = Prefix::parse("2001:db8::/32").value();
  const bool v4 = family == Family::kIpv4 || (family == Family::kBoth && below(random, 2) == 0);
  const uint64_t length = v4 ? 96 + 20 + below(random, 9) : 44 + below(random, 17);
  return cut(random_in(v4 ? kNet4 : kNet6, random), static_cast<uint8_t>(length));
}

Prefix random_servers(bool v4, Random& random) {
  static const Prefix kNet4 = Prefix::parse("198.18.0.0/15").value();
  static const Prefix kNet6 = Prefix::parse("2001:2::/32").value();
  return v4 ? cut(random_in(kNet4, random), static_cast<uint8_t>(96 + 24 + below(random, 9)))
            : cut(random_in(kNet6, random), static_cast<uint8_t>(48 + below(random, 17)));
}

Rule make_rule(size_t prefixes, Family family, Random& random) {
  Rule rule;
  for (size_t i = 0; i < prefixes; ++i) rule.match.subscribers.push_back(random_subscribers(family, random));
  if (below(random, 2) == 0)
    rule.match.destinations = {random_servers(true, random), random_servers(false, random)};
  const auto port = static_cast<uint16_t>(1 + below(random, 10'000));
  if (below(random, 4) != 0) rule.match.destination_ports = {{80, 80}, {443, 443}, {port, port}};
  rule.verdict.kind = policies::Verdict::Kind::kDrop;
  return rule;
}

std::vector<Rule> make_rules(size_t prefixes, size_t rules, Family family, uint64_t seed) {
  Random random(seed);
  std::vector<Rule> made;
  for (size_t i = 0; i < rules; ++i) made.push_back(make_rule(prefixes / rules, family, random));
  return made;
}

SynInfo make_syn(const std::vector<Rule>& rules, Random& random) {
  const Rule& rule = rules[below(random, rules.size())];
  const Prefix& home = rule.match.subscribers[below(random, rule.match.subscribers.size())];
  const bool v4 = home.address.is_v4();
  const Prefix away = cut(home.address, static_cast<uint8_t>(v4 ? 96 + 4 : 24));
  SynInfo syn;
  syn.source = random_in(below(random, 10) == 0 ? away : home, random);
  const auto& servers = rule.match.destinations;
  syn.destination = random_in(servers.empty() ? random_servers(v4, random) : servers[v4 ? 0 : 1], random);
  const auto& ports = rule.match.destination_ports;
  syn.destination_port = ports.empty() ? static_cast<uint16_t>(random()) : ports[below(random, 3)].first;
  syn.source_port = static_cast<uint16_t>(random());
  return syn;
}

struct Case {
  std::unique_ptr<const Policy> policy;
  std::vector<SynInfo> syns;
};

Case make_case(size_t prefixes, size_t rules, Family family, uint64_t seed) {
  const std::vector<Rule> made = make_rules(prefixes, rules, family, seed);
  Random random(seed + 1);
  Case c;
  for (size_t i = 0; i < kSyns; ++i) c.syns.push_back(make_syn(made, random));
  policies::PolicySpec spec;
  spec.rules = made;
  c.policy = std::make_unique<const Policy>(std::move(spec));
  return c;
}

uint16_t ask_in_turn(const Policy& policy, const SynInfo& syn) {
  const auto rules = policy.rules();
  for (uint16_t i = 0; i < rules.size(); ++i)
    if (rules[i].matches(syn)) return i;
  return policies::kDefaultRule;
}

/// The share of SYNs that a rule matched, or an error where the two ways differ.
Result<double> check(const Case& c) {
  size_t matched = 0;
  for (size_t i = 0; i < kPeerSyns; ++i) {
    const uint16_t rule = ask_in_turn(*c.policy, c.syns[i]);
    if (c.policy->classify(c.syns[i]).rule != rule)
      return Error(ErrorCode::kSystem, fmt::format("SYN {}: the classifier is wrong", i));
    matched += rule != policies::kDefaultRule;
  }
  return static_cast<double>(matched) / kPeerSyns;
}

/// This thread's own time: another program on the core costs it cache, not time.
double thread_ns() {
  timespec ts;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
  return static_cast<double>(ts.tv_sec) * 1e9 + static_cast<double>(ts.tv_nsec);
}

/// Once untimed: the other case, or the peer, has just had the cache.
template <class Run>
double ns_each(size_t count, Run run) {
  run();
  const double begin = thread_ns();
  run();
  return (thread_ns() - begin) / static_cast<double>(count);
}

/// Keeps the optimiser from seeing that nobody looks at a result.
volatile uint64_t sink;

double ns_one(const Case& c) {
  return ns_each(kSyns, [&] {
    size_t at = 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < kSyns; ++i) {
      const uint16_t rule = c.policy->classify(c.syns[at]).rule;
      sum += rule;
      at = i + 1 + (rule == policies::kDefaultRule - 1);  // no such rule, but only the verdict tells
    }
    sink = sum;
  });
}

double ns_burst(const Case& c) {
  return ns_each(kSyns, [&] {
    uint64_t sum = 0;
    for (const SynInfo& syn : c.syns) sum += c.policy->classify(syn).rule;
    sink = sum;
  });
}

double ns_in_turn(const Case& c) {
  return ns_each(kPeerSyns, [&] {
    uint64_t sum = 0;
    for (size_t i = 0; i < kPeerSyns; ++i) sum += ask_in_turn(*c.policy, c.syns[i]);
    sink = sum;
  });
}

std::vector<double> ratios(const std::vector<double>& over, const std::vector<double>& under) {
  std::vector<double> result;
  for (size_t i = 0; i < over.size(); ++i) result.push_back(over[i] / under[i]);
  return result;
}

Status run_family(Report& report, const Options& options, const std::string& suffix, Family family) {
  const Case small = make_case(10, 10, family, options.seed);
  const Case large = make_case(10'000, 1'000, family, options.seed);
  for (const auto& [name, c] : {std::pair("small", &small), std::pair("large", &large)}) {
    const auto matched = check(*c);
    if (!matched) return matched.error();
    report.set_parameter(fmt::format("matched_{}{}", name, suffix), *matched);
  }
  std::map<std::string, std::vector<double>> ns;
  for (int round = 0; round < options.rounds; ++round) {
    ns["one_small"].push_back(ns_one(small));
    ns["one_large"].push_back(ns_one(large));
    ns["burst_small"].push_back(ns_burst(small));
    ns["burst_large"].push_back(ns_burst(large));
    if (round % 20 == 0) ns["peer"].push_back(ns_in_turn(large));
  }
  report.add(Figure::of("growth" + suffix, "ratio", ratios(ns["one_large"], ns["one_small"])));
  report.add(Figure::of("growth_burst" + suffix, "ratio", ratios(ns["burst_large"], ns["burst_small"])));
  report.add(Figure::of("one_10" + suffix, "ns", ns["one_small"]));
  Figure large_one = Figure::of("one_10000" + suffix, "ns", ns["one_large"]);
  const double peer = median(ns["peer"]);
  large_one.peer = PeerValue{"each rule in turn", peer, peer / large_one.value};
  report.add(std::move(large_one));
  report.add(Figure::of("burst_10" + suffix, "ns", ns["burst_small"]));
  report.add(Figure::of("burst_10000" + suffix, "ns", ns["burst_large"]));
  return {};
}

Status run_all(const Options& options) {
  Report report("classifier", ClockKind::kWall);
  report.set_parameter("small", "10 prefixes, 10 rules");
  report.set_parameter("large", "10000 prefixes, 1000 rules");
  report.set_parameter("syns", kSyns);
  report.set_parameter("rounds", options.rounds);
  report.set_parameter("seed", options.seed);
  const std::pair<const char*, Family> families[] = {
      {"", Family::kBoth}, {"_v4", Family::kIpv4}, {"_v6", Family::kIpv6}};
  for (const auto& [suffix, family] : families)
    if (auto done = run_family(report, options, suffix, family); !done) return done;
  return report.write(options.json);
}

Options parse(CLI::App& app, int argc, char** argv) {
  Options options;
  app.add_option("--json", options.json, "write the figures as JSON to FILE, or - for standard output");
  app.add_option("--rounds", options.rounds, "samples of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--seed", options.seed, "of the policies and the SYNs");
  app.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  CLI::App app("The policy classifier, with few and with many rules");
  try {
    const auto done = synfluid::bench::run_all(synfluid::bench::parse(app, argc, argv));
    if (done) return 0;
    std::cerr << "classifier: " << done.error().text() << '\n';
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::cerr << "classifier: " << error.what() << '\n';
    return 1;
  }
}
