#include "policies/fields.h"
#include "policies/sections.h"

namespace synfluid::policies {

namespace {

constexpr std::string_view kLimitsKeys[] = {"max_vms",      "spawn_rate", "per_subscriber",
                                            "held_packets", "hold_time",  "on_table_full"};
constexpr std::string_view kPerSubscriberKeys[] = {"spawn_rate", "max_vms", "ipv6_prefix"};
constexpr Word<OnTableFull> kOnTableFull[] = {{"bypass", OnTableFull::kBypass}, {"drop", OnTableFull::kDrop}};

/// As many VMs as there are domain ids.
constexpr uint64_t kMostVms = 32'752;
/// Each is an mbuf that nobody else can use.
constexpr uint64_t kMostHeldPackets = 256;

auto count_in(Bounds bounds) {
  return [bounds](std::string_view text) { return parse_count(text, bounds); };
}

Limits::PerSubscriber read_per_subscriber(const YamlNode& node, Report& report) {
  const MapReader map(node, "map of limits per subscriber", kPerSubscriberKeys, report);
  Limits::PerSubscriber limits;
  limits.spawn_rate = read_value(map.find("spawn_rate"), "rate", report, parse_rate);
  if (const auto most = read_value(map.find("max_vms"), "number", report, count_in({1, kMostVms})))
    limits.max_vms = static_cast<uint32_t>(*most);
  assign(limits.ipv6_prefix, read_value(map.find("ipv6_prefix"), "number", report, count_in({16, 128})));
  return limits;
}

}  // namespace

Limits read_limits(const YamlNode& node, Report& report) {
  const MapReader map(node, "map of limits", kLimitsKeys, report);
  Limits limits;
  assign(limits.max_vms, read_value(map.find("max_vms"), "number", report, count_in({1, kMostVms})));
  limits.spawn_rate = read_value(map.find("spawn_rate"), "rate", report, parse_rate);
  if (const YamlNode* per = map.find("per_subscriber"))
    limits.per_subscriber = read_per_subscriber(*per, report);
  assign(limits.held_packets,
         read_value(map.find("held_packets"), "number", report, count_in({1, kMostHeldPackets})));
  assign(limits.hold_time_ns, read_value(map.find("hold_time"), "duration", report, parse_duration));
  assign(limits.on_table_full,
         read_word<OnTableFull>(map.find("on_table_full"), "action", report, kOnTableFull));
  return limits;
}

}  // namespace synfluid::policies
