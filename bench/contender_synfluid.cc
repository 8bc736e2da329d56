// Synfluid's own table, as the gateway uses it.
#include <algorithm>

#include "bench/contender.h"
#include "flowtable/flow_table.h"

namespace synfluid::bench {

namespace {

using flowtable::FlowIndex;
using flowtable::FlowState;
using flowtable::FlowTable;
using flowtable::kNoFlow;

/// Time in the churn: a burst takes as long as 32 packets at 3.3 Mpps.
constexpr int64_t kBurstNs = 9'600;
constexpr int64_t kTickNs = 96'000;
/// Of the flows in a burst that end, those that never say so: they are left to the timers.
constexpr size_t kSilentEnds = 8;

class Synfluid final : public Contender {
 public:
  explicit Synfluid(std::unique_ptr<FlowTable> table) : table_(std::move(table)) {}

  std::string_view name() const override { return "synfluid"; }
  /// The flows that fill the table have come one by one, and so they will go.
  bool insert(const FlowKey& key) override {
    now_ns_ += kBurstNs / static_cast<int64_t>(kBurst);
    return add(key);
  }

  size_t lookup(std::span<const FlowKey> keys) override {
    table_->lookup(keys, found_);
    return keys.size() -
           static_cast<size_t>(std::count(found_.begin(), found_.begin() + keys.size(), kNoFlow));
  }

  // Of those that end, some are erased by their key, the others by expire() a little later.
  size_t churn(std::span<const FlowKey> opened, std::span<const FlowKey> closed) override {
    now_ns_ += kBurstNs;
    size_t done = opened.size() - lookup(opened);
    table_->prefetch_insert(opened);
    for (const FlowKey& key : opened) done += add(key);
    done += lookup(closed);
    for (size_t i = kSilentEnds; i < closed.size(); ++i) {
      if (found_[i] == kNoFlow) continue;
      table_->erase(found_[i]);
      ++done;
    }
    std::array<FlowIndex, 2 * kBurst> idle;
    const size_t count = table_->expire(now_ns_, idle);
    for (size_t i = 0; i < count; ++i) table_->erase(idle[i]);
    return done + count;
  }

  size_t memory_bytes() const override { return table_->memory_bytes(); }

 private:
  bool add(const FlowKey& key) {
    return table_->insert(key, {.state = FlowState::kBypass}, now_ns_) != kNoFlow;
  }

  const std::unique_ptr<FlowTable> table_;
  std::array<FlowIndex, kBurst> found_{};
  int64_t now_ns_ = 0;
};

}  // namespace

Result<std::unique_ptr<Contender>> make_synfluid(const ContenderConfig& config) {
  const auto secret = flowtable::random_secret();
  if (!secret) return secret.error();
  flowtable::Config table_config{
      .capacity = config.capacity, .secret = *secret, .tick_ns = kTickNs, .pages = config.pages};
  // As long as it takes to replace all flows, and no longer than a wheel can be.
  const int64_t turnover_ns = static_cast<int64_t>(config.flows / kBurst) * kBurstNs + 2 * kTickNs;
  table_config.idle_ns.fill(std::min(turnover_ns, int64_t{flowtable::kMaxIdleTicks} * kTickNs));
  auto table = FlowTable::create(table_config, 0);
  if (!table) return table.error();
  return std::unique_ptr<Contender>(new Synfluid(std::move(*table)));
}

}  // namespace synfluid::bench
