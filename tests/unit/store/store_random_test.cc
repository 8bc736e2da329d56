// Random operations of several domains: against another storage, against a model, and committed transactions
// against the same operations one transaction after another. Seeds are printed.
#include <algorithm>
#include <iostream>
#include <random>
#include <sstream>

#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "tests/unit/store/store_model.h"
#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

enum class Verb : uint8_t { kRead, kList, kPermissions, kWrite, kMkdir, kRm, kSetPermissions };

struct Operation {
  Verb verb = Verb::kRead;
  std::string path;
  std::string value;
  std::vector<std::string> permissions;
};

class RandomOperations {
 public:
  explicit RandomOperations(uint64_t seed) : random_(seed) {}

  size_t below(size_t n) { return static_cast<size_t>(random_() % n); }

  Operation next() {
    Operation operation{
        .verb = verb(), .path = path(), .value = std::to_string(below(1000)), .permissions = {}};
    for (size_t n = 1 + below(3); n > 0; --n)
      operation.permissions.push_back(std::string(1, "nrwb"[below(4)]) + std::to_string(below(3)));
    return operation;
  }
  std::string path() {
    std::string path;
    for (size_t depth = 1 + below(3); depth > 0; --depth) path += std::string("/") + "abc"[below(3)];
    return path;
  }

 private:
  Verb verb() {
    static constexpr Verb kMix[] = {Verb::kRead,  Verb::kRead,          Verb::kList,  Verb::kPermissions,
                                    Verb::kWrite, Verb::kWrite,         Verb::kWrite, Verb::kMkdir,
                                    Verb::kRm,    Verb::kSetPermissions};
    return kMix[below(std::size(kMix))];
  }
  std::mt19937_64 random_;
};

/// Names in any order are the same list.
std::string sorted(const std::string& names) {
  std::vector<std::string> split;
  std::istringstream in(names);
  for (std::string name; in >> name;) split.push_back(name);
  std::ranges::sort(split);
  std::string joined;
  for (const std::string& name : split) joined += name + " ";
  return joined;
}

std::string run(Client& client, const Operation& operation, uint32_t transaction = 0) {
  switch (operation.verb) {
    case Verb::kRead:
      return client.read(operation.path, transaction);
    case Verb::kList:
      return client.list(operation.path, transaction);
    case Verb::kPermissions:
      return client.permissions(operation.path, transaction);
    case Verb::kWrite:
      return client.write(operation.path, operation.value, transaction);
    case Verb::kMkdir:
      return client.mkdir(operation.path, transaction);
    case Verb::kRm:
      return client.rm(operation.path, transaction);
    case Verb::kSetPermissions:
      break;
  }
  std::string payload = fields({operation.path});
  for (const std::string& permission : operation.permissions) payload += fields({permission});
  const std::string answer = client.ask(Type::kSetPerms, payload, transaction);
  return answer[0] == '!' ? answer : "OK";
}

std::string run(Model& model, DomId who, const Operation& operation) {
  switch (operation.verb) {
    case Verb::kRead:
      return model.read(who, operation.path);
    case Verb::kList:
      return model.list(who, operation.path);
    case Verb::kPermissions:
      return model.permissions(who, operation.path);
    case Verb::kWrite:
      return model.write(who, operation.path, operation.value);
    case Verb::kMkdir:
      return model.mkdir(who, operation.path);
    case Verb::kRm:
      return model.rm(who, operation.path);
    case Verb::kSetPermissions:
      break;
  }
  std::vector<Permission> permissions;
  for (const std::string& text : operation.permissions) permissions.push_back(*parse_permission(text));
  return model.set_permissions(who, operation.path, permissions);
}

Client client_of(Rig& rig, uint16_t domid) {
  return domid == 0 ? Client::control(rig) : Client::guest(rig, domid);
}

class RandomTest : public testing::TestWithParam<uint64_t> {
 protected:
  RandomTest() {
    std::cout << "seed " << GetParam() << "\n";
    spdlog::set_level(spdlog::level::err);
  }
  ~RandomTest() override { spdlog::set_level(spdlog::level::info); }
};

TEST_P(RandomTest, TheEngineDoesWhatTheModelDoes) {
  Rig rig;
  Model model;
  RandomOperations random(GetParam());
  std::vector<Client> clients{client_of(rig, 0), client_of(rig, 1), client_of(rig, 2)};
  for (int step = 0; step < 8000; ++step) {
    const size_t who = random.below(clients.size());
    const Operation operation = random.next();
    std::string expected = run(model, DomId(static_cast<uint16_t>(who)), operation);
    std::string got = run(clients[who], operation);
    if (operation.verb == Verb::kList) got = sorted(got), expected = sorted(expected);
    ASSERT_EQ(got, expected) << "step " << step << ", domain " << who << ", verb "
                             << static_cast<int>(operation.verb) << " " << operation.path;
  }
}

/// Everything a client can see, transactions and events included.
TEST_P(RandomTest, BothStoragesGiveTheSameAnswersAndEvents) {
  Rig memory;
  Rig map(std::make_unique<MapStorage>());
  RandomOperations random(GetParam());
  std::vector<std::pair<Client, Client>> clients;
  for (const uint16_t domid : std::initializer_list<uint16_t>{0, 0, 1, 2})
    clients.emplace_back(client_of(memory, domid), client_of(map, domid));
  std::vector<uint32_t> open(clients.size(), 0);
  const auto same = [&](const std::string& a, const std::string& b, int step) {
    ASSERT_EQ(a, b) << "step " << step;
  };
  for (int step = 0; step < 6000 && !HasFatalFailure(); ++step) {
    const size_t who = random.below(clients.size());
    auto& [a, b] = clients[who];
    if (!memory.engine->wants_input(a.id())) {  // it waits for a turn
      memory.engine->tick();
      map.engine->tick();
      continue;
    }
    switch (random.below(16)) {
      case 0:
        if (open[who] == 0) {
          open[who] = a.begin();
          ASSERT_EQ(b.begin(), open[who]);
        }
        break;
      case 1:
      case 2:
        if (open[who] != 0) {
          const bool keep = random.below(5) != 0;
          same(keep ? a.end(open[who]) : a.abandon(open[who]), keep ? b.end(open[who]) : b.abandon(open[who]),
               step);
          open[who] = 0;
        }
        break;
      case 3: {
        const std::string path = random.path();
        same(a.watch(path, "t"), b.watch(path, "t"), step);
        break;
      }
      case 4: {
        const std::string path = random.path();
        same(a.unwatch(path, "t"), b.unwatch(path, "t"), step);
        break;
      }
      case 5: {
        const std::string part = fields({random.path(), std::to_string(random.below(8))});
        same(a.ask(Type::kDirectoryPart, part, open[who]), b.ask(Type::kDirectoryPart, part, open[who]),
             step);
        break;
      }
      case 6:
        if (random.below(40) == 0) {
          const DomId dead(static_cast<uint16_t>(1 + random.below(2)));
          memory.engine->domain_died(dead);
          map.engine->domain_died(dead);
        }
        break;
      default: {
        const Operation operation = random.next();
        const uint32_t transaction = random.below(3) == 0 ? 0 : open[who];
        same(run(a, operation, transaction), run(b, operation, transaction), step);
      }
    }
    for (auto& [left, right] : clients) ASSERT_EQ(left.take_events(), right.take_events()) << "step " << step;
  }
  EXPECT_GT(memory.engine->counters().commits, 50u);
  EXPECT_GT(memory.engine->counters().conflicts, 5u);
}

struct Done {
  Operation operation;
  std::string answer;
};

/// What was committed, and what was done outside of transactions, once more, one after another in the order
/// in which it took effect: every answer must be the same.
TEST_P(RandomTest, CommittedTransactionsAreSerialisable) {
  Rig rig;
  RandomOperations random(GetParam());
  struct Party {
    Client client;
    uint16_t domid = 0;
    uint32_t transaction = 0;
    std::vector<Done> done;
  };
  std::vector<Party> parties;
  for (const uint16_t domid : std::initializer_list<uint16_t>{0, 0, 0, 1, 1, 2})
    parties.push_back({.client = client_of(rig, domid), .domid = domid});
  parties[0].client.set_permissions("/", {"b0"});

  std::vector<std::pair<uint16_t, std::vector<Done>>> history;
  history.push_back({0, {{{Verb::kSetPermissions, "/", "", {"b0"}}, "OK"}}});
  for (int step = 0; step < 12'000; ++step) {
    Party& party = parties[random.below(parties.size())];
    if (rig.outbox.queues[party.client.id()].size() > 0 || !rig.engine->wants_input(party.client.id()))
      continue;
    if (party.transaction == 0) {
      if (random.below(4) != 0) {
        party.transaction = party.client.begin();
        continue;
      }
      const Operation operation = random.next();
      const std::string answer = run(party.client, operation);
      if (answer != "(no answer)") {
        history.push_back({party.domid, {{operation, answer}}});
      } else {
        // It waits for a turn; end the turn by time, so that its place in history is here.
        while (rig.engine->wants_tick()) rig.engine->tick();
        const auto late = party.client.take_answer();
        ASSERT_TRUE(late);
        history.push_back({party.domid, {{operation, "?"}}});
      }
      continue;
    }
    if (party.done.size() < 1 + random.below(6)) {
      const Operation operation = random.next();
      party.done.push_back({operation, run(party.client, operation, party.transaction)});
      continue;
    }
    if (party.client.end(party.transaction) == "OK") history.push_back({party.domid, party.done});
    party.transaction = 0;
    party.done.clear();
  }
  std::cout << history.size() << " transactions and operations, " << rig.engine->counters().conflicts
            << " conflicts\n";
  EXPECT_GT(rig.engine->counters().conflicts, 20u);
  EXPECT_GT(rig.engine->counters().commits, 300u);

  Rig serial;
  std::vector<Client> clients{client_of(serial, 0), client_of(serial, 1), client_of(serial, 2)};
  for (size_t i = 0; i < history.size(); ++i) {
    for (const auto& [operation, answer] : history[i].second) {
      const std::string again = run(clients[history[i].first], operation);
      if (answer == "?") continue;
      const bool list = operation.verb == Verb::kList;
      ASSERT_EQ(list ? sorted(again) : again, list ? sorted(answer) : answer)
          << "entry " << i << ", verb " << static_cast<int>(operation.verb) << " " << operation.path;
    }
  }
  rig.storage->for_each([&](std::string_view path, const NodeView& node) {
    const auto twin = serial.storage->find(path);
    ASSERT_TRUE(twin) << path;
    EXPECT_EQ(twin->value, node.value) << path;
    EXPECT_TRUE(std::ranges::equal(twin->permissions, node.permissions)) << path;
  });
  EXPECT_EQ(rig.storage->size(), serial.storage->size());
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomTest, testing::Values(1, 2, 3, 4, 5, 6, 7, 8));

}  // namespace
}  // namespace synfluid::spawner::store::test
