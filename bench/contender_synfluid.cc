// Synfluid's own table, used in bursts.
#include <algorithm>

#include "bench/contender.h"
#include "flowtable/flow_table.h"

namespace synfluid::bench {

namespace {

using flowtable::FlowIndex;
using flowtable::FlowState;
using flowtable::FlowTable;
using flowtable::kNoFlow;

/// Time in the churn: a burst takes as long as 32 packets at 3.2 Mpps, a tick as long as ten bursts.
constexpr int64_t kBurstNs = 10'000;
constexpr int64_t kTickNs = 10 * kBurstNs;

class Synfluid final : public Contender {
 public:
  explicit Synfluid(std::unique_ptr<FlowTable> table) : table_(std::move(table)) {}

  std::string_view name() const override { return "synfluid"; }
  size_t add(std::span<const FlowKey> keys) override {
    now_ns_ += kBurstNs;
    return insert(keys);
  }

  size_t lookup(std::span<const FlowKey> keys) override { return table_->lookup(keys, found_); }

  size_t churn(std::span<const FlowKey> opened, std::span<const FlowKey> closed) override {
    now_ns_ += kBurstNs;
    size_t done = opened.size() - lookup(opened);
    done += insert(opened) + lookup(closed);
    const auto ended = std::span(found_).first(closed.size() - kSilent);
    const auto none = std::ranges::remove(ended, kNoFlow);
    table_->erase(ended.first(ended.size() - none.size()));
    return done + ended.size() - none.size() + erase_idle();
  }

  size_t memory_bytes() const override { return table_->memory_bytes(); }

 private:
  size_t insert(std::span<const FlowKey> keys) {
    std::array<FlowIndex, kBurst> added;
    return table_->insert(keys, {.state = FlowState::kBypass}, now_ns_, added);
  }

  size_t erase_idle() {
    std::array<FlowIndex, kBurst> idle;
    const size_t count = table_->expire(now_ns_, idle);
    for (size_t i = 0; i < count; ++i) table_->erase(idle[i]);
    return count;
  }

  const std::unique_ptr<FlowTable> table_;
  std::array<FlowIndex, kMostLookups> found_{};
  int64_t now_ns_ = 0;
};

}  // namespace

Result<std::unique_ptr<Contender>> make_synfluid(const ContenderConfig& config) {
  const auto secret = flowtable::random_secret();
  if (!secret) return secret.error();
  flowtable::Config table_config{
      .capacity = config.capacity, .secret = *secret, .tick_ns = kTickNs, .pages = config.pages};
  // A tick more than an idle flow has, so that it is still there when its last packet would come.
  const int64_t lives_ns =
      static_cast<int64_t>(config.flows / kFlowsPerLife * kIdleLives) * kBurstNs + kTickNs;
  table_config.idle_ns.fill(std::min(lives_ns, int64_t{flowtable::kMaxIdleTicks} * kTickNs));
  auto table = FlowTable::create(table_config, 0);
  if (!table) return table.error();
  return std::unique_ptr<Contender>(new Synfluid(std::move(*table)));
}

}  // namespace synfluid::bench
