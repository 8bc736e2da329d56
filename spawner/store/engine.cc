#include "spawner/store/engine.h"

#include <algorithm>
#include <array>
#include <random>

#include <spdlog/spdlog.h>

#include "spawner/store/engine_impl.h"

namespace synfluid::spawner::store {
namespace {

/// Requests kept for a connection whose transport went on all the same.
constexpr size_t kMaxKept = 16;

StateLog& no_log() {
  static StateLog log;
  return log;
}

}  // namespace

Engine::Impl::Impl(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains, StateLog& log)
    : config_(config), storage_(storage), outbox_(outbox), calls_(domains), state_log_(log) {
  make_standard_nodes();
}

void Engine::Impl::make_standard_nodes() {
  static constexpr std::array<Permission, 1> kControlOnly{Permission{kControlDomain, Access::kNone}};
  for (const std::string_view path : {std::string_view("/"), std::string_view("/tool"),
                                      std::string_view("/tool/xenstored"), kIntroduceEvent, kReleaseEvent}) {
    if (storage_.find(path)) continue;
    const Change change{.kind = ChangeKind::kCreate, .path = path, .value = {}, .permissions = kControlOnly};
    if (const Status made = storage_.apply({&change, 1}); !made)
      spdlog::error("store: {} cannot be made: {}", path, made.error().text());
  }
}

ConnectionId Engine::Impl::connect(Peer peer, bool is_ring) {
  if (free_connections_.empty()) {
    free_connections_.push_back(static_cast<uint32_t>(connections_.size()));
    connections_.emplace_back();
  }
  const ConnectionId id(free_connections_.back());
  free_connections_.pop_back();
  return place_connection(id, peer, is_ring).id;
}

Connection& Engine::Impl::place_connection(ConnectionId id, Peer peer, bool is_ring) {
  auto& place = connections_[id.value()];
  place = std::make_unique<Connection>();
  place->id = id;
  place->peer = peer;
  place->is_ring = is_ring;
  place->base = "/local/domain/" + std::to_string(peer.domid.value()) + "/";
  open_account(*place);
  return *place;
}

void Engine::Impl::open_account(Connection& connection) {
  if (connection.is_control()) return;
  connection.account = &accounts_[connection.peer.domid];
  ++connection.account->connections;
}

void Engine::Impl::close_account(Connection& connection) {
  if (connection.account == nullptr || --connection.account->connections > 0) return;
  accounts_.erase(connection.peer.domid);
}

void Engine::Impl::disconnect(ConnectionId id) {
  clear(at(id));
  close_account(at(id));
  connections_[id.value()].reset();
  free_connections_.push_back(id.value());
}

void Engine::Impl::clear(Connection& connection) {
  connection.kept.clear();
  connection.losses = 0;
  drop_watches(connection);
  drop_transactions(connection);
  took(connection, connection.messages, connection.message_bytes);
}

void Engine::Impl::drop_watches(Connection& connection) {
  while (connection.first_watch != kNoWatch) forget_watch(connection, connection.first_watch);
}

void Engine::Impl::drop_transactions(Connection& connection) {
  if (Account* account = connection.account; account != nullptr) {
    account->transactions -= static_cast<uint32_t>(connection.transactions.size());
    for (const auto& [id, transaction] : connection.transactions) account->bytes -= transaction.charged_bytes;
  }
  connection.transactions.clear();
  if (turns_.taken() && turns_.holder().connection == connection.id) turns_.end();
}

void Engine::Impl::handle(ConnectionId id, const Header& header, std::span<const char> payload) {
  ++counters.requests;
  turns_.count_request();
  Connection& from = at(id);
  if (!from.kept.empty() || must_wait(from, header, payload)) {
    keep(from, header, payload);
  } else {
    process(from, header, payload);
  }
  settle();
}

bool Engine::Impl::must_wait(const Connection& from, const Header& header, std::span<const char> payload) {
  if (!turns_.binds(from.id, from.peer.privilege) || header.transaction_id != 0) return false;
  const auto text = Fields(payload).next();
  const auto path = text ? path_of(from, *text, Paths::kSpecialToo) : std::nullopt;
  return path && disturbs_turn(*path, header.type);
}

void Engine::Impl::keep(Connection& from, const Header& header, std::span<const char> payload) {
  if (from.kept.size() == kMaxKept) {
    ++counters.errors;
    return send_fault(from, header, refuse(from, Fault::kEnomem, "sends on while its requests wait"));
  }
  if (from.kept.empty()) waiting_.push_back(from.id);
  ++counters.deferred;
  from.kept.push_back({header, std::string(payload.data(), payload.size())});
}

/// Once no turn is taken, those who waited go on, in the order in which they came; one of them may take the
/// next.
void Engine::Impl::settle() {
  if (running_kept_) return;
  running_kept_ = true;
  while (!turns_.taken() && !waiting_.empty()) {
    std::deque<ConnectionId> ready;
    ready.swap(waiting_);
    for (const ConnectionId id : ready) run_kept(id);
  }
  running_kept_ = false;
}

void Engine::Impl::run_kept(ConnectionId id) {
  for (;;) {
    if (connections_[id.value()] == nullptr || at(id).kept.empty()) return;
    Connection& from = at(id);
    if (must_wait(from, from.kept.front().header, from.kept.front().payload)) return waiting_.push_back(id);
    const KeptRequest request = std::move(from.kept.front());
    from.kept.erase(from.kept.begin());
    process(from, request.header, request.payload);
    if (from.kept.empty() && wants_input(id)) outbox_.resume(id);
  }
}

void Engine::Impl::tick() {
  turns_.count_tick();
  settle();
}

void Engine::Impl::process(Connection& from, const Header& header, std::span<const char> payload) {
  if (log_requests_)
    spdlog::info("store: domain {} connection {}: {} of {} bytes, transaction {}", from.peer.domid.value(),
                 from.id.value(), to_string(header.type), payload.size(), header.transaction_id);
  Request request{.from = from, .header = header, .payload = payload};
  const Fault fault = dispatch(request);
  if (fault == Fault::kNone) return;
  ++counters.errors;
  send_fault(from, header, fault);
}

void Engine::Impl::send_fault(Connection& to, const Header& about, Fault fault) {
  text_buffer_.assign(to_string(fault)).push_back('\0');
  send(to,
       {.type = MessageType::kError, .request_id = about.request_id, .transaction_id = about.transaction_id},
       text_buffer_);
}

Fault Engine::Impl::dispatch(Request& request) {
  struct Rule {
    Fault (Impl::*handler)(const Request&) = nullptr;
    bool control_only = false;
    bool ignores_transaction = false;
  };
  static constexpr std::array<Rule, kMessageTypes> kRules{{
      {&Impl::control, true},
      {&Impl::directory},
      {&Impl::read},
      {&Impl::get_perms},
      {&Impl::watch, false, true},
      {&Impl::unwatch, false, true},
      {&Impl::transaction_start},
      {&Impl::transaction_end},
      {&Impl::introduce, true},
      {&Impl::release, true},
      {&Impl::get_domain_path},
      {&Impl::write},
      {&Impl::mkdir},
      {&Impl::rm},
      {&Impl::set_perms},
      {},  // WATCH_EVENT and ERROR are not for clients to send
      {},
      {&Impl::is_domain_introduced, true},
      {&Impl::resume, true},
      {&Impl::set_target, true},
      {},  // RESTRICT is history
      {&Impl::reset_watches},
      {&Impl::directory_part},
  }};
  const auto type = static_cast<uint32_t>(request.header.type);
  if (type >= kRules.size() || kRules[type].handler == nullptr) return Fault::kEnosys;
  const Rule& rule = kRules[type];
  if (rule.control_only && !request.from.is_control())
    return refuse(request.from, Fault::kEacces, "asks for what only the control domain may");
  if (!rule.ignores_transaction) {
    const Fault fault = find_transaction(request.from, request.header, request.transaction);
    if (fault != Fault::kNone) return fault;
  }
  if (request.transaction == nullptr || request.header.type == MessageType::kTransactionEnd)
    return (this->*rule.handler)(request);
  if (const Fault full = check_transaction_room(request); full != Fault::kNone) return full;
  const Fault fault = (this->*rule.handler)(request);
  if (request.header.type != MessageType::kResetWatches)
    charge_transaction(request.from, *request.transaction);
  return fault;
}

void Engine::Impl::reply(const Request& request, std::string_view payload) {
  const Header header{.type = request.header.type,
                      .request_id = request.header.request_id,
                      .transaction_id = request.header.transaction_id};
  send(request.from, header, payload);
}

void Engine::Impl::send(Connection& to, Header header, std::string_view payload) {
  header.length = static_cast<uint32_t>(payload.size());
  if (to.account != nullptr) {
    ++to.messages;
    to.message_bytes += kHeaderBytes + payload.size();
    to.account->bytes += kHeaderBytes + payload.size();
  }
  outbox_.send(to.id, header, {payload.data(), payload.size()});
}

bool Engine::Impl::wants_input(ConnectionId id) const {
  const Connection& connection = at(id);
  if (!connection.kept.empty()) return false;
  return !exceeds(connection, Quota::kOutstanding, connection.messages + 1);
}

void Engine::Impl::delivered(ConnectionId id, uint32_t messages, uint64_t bytes) {
  const bool wanted = wants_input(id);
  took(at(id), messages, bytes);
  if (!wanted && wants_input(id)) outbox_.resume(id);
}

void Engine::Impl::took(Connection& connection, uint32_t messages, uint64_t bytes) {
  if (connection.account == nullptr) return;
  bytes = std::min(bytes, connection.message_bytes);
  connection.messages -= std::min(messages, connection.messages);
  connection.message_bytes -= bytes;
  connection.account->bytes -= bytes;
}

EngineState Engine::Impl::snapshot() const {
  EngineState state;
  for (const auto& connection : connections_) {
    if (connection == nullptr) continue;
    ConnectionState saved{.id = connection->id, .peer = connection->peer, .watches = {}};
    for (WatchId id = connection->first_watch; id != kNoWatch; id = watches_[id].next_of_connection)
      saved.watches.push_back(state_of(watches_[id]));
    std::ranges::reverse(saved.watches);
    state.connections.push_back(std::move(saved));
  }
  state.domains = domain_states();
  return state;
}

void Engine::Impl::restore(const EngineState& state) {
  uint32_t end = 0;
  for (const ConnectionState& saved : state.connections) end = std::max(end, saved.id.value() + 1);
  connections_.resize(end);
  // Not the numbers that the predecessor gave to transactions that are still thought to be open.
  const uint32_t first_transaction = std::random_device()() | 1;
  for (const ConnectionState& saved : state.connections) {
    Connection& connection = place_connection(saved.id, saved.peer, false);
    connection.restored = true;
    connection.next_transaction = first_transaction;
  }
  for (uint32_t id = end; id-- > 0;)
    if (connections_[id] == nullptr) free_connections_.push_back(id);
  for (const DomainState& domain : state.domains) {
    Connection& ring = at(domain.connection);
    ring.is_ring = true;
    domains_[domain.domid].state = domain;
  }
  for (auto& [domid, domain] : domains_) {
    if (!domain.state.target) continue;
    const auto aim = domains_.find(*domain.state.target);
    if (aim == domains_.end()) {
      domain.state.target.reset();
    } else {
      aim->second.targeted_by.push_back(domid);
    }
  }
  for (const ConnectionState& saved : state.connections)
    for (const WatchState& watch : saved.watches) restore_watch(at(saved.id), watch);
}

// --- the door

Engine::Engine(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains)
    : Engine(config, storage, outbox, domains, no_log()) {}
Engine::Engine(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains, StateLog& log)
    : impl_(std::make_unique<Impl>(config, storage, outbox, domains, log)) {}
Engine::~Engine() = default;

ConnectionId Engine::connect(Peer peer) {
  return impl_->connect(peer, false);
}
void Engine::disconnect(ConnectionId connection) {
  impl_->disconnect(connection);
  impl_->settle();
}
void Engine::reset(ConnectionId connection) {
  impl_->reset(connection);
  impl_->settle();
}
void Engine::handle(ConnectionId connection, const Header& header, std::span<const char> payload) {
  impl_->handle(connection, header, payload);
}
bool Engine::wants_input(ConnectionId connection) const {
  return impl_->wants_input(connection);
}
void Engine::delivered(ConnectionId connection, uint32_t messages, uint64_t bytes) {
  impl_->delivered(connection, messages, bytes);
}
void Engine::domain_died(DomId domid) {
  impl_->domain_died(domid);
  impl_->settle();
}
void Engine::domain_shut_down(DomId domid) {
  impl_->domain_shut_down(domid);
}
ConnectionId Engine::adopt_domain(DomId domid, EventPort port, Privilege privilege) {
  return impl_->adopt_domain(domid, port, privilege);
}
bool Engine::is_introduced(DomId domid) const {
  return impl_->is_introduced(domid);
}
std::vector<DomainState> Engine::domains() const {
  return impl_->domain_states();
}
bool Engine::wants_tick() const {
  return impl_->wants_tick();
}
void Engine::tick() {
  impl_->tick();
}
EngineState Engine::snapshot() const {
  return impl_->snapshot();
}
void Engine::restore(const EngineState& state) {
  impl_->restore(state);
}
const EngineCounters& Engine::counters() const {
  return impl_->counters;
}

}  // namespace synfluid::spawner::store
