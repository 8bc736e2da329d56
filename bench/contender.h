// The tables that bench/flowtable compares, behind one face.
//
// Every contender takes the same keys in the same bursts, and lies on memory of the same pages. One call per
// burst is virtual, so the harness costs each of them the same few cycles per burst.
//
// Threads: one. Ownership: a contender owns its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "flowtable/pages.h"

namespace synfluid::bench {

/// Flows that come and go together.
inline constexpr size_t kBurst = 32;
/// Look-ups in a call, at most: rte_hash takes no more.
inline constexpr size_t kMostLookups = 64;

class Contender {
 public:
  virtual ~Contender() = default;
  virtual std::string_view name() const = 0;
  /// Adds a burst of flows, none of which is there; how many could be added.
  virtual size_t add(std::span<const FlowKey> keys) = 0;
  /// A burst of at most kMostLookups keys; how many are there.
  virtual size_t lookup(std::span<const FlowKey> keys) = 0;
  /// What a burst of packets does that open and close flows: looks all of `opened` up (none is there) and
  /// adds them, looks all of `closed` up (all are there) and erases them. The last of `closed` is the one
  /// whose end no packet tells: a table with timers leaves it to them. Returns how many steps went as
  /// expected.
  virtual size_t churn(std::span<const FlowKey> opened, std::span<const FlowKey> closed) = 0;
  /// Bytes taken for the table, where the contender can tell.
  virtual size_t memory_bytes() const = 0;
};

/// What the memory has to be enough for: some tables grow when flows come and go.
enum class Use { kLookup, kChurn };

/// Life and death in the churn, counted in bursts: of the 32 flows that a burst opens, 31 are closed after a
/// life, and the silent one is idle, and goes, after kIdleLives lives.
inline constexpr size_t kSilent = 1;
inline constexpr size_t kIdleLives = 4;
/// Flows there are at a time, for a life of one burst.
inline constexpr size_t kFlowsPerLife = (kBurst - kSilent) + kSilent * kIdleLives;

struct ContenderConfig {
  uint32_t capacity = 0;  ///< slots, a power of two
  size_t flows = 0;       ///< that will be held at a time
  flowtable::PageSize pages = flowtable::PageSize::kNormal;
  Use use = Use::kLookup;
};

Result<std::unique_ptr<Contender>> make_synfluid(const ContenderConfig& config);
Result<std::unique_ptr<Contender>> make_rte_hash(const ContenderConfig& config);
Result<std::unique_ptr<Contender>> make_absl(const ContenderConfig& config);
/// absl again, with its prefetch() called for the whole burst first.
Result<std::unique_ptr<Contender>> make_absl_prefetch(const ContenderConfig& config);
Result<std::unique_ptr<Contender>> make_unordered_map(const ContenderConfig& config);

}  // namespace synfluid::bench
