// The store's engine under any requests of the control domain and three guests, with domains dying, rings
// beginning anew and the engine being replaced in between. Each request is answered once, and the tree stays
// whole.
//
// An input is lines. The first byte of a line chooses who, the second what: 'A' to 'W' are the message types
// 0 to 22, small letters are events; for a request the third is a transaction's number, and the rest the
// payload, '|' a NUL.
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include <spdlog/spdlog.h>

#include "spawner/store/engine.h"
#include "spawner/store/memory_storage.h"

namespace {

using namespace synfluid;
using namespace synfluid::spawner::store;

void require(bool holds) {
  if (!holds) std::abort();
}

class CountingOutbox final : public Outbox {
 public:
  void send(ConnectionId to, const Header& header, std::span<const char> payload) override {
    require(header.length == payload.size() && payload.size() <= kMaxPayload);
    ++messages[to.value()];
    bytes[to.value()] += kHeaderBytes + payload.size();
    if (header.type != MessageType::kWatchEvent) ++replies;
    if (header.type == MessageType::kError) require(!payload.empty() && payload.back() == '\0');
  }
  void resume(ConnectionId /*connection*/) override {}

  uint64_t replies = 0;
  uint32_t messages[64] = {};
  uint64_t bytes[64] = {};
};

class AnyDomains final : public Domains {
 public:
  Fault introduce(DomId /*domid*/, uint64_t gfn, EventPort /*port*/, ConnectionId /*connection*/) override {
    return gfn == 13 ? Fault::kEinval : Fault::kNone;
  }
  Fault reintroduce(DomId /*domid*/, uint64_t /*gfn*/, EventPort /*port*/,
                    ConnectionId /*connection*/) override {
    return Fault::kNone;
  }
  void release(DomId /*domid*/, ConnectionId /*connection*/) override {}
};

Quotas tight() {
  Quotas quotas;
  quotas.set(Quota::kNodes, 30);
  quotas.set(Quota::kWatches, 5);
  quotas.set(Quota::kTransactionNodes, 20);
  quotas.set(Quota::kMemory, 20'000);
  return quotas;
}

class World {
 public:
  World() : engine_(make_engine()) {
    clients_.push_back(engine_->connect({.domid = DomId(0), .privilege = Privilege::kControl}));
    for (uint16_t domid = 1; domid <= 3; ++domid) {
      clients_.push_back(engine_->connect({.domid = DomId(domid), .privilege = Privilege::kGuest}));
      const std::string id = std::to_string(domid);
      request(clients_[0], MessageType::kWrite, 0, "/local/domain/" + id + '\0');
      request(clients_[0], MessageType::kSetPerms, 0, "/local/domain/" + id + '\0' + "n" + id + '\0');
    }
  }

  void line(std::string_view line) {
    if (line.size() < 2) return;
    const ConnectionId who = clients_[static_cast<uint8_t>(line[0]) % clients_.size()];
    if (line[1] >= 'a' && line[1] <= 'z') return event(who, line[1], line[0]);
    const uint32_t transaction = line.size() > 2 ? static_cast<uint8_t>(line[2]) - '0' : 0u;
    std::string payload(line.substr(std::min<size_t>(line.size(), 3)));
    for (char& c : payload)
      if (c == '|') c = '\0';
    payload.resize(std::min(payload.size(), kMaxPayload));
    request(who, static_cast<MessageType>(static_cast<uint8_t>(line[1]) - 'A'), transaction, payload);
  }

  void finish() {
    for (const ConnectionId client : clients_) engine_->reset(client);
    const uint64_t before = outbox_.replies;
    const uint64_t errors = engine_->counters().errors;
    request(clients_[0], MessageType::kControl, 0, std::string("check\0", 6));
    require(outbox_.replies == before + 1 && engine_->counters().errors == errors);
  }

 private:
  std::unique_ptr<Engine> make_engine() {
    return std::make_unique<Engine>(EngineConfig{.quotas = tight()}, storage_, outbox_, domains_);
  }

  void request(ConnectionId from, MessageType type, uint32_t transaction, const std::string& payload) {
    const uint64_t replies = outbox_.replies;
    const uint64_t deferred = engine_->counters().deferred;
    const bool free = engine_->wants_input(from);
    engine_->handle(from,
                    {.type = type,
                     .request_id = ++number_,
                     .transaction_id = transaction,
                     .length = static_cast<uint32_t>(payload.size())},
                    payload);
    // Others' requests that waited may be answered by the way.
    if (engine_->counters().deferred == deferred) require(outbox_.replies > replies || !free);
  }

  void event(ConnectionId who, char what, char detail) {
    switch (what) {
      case 'd':
        return engine_->domain_died(DomId(static_cast<uint16_t>(detail % 8)));
      case 's':
        return engine_->domain_shut_down(DomId(static_cast<uint16_t>(detail % 8)));
      case 'r':
        return engine_->reset(who);
      case 't':
        return engine_->tick();
      case 'q':
        engine_->delivered(who, outbox_.messages[who.value() % 64], outbox_.bytes[who.value() % 64]);
        outbox_.messages[who.value() % 64] = 0;
        outbox_.bytes[who.value() % 64] = 0;
        return;
      case 'u':
        return succeed();
      default:
        return;
    }
  }

  void succeed() {
    const EngineState state = engine_->snapshot();
    engine_ = make_engine();
    engine_->restore(state);
    require(engine_->domains() == state.domains);
  }

  MemoryStorage storage_;
  CountingOutbox outbox_;
  AnyDomains domains_;
  std::unique_ptr<Engine> engine_;
  std::vector<ConnectionId> clients_;
  uint32_t number_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  World world;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    world.line(line);
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
  }
  world.finish();
  return 0;
}
