#include "spawner/store/persistence.h"

#include <algorithm>
#include <cstring>

#include <spdlog/spdlog.h>

namespace synfluid::spawner::store {

namespace {

constexpr uint32_t kNoDepth = ~0u;
constexpr uint32_t kNoTarget = ~0u;

struct DomainRecord {
  uint64_t gfn;
  uint32_t port;
  uint32_t target;
  uint8_t shut_down;
};

struct WatchHead {
  uint32_t depth;
  uint32_t path_bytes;
};

template <class Record>
std::string bytes_of(const Record& record) {
  return {reinterpret_cast<const char*>(&record), sizeof record};
}

/// Takes a record from the front of `bytes`.
template <class Record>
std::optional<Record> take(std::string_view& bytes) {
  if (bytes.size() < sizeof(Record)) return std::nullopt;
  Record record;
  std::memcpy(&record, bytes.data(), sizeof record);
  bytes.remove_prefix(sizeof record);
  return record;
}

/// In a key, so that a domain's records lie together.
std::string domain_key(DomId domid) {
  const uint16_t value = domid.value();
  return {static_cast<char>(value >> 8), static_cast<char>(value & 0xff)};
}

DomId domain_of(std::string_view key) {
  return DomId(static_cast<uint16_t>(static_cast<uint8_t>(key[0]) << 8 | static_cast<uint8_t>(key[1])));
}

std::string watch_key(DomId domid, uint32_t number) {
  return domain_key(domid).append(bytes_of(number));
}

std::string watch_identity(DomId domid, const WatchState& watch) {
  std::string identity = domain_key(domid);
  return identity.append(watch.path).append(1, '\0').append(watch.token);
}

std::string encoded(const WatchState& watch) {
  const WatchHead head{watch.depth.value_or(kNoDepth), static_cast<uint32_t>(watch.path.size())};
  return bytes_of(head).append(watch.path).append(watch.token);
}

std::optional<WatchState> decoded_watch(std::string_view bytes) {
  const auto head = take<WatchHead>(bytes);
  if (!head || bytes.size() < head->path_bytes) return std::nullopt;
  WatchState watch{.path = std::string(bytes.substr(0, head->path_bytes)),
                   .token = std::string(bytes.substr(head->path_bytes)),
                   .depth = {}};
  if (head->depth != kNoDepth) watch.depth = head->depth;
  return watch;
}

std::string encoded(const DomainState& domain) {
  DomainRecord record{};
  record.gfn = domain.gfn;
  record.port = domain.port.value();
  record.target = domain.target ? domain.target->value() : kNoTarget;
  record.shut_down = domain.shut_down;
  return bytes_of(record);
}

std::optional<DomainState> decoded_domain(DomId domid, std::string_view bytes) {
  const auto record = take<DomainRecord>(bytes);
  if (!record || !bytes.empty()) return std::nullopt;
  DomainState domain{.domid = domid,
                     .gfn = record->gfn,
                     .port = EventPort(record->port),
                     .connection = {},
                     .target = {},
                     .shut_down = record->shut_down != 0};
  if (record->target != kNoTarget) domain.target = DomId(static_cast<uint16_t>(record->target));
  return domain;
}

struct RemnantHead {
  uint32_t taken_index;
  uint32_t put_index;
  uint32_t put;
  uint32_t request_bytes;
};

std::string encoded(const RingRemnant& remnant) {
  const RemnantHead head{remnant.taken_index, remnant.put_index, remnant.put,
                         static_cast<uint32_t>(remnant.request.size())};
  return bytes_of(head).append(remnant.request).append(remnant.message);
}

std::optional<RingRemnant> decoded_remnant(std::string_view bytes) {
  const auto head = take<RemnantHead>(bytes);
  if (!head || bytes.size() < head->request_bytes) return std::nullopt;
  return RingRemnant{.taken_index = head->taken_index,
                     .request = std::string(bytes.substr(0, head->request_bytes)),
                     .put_index = head->put_index,
                     .message = std::string(bytes.substr(head->request_bytes)),
                     .put = head->put};
}

}  // namespace

Result<EngineState> LmdbStateLog::load() {
  auto transaction = file_.begin();
  if (!transaction) return transaction.error();
  EngineState state;
  Status read = transaction->for_each(LmdbTable::kDomains, [&](std::string_view key, std::string_view value) {
    auto domain = key.size() == 2 ? decoded_domain(domain_of(key), value) : std::nullopt;
    if (!domain) return;
    domain->connection = ConnectionId(static_cast<uint32_t>(state.connections.size()));
    const bool own = domain->domid == DomId(0);
    state.connections.push_back({.id = domain->connection,
                                 .peer = {domain->domid, own ? Privilege::kControl : Privilege::kGuest},
                                 .watches = {}});
    remember(*domain);
    state.domains.push_back(*domain);
  });
  if (!read) return read.error();
  read = transaction->for_each(LmdbTable::kWatches, [&](std::string_view key, std::string_view value) {
    auto watch = key.size() == 2 + sizeof(uint32_t) ? decoded_watch(value) : std::nullopt;
    if (!watch) return;
    const DomId domid = domain_of(key);
    const auto connection = connections_.find(domid);
    if (connection == connections_.end()) return;
    uint32_t number = 0;
    std::memcpy(&number, key.data() + 2, sizeof number);
    next_watch_ = std::max(next_watch_, number + 1);
    watches_[watch_identity(domid, *watch)] = number;
    state.connections[connection->second.value()].watches.push_back(std::move(*watch));
  });
  if (!read) return read.error();
  return state;
}

Status LmdbStateLog::save(const EngineState& state) {
  auto transaction = file_.begin();
  if (!transaction) return transaction.error();
  for (const DomainState& domain : state.domains)
    if (Status put = put_domain(*transaction, domain); !put) return put;
  for (const ConnectionState& connection : state.connections) {
    const auto domain = domains_.find(connection.id);
    if (domain == domains_.end()) continue;
    for (const WatchState& watch : connection.watches)
      if (Status put = put_watch(*transaction, domain->second, watch); !put) return put;
  }
  return transaction->commit();
}

void LmdbStateLog::remember(const DomainState& domain) {
  if (const auto old = connections_.find(domain.domid); old != connections_.end())
    domains_.erase(old->second);
  connections_[domain.domid] = domain.connection;
  domains_[domain.connection] = domain.domid;
}

Status LmdbStateLog::put_domain(LmdbFile::Transaction& transaction, const DomainState& domain) {
  remember(domain);
  return transaction.put(LmdbTable::kDomains, domain_key(domain.domid), encoded(domain));
}

Status LmdbStateLog::put_watch(LmdbFile::Transaction& transaction, DomId domid, const WatchState& watch) {
  const auto [known, is_new] = watches_.try_emplace(watch_identity(domid, watch), next_watch_);
  if (is_new) ++next_watch_;
  return transaction.put(LmdbTable::kWatches, watch_key(domid, known->second), encoded(watch));
}

template <class Change>
void LmdbStateLog::change(Change change) {
  auto transaction = file_.begin();
  Status status = transaction ? change(*transaction) : Status(transaction.error());
  if (status) status = transaction->commit();
  if (!status) spdlog::error("what a restart needs was not written: {}", status.error().text());
}

void LmdbStateLog::domain_changed(const DomainState& domain) {
  change([&](auto& transaction) { return put_domain(transaction, domain); });
}

void LmdbStateLog::domain_gone(DomId domid) {
  const std::string key = domain_key(domid);
  if (const auto known = connections_.find(domid); known != connections_.end()) {
    domains_.erase(known->second);
    connections_.erase(known);
  }
  const auto first = watches_.lower_bound(key);
  auto last = first;
  while (last != watches_.end() && last->first.starts_with(key)) ++last;
  watches_.erase(first, last);
  change([&](auto& transaction) {
    for (const LmdbTable table : {LmdbTable::kDomains, LmdbTable::kRings})
      if (Status erased = transaction.erase(table, key); !erased) return erased;
    return transaction.erase_beginning(LmdbTable::kWatches, key);
  });
}

void LmdbStateLog::watch_added(ConnectionId connection, const WatchState& watch) {
  const auto domain = domains_.find(connection);
  if (domain == domains_.end()) return;
  change([&](auto& transaction) { return put_watch(transaction, domain->second, watch); });
}

void LmdbStateLog::watch_removed(ConnectionId connection, const WatchState& watch) {
  const auto domain = domains_.find(connection);
  if (domain == domains_.end()) return;
  const auto known = watches_.find(watch_identity(domain->second, watch));
  if (known == watches_.end()) return;
  const std::string key = watch_key(domain->second, known->second);
  change([&](auto& transaction) { return transaction.erase(LmdbTable::kWatches, key); });
  watches_.erase(known);
}

void LmdbStateLog::remnant_left(ConnectionId connection, const RingRemnant& remnant) {
  const auto domain = domains_.find(connection);
  if (domain == domains_.end()) return;
  const std::string key = domain_key(domain->second);
  change([&](auto& transaction) { return transaction.put(LmdbTable::kRings, key, encoded(remnant)); });
}

std::optional<RingRemnant> LmdbStateLog::remnant_of(DomId domid) {
  auto transaction = file_.begin();
  const auto bytes = transaction ? transaction->get(LmdbTable::kRings, domain_key(domid)) : std::nullopt;
  return bytes ? decoded_remnant(*bytes) : std::nullopt;
}

}  // namespace synfluid::spawner::store
