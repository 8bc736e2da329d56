#include <array>
#include <charconv>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {

Fault Engine::Impl::control(const Request& request) {
  struct Command {
    std::string_view name;
    Fault (Impl::*handler)(const Request&, Fields);
  };
  static constexpr std::array<Command, 5> kCommands{{{"check", &Impl::control_check},
                                                     {"help", &Impl::control_help},
                                                     {"log", &Impl::control_log},
                                                     {"memreport", &Impl::control_memreport},
                                                     {"quota", &Impl::control_quota}}};
  Fields fields(request.payload);
  const auto name = fields.next();
  for (const Command& command : kCommands)
    if (name == command.name) return (this->*command.handler)(request, fields);
  return Fault::kEinval;
}

Fault Engine::Impl::control_help(const Request& request, Fields parameters) {
  if (!parameters.done()) return Fault::kEinval;
  static constexpr char kHelp[] =
      "check           \n"
      "help            \n"
      "log             [on|off]\n"
      "memreport       \n"
      "quota           [set <name> <val>|<domid>]\n";
  reply(request, std::string_view(kHelp, sizeof kHelp));
  return Fault::kNone;
}

Fault Engine::Impl::control_log(const Request& request, Fields parameters) {
  const auto setting = parameters.next();
  if (!setting) {
    text_buffer_ = fmt::format("Log switch settings:\nrequests: {}\n", log_requests_ ? "on" : "off");
    text_buffer_.push_back('\0');
    reply(request, text_buffer_);
    return Fault::kNone;
  }
  if (*setting != "on" && *setting != "off") return Fault::kEinval;
  log_requests_ = *setting == "on";
  acknowledge(request);
  return Fault::kNone;
}

Fault Engine::Impl::control_quota(const Request& request, Fields parameters) {
  const auto what = parameters.next();
  if (what == "set") return set_quota(request, parameters);
  text_buffer_.clear();
  if (what) {
    const auto domid = parse_domid(*what);
    if (!domid) return Fault::kEinval;
    append_usage(*domid);
  } else {
    append_quotas();
  }
  text_buffer_.push_back('\0');
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::set_quota(const Request& request, Fields parameters) {
  const auto name = parameters.next();
  const auto text = name ? parameters.next() : std::nullopt;
  const auto quota = text ? quota_named(*name) : std::nullopt;
  if (!quota) return Fault::kEinval;
  uint32_t value = 0;
  const char* end = text->data() + text->size();
  if (std::from_chars(text->data(), end, value).ptr != end || value == 0) return Fault::kEinval;
  config_.quotas.set(*quota, value);
  acknowledge(request);
  return Fault::kNone;
}

void Engine::Impl::append_quotas() {
  text_buffer_ = "Quota settings:\n";
  for (uint32_t i = 0; i < kQuotas; ++i) {
    const QuotaInfo& info = info_of(static_cast<Quota>(i));
    text_buffer_ += fmt::format("{:<17}: {:8} {}\n", info.name, config_.quotas[info.quota], info.meaning);
  }
}

void Engine::Impl::append_usage(DomId domid) {
  const Usage nodes = storage_.usage(domid);
  const auto found = accounts_.find(domid);
  const Account account = found == accounts_.end() ? Account() : found->second;
  text_buffer_ = fmt::format("Domain {}:\n", domid.value());
  const auto line = [&](Quota quota, uint64_t value) {
    text_buffer_ += fmt::format("{:<17}: {:8}\n", info_of(quota).name, value);
  };
  line(Quota::kNodes, nodes.nodes);
  line(Quota::kWatches, account.watches);
  line(Quota::kTransactions, account.transactions);
  line(Quota::kMemory, nodes.bytes + account.bytes);
}

Fault Engine::Impl::control_memreport(const Request& request, Fields parameters) {
  if (!parameters.done()) return Fault::kEinval;
  size_t transactions = 0;
  size_t connections = 0;
  for (const auto& connection : connections_) {
    if (connection == nullptr) continue;
    ++connections;
    transactions += connection->transactions.size();
  }
  text_buffer_ = fmt::format(
      "nodes: {}\nconnections: {}\nwatches: {}\ntransactions: {}\ndomains: {}\nrequests: {}\nerrors: {}\n"
      "events: {}\nevents dropped: {}\ncommits: {}\nconflicts: {}\ndeferred: {}\n",
      storage_.size(), connections, watches_.size(), transactions, domains_.size(), counters.requests,
      counters.errors, counters.events, counters.events_dropped, counters.commits, counters.conflicts,
      counters.deferred);
  text_buffer_.push_back('\0');
  reply(request, text_buffer_);
  return Fault::kNone;
}

Fault Engine::Impl::control_check(const Request& request, Fields parameters) {
  if (!parameters.done()) return Fault::kEinval;
  if (const auto damage = find_damage()) {
    spdlog::error("store: {}", *damage);
    return Fault::kEio;
  }
  acknowledge(request);
  return Fault::kNone;
}

/// A node without a parent, or a parent that does not count its children right.
std::optional<std::string> Engine::Impl::find_damage() const {
  std::optional<std::string> damage;
  std::unordered_map<std::string, uint32_t> children;
  storage_.for_each([&](std::string_view path, const NodeView&) {
    if (path == "/" || path[0] == '@') return;
    ++children[std::string(parent_of(path))];
    if (!storage_.find(parent_of(path))) damage = fmt::format("{} has no parent", path);
  });
  storage_.for_each([&](std::string_view path, const NodeView& node) {
    const auto counted = children.find(std::string(path));
    if (node.children != (counted == children.end() ? 0 : counted->second))
      damage = fmt::format("{} does not know its children", path);
  });
  return damage;
}

}  // namespace synfluid::spawner::store
