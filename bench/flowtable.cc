// How fast is a look-up in the flow table, and a flow's coming and going, beside rte_hash,
// absl::flat_hash_map and std::unordered_map?
//
// Fair to all: the same keys in random order, already in the cache as from packet headers (they are made
// outside the clock, 512 at a time), looked up 64 in a call, the most that rte_hash takes and what the
// gateway takes from a port; every table at 80% load, on pages of the same size, once huge and once normal.
// The tables take turns, many short rounds each; a ratio is the median of the ratios of single rounds.
#include <algorithm>
#include <iostream>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <time.h>

#include "base/clock.h"
#include "bench/contender.h"
#include "bench/report.h"
#include "flowtable/flow_table.h"

namespace synfluid::bench {
namespace {

using flowtable::PageSize;

enum class Family { kV4, kV6, kMixed };

struct Options {
  std::string json;
  std::vector<std::string> sizes{"1m", "10m"};
  std::string pages = "both";
  Family family = Family::kMixed;
  size_t burst = kMostLookups;
  int rounds = 15;
  uint64_t seed = 1;
};

/// Powers of two, so that rte_hash and absl are at 80% too.
const std::map<std::string, uint32_t> kCapacities{{"1m", 1u << 20}, {"10m", 1u << 24}};
constexpr double kLoad = 0.8;

constexpr size_t kChunk = 512;
constexpr size_t kLookupsPerRound = size_t{1} << 20;
constexpr size_t kChurnPerRound = size_t{1} << 17;
/// Flows from here on are never in a table.
constexpr uint64_t kAbsent = uint64_t{1} << 40;

/// A bijection of 64 bits (an xor-shift-multiply generator's output step): flow numbers become scattered
/// keys.
uint64_t scatter(uint64_t x) {
  x = (x ^ x >> 31) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 29) * 0xd1342543de82ef95;
  return x ^ x >> 32;
}

FlowKey key_of(uint64_t number, Family family) {
  const uint64_t bits = scatter(number);
  const auto byte = [bits](int i) { return static_cast<uint8_t>(bits >> (8 * i)); };
  const uint16_t port = static_cast<uint16_t>(bits >> 48);
  if (family == Family::kV4 || (family == Family::kMixed && (number & 1) == 0)) {
    const std::array<uint8_t, 4> client{10, byte(0), byte(1), byte(2)};
    const std::array<uint8_t, 4> server{203, byte(3), byte(4), byte(5)};
    return make_flow_key({Address::from_v4(client), port}, {Address::from_v4(server), 443}, {}).key;
  }
  const std::array<uint8_t, 16> client{0x20, 1, 0xd, 0xb8, 0, byte(0), byte(1), byte(2),
                                       0,    0, 0,   0,    0, 0,       0,       1};
  const std::array<uint8_t, 16> server{0x20, 1, 0xd, 0xb8, 1, 0,       0,       0,
                                       0,    0, 0,   0,    0, byte(3), byte(4), byte(5)};
  return make_flow_key({Address::from_v6(client), port}, {Address::from_v6(server), 443}, {}).key;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Makes a figure's worth of numbers in the same way for each contender.
class Harness {
 public:
  Harness(const Options& options, size_t flows)
      : family_(options.family),
        lookups_per_call_(options.burst),
        flows_(flows),
        life_(flows / kFlowsPerLife),
        random_(options.seed) {}

  /// With the flows from number 0 on.
  void fill(Contender& table) {
    for (uint64_t i = 0; i < flows_; i += kBurst) {
      const size_t count = std::min<size_t>(kBurst, flows_ - i);
      for (size_t k = 0; k < count; ++k) keys_[k] = key_of(i + k, family_);
      if (table.add(std::span(keys_).first(count)) != count)
        throw std::runtime_error(fmt::format("{} is full", table.name()));
    }
  }

  /// As if the churn had gone on for long: with what is left of the bursts before first_burst().
  void fill_for_churn(Contender& table) {
    for (uint64_t burst = 0; burst < first_burst(); ++burst) {
      const size_t count = burst + life_ < first_burst() ? kSilent : kBurst;
      for (size_t k = 0; k < count; ++k) keys_[k] = key_of(burst * kBurst + kBurst - 1 - k, family_);
      if (table.add(std::span(keys_).first(count)) != count)
        throw std::runtime_error(fmt::format("{} is full", table.name()));
    }
  }
  uint64_t first_burst() const { return kIdleLives * life_; }

  /// Millions of look-ups a second, of random ones of `count` flows from number `first` on: all are there, or
  /// none.
  double lookups(Contender& table, uint64_t first, size_t count) {
    size_t found = 0;
    const double speed = chunks(
        kLookupsPerRound, lookups_per_call_,
        [&](size_t) {
          for (FlowKey& key : keys_) key = key_of(first + next_random() % count, family_);
        },
        [&](size_t at) { found += table.lookup(std::span(keys_).subspan(at, lookups_per_call_)); });
    if (found != (first >= kAbsent ? 0 : kLookupsPerRound))
      throw std::runtime_error(fmt::format("{} found {} of {} flows", table.name(), found, kLookupsPerRound));
    return speed;
  }

  /// Millions of flows a second that come while as many go, from burst `burst` on.
  double churn(Contender& table, uint64_t burst) {
    size_t done_right = 0;
    const double speed = chunks(
        kChurnPerRound, kBurst,
        [&](size_t done) {
          for (size_t i = 0; i < kChunk; ++i) {
            const bool silent = i % kBurst == kBurst - 1;
            const uint64_t number = burst * kBurst + done + i;
            keys_[i] = key_of(number, family_);
            closed_[i] = key_of(number - (silent ? kIdleLives : 1) * life_ * kBurst, family_);
          }
        },
        [&](size_t at) {
          done_right +=
              table.churn(std::span(keys_).subspan(at, kBurst), std::span(closed_).subspan(at, kBurst));
        });
    // A few flows may wait for their tick.
    if (static_cast<double>(done_right) < 3.99 * kChurnPerRound)
      throw std::runtime_error(
          fmt::format("{} lost flows: {} steps of {}", table.name(), done_right, 4 * kChurnPerRound));
    return speed;
  }
  /// Bursts from the opening of a flow to its end.
  uint64_t life() const { return life_; }

 private:
  /// Millions of keys a second, by the median over chunks: one during which the core was taken away does not
  /// count. `make_keys` is outside the clock, `one_burst` inside.
  template <class MakeKeys, class OneBurst>
  double chunks(size_t keys, size_t burst, MakeKeys&& make_keys, OneBurst&& one_burst) {
    std::vector<double> seconds;
    for (size_t done = 0; done < keys; done += kChunk) {
      make_keys(done);
      const auto start = std::chrono::steady_clock::now();
      for (size_t at = 0; at < kChunk; at += burst) one_burst(at);
      seconds.push_back(seconds_since(start));
    }
    return kChunk / median(std::move(seconds)) / 1e6;
  }

  uint64_t next_random() {
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    return random_ ^= random_ << 17;
  }

  const Family family_;
  const size_t lookups_per_call_;
  const size_t flows_;
  const uint64_t life_;
  uint64_t random_;
  std::array<FlowKey, kChunk> keys_;
  std::array<FlowKey, kChunk> closed_;
};

using Samples = std::map<std::string, std::vector<double>, std::less<>>;
using Contenders = std::vector<std::unique_ptr<Contender>>;

/// One sample of each contender per round; who is first changes from round to round.
template <class Measure>
Samples interleave(const Contenders& contenders, int rounds, Measure&& measure) {
  Samples samples;
  for (int round = 0; round < rounds; ++round) {
    for (size_t turn = 0; turn < contenders.size(); ++turn) {
      Contender& table = *contenders[(turn + static_cast<size_t>(round)) % contenders.size()];
      samples[std::string(table.name())].push_back(measure(table, round));
    }
  }
  return samples;
}

void add_figures(Report& report, const std::string& figure, const std::string& suffix,
                 const Samples& samples) {
  const std::vector<double>& ours = samples.at("synfluid");
  report.add(Figure::of(figure + suffix, "M/s", ours));
  for (const auto& [peer, theirs] : samples) {
    if (peer == "synfluid") continue;
    std::vector<double> ratios;
    for (size_t i = 0; i < ours.size(); ++i) ratios.push_back(ours[i] / theirs[i]);
    Figure ratio = Figure::of(figure + "_over_" + peer + suffix, "x", ratios);
    ratio.peer = {.name = peer, .value = median(theirs), .ratio = ratio.value};
    report.add(std::move(ratio));
  }
}

Result<Contenders> make_contenders(const ContenderConfig& config) {
  Contenders contenders;
  for (auto* make : {make_synfluid, make_rte_hash, make_absl, make_absl_prefetch, make_unordered_map}) {
    auto one = make(config);
    if (!one) return one.error();
    contenders.push_back(std::move(*one));
  }
  return contenders;
}

struct Setting {
  std::string size;
  uint32_t capacity;
  PageSize pages;

  size_t flows() const { return static_cast<size_t>(kLoad * capacity); }
  std::string suffix() const { return pages == PageSize::kHuge ? "" : "_4k"; }
};

Status run_lookups(Report& report, const Options& options, const Setting& setting) {
  const size_t flows = setting.flows();
  auto contenders = make_contenders({.capacity = setting.capacity, .flows = flows, .pages = setting.pages});
  if (!contenders) return contenders.error();
  Harness harness(options, flows);
  for (const auto& table : *contenders) harness.fill(*table);
  const auto measure = [&](const std::string& figure, uint64_t first) {
    add_figures(report, figure + setting.size, setting.suffix(),
                interleave(*contenders, options.rounds,
                           [&](Contender& table, int) { return harness.lookups(table, first, flows); }));
  };
  measure("hit_", 0);
  measure("miss_", kAbsent);
  return {};
}

/// Flows come and go; then, on the same tables, look-ups of flows that have come meanwhile.
Status run_churn(Report& report, const Options& options, const Setting& setting) {
  auto contenders = make_contenders(
      {.capacity = setting.capacity, .flows = setting.flows(), .pages = setting.pages, .use = Use::kChurn});
  if (!contenders) return contenders.error();
  Harness harness(options, setting.flows());
  for (const auto& table : *contenders) harness.fill_for_churn(*table);
  constexpr uint64_t kBursts = kChurnPerRound / kBurst;
  add_figures(report, "churn", setting.suffix(),
              interleave(*contenders, options.rounds, [&](Contender& table, int round) {
                return harness.churn(table, harness.first_burst() + static_cast<uint64_t>(round) * kBursts);
              }));
  const uint64_t end = harness.first_burst() + static_cast<uint64_t>(options.rounds) * kBursts;
  add_figures(report, "hit_" + setting.size + "_aged", setting.suffix(),
              interleave(*contenders, options.rounds, [&](Contender& table, int) {
                return harness.lookups(table, (end - harness.life()) * kBurst, harness.life() * kBurst);
              }));
  return {};
}

/// Fills one table until it refuses a flow: what a flow takes, what fits, and how many had to leave home.
Status run_filling(Report& report) {
  constexpr double kFull = 0.9;
  flowtable::Config config{
      .capacity = 1u << 20, .secret = {}, .tick_ns = kNsPerMs, .pages = PageSize::kNormal};
  config.idle_ns.fill(flowtable::kMaxIdleTicks * kNsPerMs);
  auto made = flowtable::FlowTable::create(config, 0);
  if (!made) return made.error();
  flowtable::FlowTable& table = **made;
  const double slots = table.capacity();
  uint64_t number = 0;
  const auto fill_to = [&](double load) {
    while (static_cast<double>(table.size()) < load * slots)
      if (table.insert(key_of(number++, Family::kV6), {}, 0) == flowtable::kNoFlow) return;
  };
  const auto displaced = [&] {
    const auto stats = table.stats();
    return 100.0 * static_cast<double>(stats.displaced) / static_cast<double>(stats.inserted);
  };
  fill_to(kLoad);
  report.add({.name = "displaced_at_80", .value = displaced(), .unit = "%"});
  fill_to(kFull);
  report.add({.name = "displaced_at_90", .value = displaced(), .unit = "%"});
  const double bytes = static_cast<double>(table.memory_bytes()) / static_cast<double>(table.size());
  report.add({.name = "bytes_per_flow", .value = bytes, .unit = "bytes"});
  fill_to(1);
  report.add({.name = "load_at_first_refusal",
              .value = 100.0 * static_cast<double>(table.size()) / slots,
              .unit = "%"});
  return {};
}

Status run_all(const Options& options) {
  Report report("flowtable", ClockKind::kWall);
  report.set_parameter("load", kLoad);
  report.set_parameter("burst", options.burst);
  report.set_parameter("churn_burst", kBurst);
  report.set_parameter("rounds", options.rounds);
  report.set_parameter("churn_silent_share", static_cast<double>(kSilent) / kBurst);
  report.set_parameter("churn_idle_lives", kIdleLives);
  report.set_parameter("sample", "median of chunks of 512 keys");
  report.set_parameter("seed", options.seed);
  report.set_parameter("family", options.family == Family::kV4   ? "ipv4"
                                 : options.family == Family::kV6 ? "ipv6"
                                                                 : "half ipv4, half ipv6");
  for (const std::string& name : options.sizes) {
    for (const PageSize pages : {PageSize::kHuge, PageSize::kNormal}) {
      if (options.pages == (pages == PageSize::kHuge ? "normal" : "huge")) continue;
      const Setting setting{name, kCapacities.at(name), pages};
      report.set_parameter("flows_" + name, setting.flows());
      if (Status done = run_lookups(report, options, setting); !done) return done;
      if (name != "1m") continue;
      if (Status done = run_churn(report, options, setting); !done) return done;
    }
  }
  if (Status done = run_filling(report); !done) return done;
  return report.write(options.json);
}

Options parse(CLI::App& app, int argc, char** argv) {
  Options options;
  app.add_option("--json", options.json, "write the figures as JSON to FILE, or - for standard output");
  app.add_option("--sizes", options.sizes, "1m (2^20 slots, with churn), 10m (2^24 slots)")
      ->delimiter(',')
      ->check(CLI::IsMember({"1m", "10m"}));
  app.add_option("--pages", options.pages, "huge, normal or both")
      ->check(CLI::IsMember({"huge", "normal", "both"}));
  app.add_option("--family", options.family, "ipv4, ipv6 or mixed")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Family>{
          {"ipv4", Family::kV4}, {"ipv6", Family::kV6}, {"mixed", Family::kMixed}}));
  app.add_option("--burst", options.burst, "look-ups in a call")->check(CLI::IsMember({1, 8, 16, 32, 64}));
  app.add_option("--rounds", options.rounds, "samples of each figure")->check(CLI::Range(1, 1000));
  app.add_option("--seed", options.seed, "of the order of look-ups, not 0")->check(CLI::PositiveNumber);
  app.parse(argc, argv);
  return options;
}

}  // namespace
}  // namespace synfluid::bench

int main(int argc, char** argv) {
  CLI::App app("The flow table beside rte_hash, absl::flat_hash_map and std::unordered_map");
  try {
    const auto options = synfluid::bench::parse(app, argc, argv);
    const auto done = synfluid::bench::run_all(options);
    if (done) return 0;
    std::cerr << "flowtable: " << done.error().text() << '\n';
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const std::exception& error) {
    std::cerr << "flowtable: " << error.what() << '\n';
    return 1;
  }
}
