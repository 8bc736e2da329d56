// What the flow table's tests share: keys by number, a config, a table.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "flowtable/flow_table.h"
#include "flowtable/search.h"

namespace synfluid::flowtable::testing {

inline constexpr int64_t kTickNs = 10'000'000;
inline constexpr Secret kSecret{0x0123456789abcdef, 0xfedcba9876543210};

/// A different flow for each number; every third one is IPv6.
inline FlowKey key_of(uint64_t number) {
  const auto byte = [number](int i) { return static_cast<uint8_t>(number >> (8 * i)); };
  const std::array<uint8_t, 4> client4{10, byte(2), byte(1), byte(0)};
  const std::array<uint8_t, 4> server4{203, 0, 113, byte(3)};
  const std::array<uint8_t, 16> client6{0x20, 1, 0xd, 0xb8, 0,       0,       0,       1,
                                        0,    0, 0,   0,    byte(3), byte(2), byte(1), byte(0)};
  const std::array<uint8_t, 16> server6{0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 80};
  const bool v6 = number % 3 == 0;
  const Endpoint client{v6 ? Address::from_v6(client6) : Address::from_v4(client4),
                        static_cast<uint16_t>(1024 + number % 60000)};
  const Endpoint server{v6 ? Address::from_v6(server6) : Address::from_v4(server4), 80};
  return make_flow_key(client, server, {}).key;
}

/// Idle times in ticks: pending 5, active 100, bypass 50, refused 3, closing 2, handoff 1000.
inline Config config_of(uint32_t capacity) {
  return {.capacity = capacity,
          .secret = kSecret,
          .idle_ns = {5 * kTickNs, 100 * kTickNs, 50 * kTickNs, 3 * kTickNs, 2 * kTickNs, 1000 * kTickNs},
          .tick_ns = kTickNs,
          .pages = PageSize::kNormal};
}

inline std::unique_ptr<FlowTable> make_table(const Config& config, int64_t now_ns = 0) {
  auto table = FlowTable::create(config, now_ns);
  if (!table) {
    ADD_FAILURE() << table.error().text();
    return nullptr;
  }
  return std::move(*table);
}

inline std::unique_ptr<FlowTable> make_table(uint32_t capacity) {
  return make_table(config_of(capacity));
}

/// A careless look-up in all its steps.
inline Narrowed look_up_carelessly(FlowTable& table, Search& search, const FlowKey& key) {
  search.at = table.seek_carelessly(KeyWords::of(key));
  Narrowed narrowed = table.narrow(std::span(&search, 1), 1);
  table.settle(std::span(&search, 1), narrowed, 1);
  return narrowed;
}

/// How much of their tags twins have in common.
enum class Alike { kTags, kShortTags };

/// key_of(0) and others that share its home, and its tag or only the lower half of it.
inline std::vector<FlowKey> twins(const FlowTable& table, size_t count, Alike alike) {
  const Probe first = table.seek(KeyWords::of(key_of(0)));
  std::vector<FlowKey> keys{key_of(0)};
  for (uint64_t number = 1; keys.size() < count; ++number) {
    const Probe at = table.seek(KeyWords::of(key_of(number)));
    if (at.home != first.home || at.short_tag() != first.short_tag()) continue;
    if ((at.tag() == first.tag()) == (alike == Alike::kTags)) keys.push_back(key_of(number));
  }
  return keys;
}

/// From the environment's SYNFLUID_TEST_SEED, else by chance; printed, so that a failure can be repeated.
inline uint64_t test_seed() {
  const char* wanted = std::getenv("SYNFLUID_TEST_SEED");
  const uint64_t seed = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : std::random_device{}();
  std::cout << "seed " << seed << " (SYNFLUID_TEST_SEED repeats it)\n";
  return seed;
}

}  // namespace synfluid::flowtable::testing
