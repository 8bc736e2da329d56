// An engine with clients to talk to it: requests go in as text, answers and events come out as text.
//
// Threads: one. Ownership: a Rig owns its engine, storage and clients' queues; a Client refers to its Rig.
#pragma once

#include <deque>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "spawner/store/engine.h"
#include "spawner/store/map_storage.h"
#include "spawner/store/memory_storage.h"

namespace synfluid::spawner::store::test {

using Type = MessageType;

struct Message {
  Header header;
  std::string payload;
};

class QueueingOutbox final : public Outbox {
 public:
  void send(ConnectionId to, const Header& header, std::span<const char> payload) override {
    queues[to].push_back({header, std::string(payload.data(), payload.size())});
  }
  void resume(ConnectionId connection) override { resumed.push_back(connection); }

  std::map<ConnectionId, std::deque<Message>> queues;
  std::vector<ConnectionId> resumed;
};

class RecordingDomains final : public Domains {
 public:
  Fault introduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) override {
    note("introduce", domid, gfn, port);
    rings[domid] = connection;
    return fault;
  }
  Fault reintroduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId /*connection*/) override {
    note("reintroduce", domid, gfn, port);
    return fault;
  }
  void release(DomId domid, ConnectionId /*connection*/) override {
    calls.push_back("release " + std::to_string(domid.value()));
  }

  Fault fault = Fault::kNone;
  std::vector<std::string> calls;
  std::map<DomId, ConnectionId> rings;

 private:
  void note(const std::string& what, DomId domid, uint64_t gfn, EventPort port) {
    calls.push_back(what + " " + std::to_string(domid.value()) + " " + std::to_string(gfn) + " " +
                    std::to_string(port.value()));
  }
};

/// Fields as they stand in payloads, a NUL after each.
inline std::string fields(std::initializer_list<std::string_view> parts) {
  std::string joined;
  for (const std::string_view part : parts) joined.append(part).push_back('\0');
  return joined;
}

/// "a b " of "a\0b\0", to be read by people.
inline std::string shown(std::string_view payload) {
  std::string text(payload);
  for (char& c : text)
    if (c == '\0') c = ' ';
  return text;
}

class Rig {
 public:
  explicit Rig(std::unique_ptr<Storage> nodes = std::make_unique<MemoryStorage>(), Quotas quotas = {})
      : storage(std::move(nodes)),
        engine(std::make_unique<Engine>(EngineConfig{.quotas = quotas, .clock = &clock}, *storage, outbox,
                                        domains)) {}

  ManualClock clock;
  std::unique_ptr<Storage> storage;
  QueueingOutbox outbox;
  RecordingDomains domains;
  std::unique_ptr<Engine> engine;
};

/// One connection. What a request is answered is its payload, or "!" and the error's name.
class Client {
 public:
  Client(Rig& rig, Peer peer) : rig_(&rig), id_(rig.engine->connect(peer)) {}
  Client(Rig& rig, ConnectionId id) : rig_(&rig), id_(id) {}
  static Client control(Rig& rig) { return {rig, Peer{.domid = DomId(0), .privilege = Privilege::kControl}}; }
  static Client guest(Rig& rig, uint16_t domid) {
    return {rig, Peer{.domid = DomId(domid), .privilege = Privilege::kGuest}};
  }

  ConnectionId id() const { return id_; }

  /// Sends and does not wait; false when no answer came.
  void send(Type type, std::string_view payload, uint32_t transaction = 0) {
    const Header header{.type = type,
                        .request_id = ++request_id_,
                        .transaction_id = transaction,
                        .length = static_cast<uint32_t>(payload.size())};
    rig_->engine->handle(id_, header, {payload.data(), payload.size()});
  }
  std::string ask(Type type, std::string_view payload, uint32_t transaction = 0) {
    send(type, payload, transaction);
    const auto answer = take_answer();
    return answer ? *answer : "(no answer)";
  }
  /// The next reply; events before it are kept for take_events().
  std::optional<std::string> take_answer() {
    auto& queue = rig_->outbox.queues[id_];
    while (!queue.empty()) {
      Message message = std::move(queue.front());
      queue.pop_front();
      rig_->engine->delivered(id_, 1, kHeaderBytes + message.payload.size());
      if (message.header.type == Type::kWatchEvent) {
        events_.push_back(shown(message.payload));
        continue;
      }
      if (message.header.type == Type::kError)
        return "!" + message.payload.substr(0, message.payload.size() - 1);
      return message.payload;
    }
    return std::nullopt;
  }
  /// "path token " each.
  std::vector<std::string> take_events() {
    while (take_answer()) {
    }
    return std::exchange(events_, {});
  }
  /// What waits, in order, without taking it: types.
  std::vector<Type> waiting() const {
    std::vector<Type> types;
    for (const Message& message : rig_->outbox.queues[id_]) types.push_back(message.header.type);
    return types;
  }

  std::string read(std::string_view path, uint32_t transaction = 0) {
    return ask(Type::kRead, fields({path}), transaction);
  }
  std::string write(std::string_view path, std::string_view value, uint32_t transaction = 0) {
    return short_ok(ask(Type::kWrite, fields({path}).append(value), transaction));
  }
  std::string mkdir(std::string_view path, uint32_t transaction = 0) {
    return short_ok(ask(Type::kMkdir, fields({path}), transaction));
  }
  std::string rm(std::string_view path, uint32_t transaction = 0) {
    return short_ok(ask(Type::kRm, fields({path}), transaction));
  }
  std::string list(std::string_view path, uint32_t transaction = 0) {
    return shown(ask(Type::kDirectory, fields({path}), transaction));
  }
  std::string permissions(std::string_view path, uint32_t transaction = 0) {
    return shown(ask(Type::kGetPerms, fields({path}), transaction));
  }
  std::string set_permissions(std::string_view path, std::initializer_list<std::string_view> permissions,
                              uint32_t transaction = 0) {
    return short_ok(ask(Type::kSetPerms, fields({path}) + fields(permissions), transaction));
  }
  std::string watch(std::string_view path, std::string_view token) {
    return short_ok(ask(Type::kWatch, fields({path, token})));
  }
  std::string watch(std::string_view path, std::string_view token, std::string_view depth) {
    return short_ok(ask(Type::kWatch, fields({path, token, depth})));
  }
  std::string unwatch(std::string_view path, std::string_view token) {
    return short_ok(ask(Type::kUnwatch, fields({path, token})));
  }
  uint32_t begin() {
    const std::string answer = ask(Type::kTransactionStart, fields({""}));
    return answer[0] == '!' ? 0 : static_cast<uint32_t>(std::stoul(answer));
  }
  std::string end(uint32_t transaction) {
    return short_ok(ask(Type::kTransactionEnd, fields({"T"}), transaction));
  }
  std::string abandon(uint32_t transaction) {
    return short_ok(ask(Type::kTransactionEnd, fields({"F"}), transaction));
  }

 private:
  static std::string short_ok(std::string answer) {
    return answer == std::string_view("OK", 3) ? "OK" : answer;
  }

  Rig* rig_;
  ConnectionId id_;
  uint32_t request_id_ = 0;
  std::vector<std::string> events_;
};

}  // namespace synfluid::spawner::store::test
