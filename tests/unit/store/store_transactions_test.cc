// TRANSACTION_START, TRANSACTION_END, and what conflicts.
#include <gtest/gtest.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

using Events = std::vector<std::string>;

class TransactionsTest : public testing::Test {
 protected:
  TransactionsTest() {
    dom0.write("/a", "old");
    dom0.write("/dir/one", "");
    dom0.write("/dir/two", "");
  }
  Rig rig;
  Client dom0 = Client::control(rig);
  Client other = Client::control(rig);
};

TEST_F(TransactionsTest, ChangesAreSeenInsideAtOnceAndOutsideAtTheEnd) {
  const uint32_t t = dom0.begin();
  ASSERT_NE(t, 0u);
  EXPECT_EQ(dom0.write("/a", "new", t), "OK");
  EXPECT_EQ(dom0.write("/b/c", "made", t), "OK");
  EXPECT_EQ(dom0.rm("/dir/one", t), "OK");
  EXPECT_EQ(dom0.read("/a", t), "new");
  EXPECT_EQ(dom0.read("/b/c", t), "made");
  EXPECT_EQ(dom0.list("/dir", t), "two ");
  EXPECT_EQ(dom0.read("/a"), "old");
  EXPECT_EQ(dom0.read("/b"), "!ENOENT");
  EXPECT_EQ(dom0.list("/dir"), "one two ");
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(dom0.read("/a"), "new");
  EXPECT_EQ(dom0.read("/b/c"), "made");
  EXPECT_EQ(dom0.list("/dir"), "two ");
}

TEST_F(TransactionsTest, AnAbandonedOneLeavesNothing) {
  const uint32_t t = dom0.begin();
  dom0.write("/a", "new", t);
  dom0.write("/b", "made", t);
  EXPECT_EQ(dom0.abandon(t), "OK");
  EXPECT_EQ(dom0.read("/a"), "old");
  EXPECT_EQ(dom0.read("/b"), "!ENOENT");
  EXPECT_EQ(dom0.end(t), "!ENOENT");
}

TEST_F(TransactionsTest, BrokenUseIsRefused) {
  EXPECT_EQ(dom0.ask(Type::kTransactionEnd, fields({"T"})), "!ENOENT");
  EXPECT_EQ(dom0.read("/a", 77), "!ENOENT");
  const uint32_t t = dom0.begin();
  EXPECT_EQ(dom0.ask(Type::kTransactionStart, fields({""}), t), "!EBUSY");
  EXPECT_EQ(dom0.ask(Type::kTransactionEnd, fields({"X"}), t), "!EINVAL");
  EXPECT_EQ(other.end(t), "!ENOENT") << "it is another's";
  EXPECT_EQ(dom0.end(t), "OK");
}

TEST_F(TransactionsTest, WhatWasReadAndChangedMeanwhileIsAConflict) {
  const uint32_t t = dom0.begin();
  EXPECT_EQ(dom0.read("/a", t), "old");
  other.write("/a", "theirs");
  EXPECT_EQ(dom0.read("/a", t), "old") << "it reads the same again";
  dom0.write("/b", "x", t);
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
  EXPECT_EQ(dom0.read("/a"), "theirs");
  EXPECT_EQ(dom0.read("/b"), "!ENOENT");
}

TEST_F(TransactionsTest, ARemovedOrAppearedNodeIsAConflict) {
  uint32_t t = dom0.begin();
  dom0.read("/a", t);
  other.rm("/a");
  other.write("/a", "old");
  EXPECT_EQ(dom0.end(t), "!EAGAIN") << "the same value, but not the same node";
  t = dom0.begin();
  EXPECT_EQ(dom0.read("/new", t), "!ENOENT");
  other.write("/new", "");
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
}

TEST_F(TransactionsTest, WritingTheSameNodeUnreadIsNoConflict) {
  const uint32_t t = dom0.begin();
  dom0.write("/a", "mine", t);
  EXPECT_EQ(dom0.read("/a", t), "mine") << "its own value";
  other.write("/a", "theirs");
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(dom0.read("/a"), "mine");
}

TEST_F(TransactionsTest, TwoThatMakeDifferentChildrenDoNotMeet) {
  const uint32_t t = dom0.begin();
  const uint32_t u = other.begin();
  dom0.write("/dir/mine", "1", t);
  other.write("/dir/theirs", "2", u);
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(other.end(u), "OK");
  EXPECT_EQ(dom0.list("/dir"), "one two mine theirs ");
}

TEST_F(TransactionsTest, AListThatChangedIsAConflict) {
  const uint32_t t = dom0.begin();
  EXPECT_EQ(dom0.list("/dir", t), "one two ");
  other.write("/dir/three", "");
  EXPECT_EQ(dom0.list("/dir", t), "one two ");
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
}

TEST_F(TransactionsTest, AValueBelowIsNoPartOfAList) {
  const uint32_t t = dom0.begin();
  dom0.list("/dir", t);
  other.write("/dir/one", "changed");
  EXPECT_EQ(dom0.end(t), "OK");
}

TEST_F(TransactionsTest, PermissionsAreAPartOfTheirOwn) {
  uint32_t t = dom0.begin();
  dom0.read("/a", t);
  other.set_permissions("/a", {"n7"});
  EXPECT_EQ(dom0.end(t), "OK") << "dom0 may read it whatever they are";
  t = dom0.begin();
  EXPECT_EQ(dom0.permissions("/a", t), "n7 ");
  other.set_permissions("/a", {"n8"});
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
}

TEST_F(TransactionsTest, TwoThatMakeTheSameNodeConflict) {
  const uint32_t t = dom0.begin();
  const uint32_t u = other.begin();
  dom0.write("/same", "1", t);
  other.write("/same", "2", u);
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(other.end(u), "!EAGAIN");
  EXPECT_EQ(dom0.read("/same"), "1");
}

TEST_F(TransactionsTest, ErasedAndMadeAnewHidesWhatWasBelow) {
  const uint32_t t = dom0.begin();
  dom0.write("/dir/one", "changed", t);
  EXPECT_EQ(dom0.rm("/dir", t), "OK");
  EXPECT_EQ(dom0.read("/dir/one", t), "!ENOENT");
  EXPECT_EQ(dom0.read("/dir/two", t), "!ENOENT");
  EXPECT_EQ(dom0.write("/dir/two/deep", "again", t), "OK");
  EXPECT_EQ(dom0.list("/dir", t), "two ");
  EXPECT_EQ(dom0.list("/dir/two", t), "deep ");
  EXPECT_EQ(dom0.rm("/dir/two", t), "OK");
  EXPECT_EQ(dom0.write("/dir/three", "", t), "OK");
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(dom0.list("/dir"), "three ");
  EXPECT_EQ(dom0.read("/dir/one"), "!ENOENT");
}

TEST_F(TransactionsTest, ErasingTakesWhatOthersPutThereMeanwhile) {
  const uint32_t t = dom0.begin();
  dom0.rm("/dir", t);
  other.write("/dir/late", "");
  EXPECT_EQ(dom0.end(t), "OK") << "as if it had come after";
  EXPECT_EQ(dom0.read("/dir"), "!ENOENT");
}

TEST_F(TransactionsTest, EventsComeAtTheEndAndBeforeTheReply) {
  other.watch("/", "t");
  other.take_events();
  const uint32_t t = other.begin();
  other.write("/b/c", "1", t);
  other.rm("/dir/one", t);
  other.write("/a", "2", t);
  other.write("/b/c", "3", t);
  EXPECT_EQ(other.take_events(), Events());
  other.send(Type::kTransactionEnd, fields({"T"}), t);
  EXPECT_EQ(other.waiting(), (std::vector<Type>{Type::kWatchEvent, Type::kWatchEvent, Type::kWatchEvent,
                                                Type::kTransactionEnd}));
  EXPECT_EQ(other.take_events(), (Events{"/dir/one t ", "/b/c t ", "/a t "}));
}

TEST_F(TransactionsTest, NoEventsOfOneThatFailed) {
  other.watch("/", "t");
  const uint32_t t = dom0.begin();
  dom0.read("/a", t);
  dom0.write("/b", "", t);
  dom0.write("/a", "x");
  other.take_events();
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
  EXPECT_EQ(other.take_events(), Events());
}

TEST_F(TransactionsTest, DirectoryPartInsideOneSeesItsChanges) {
  const uint32_t t = dom0.begin();
  dom0.write("/dir/three", "", t);
  dom0.rm("/dir/one", t);
  const std::string part = dom0.ask(Type::kDirectoryPart, fields({"/dir", "0"}), t);
  EXPECT_EQ(shown(part.substr(part.find('\0') + 1)), "two three  ");
  const std::string rest = dom0.ask(Type::kDirectoryPart, fields({"/dir", "4"}), t);
  EXPECT_EQ(shown(rest.substr(rest.find('\0') + 1)), "three  ");
}

TEST_F(TransactionsTest, ThousandsAreOpenAtOnceWithoutACopyOfTheTree) {
  std::vector<uint32_t> open;
  for (int i = 0; i < 5000; ++i) {
    open.push_back(dom0.begin());
    ASSERT_EQ(dom0.write("/many/" + std::to_string(i), "x", open.back()), "OK");
  }
  dom0.write("/many", "");
  uint32_t failed = 0;
  for (const uint32_t t : open) failed += dom0.end(t) != "OK";
  EXPECT_EQ(failed, 5000u) << "each saw that /many was not there";
  for (int i = 0; i < 5000; ++i) {
    open[static_cast<size_t>(i)] = dom0.begin();
    dom0.write("/many/" + std::to_string(i), "x", open[static_cast<size_t>(i)]);
  }
  for (const uint32_t t : open) EXPECT_EQ(dom0.end(t), "OK");
}

/// A reader of a node that somebody else writes between every two of its requests.
TEST_F(TransactionsTest, TheLoserGetsItsTurnAgainstAWriterThatNeverRests) {
  int tries = 0;
  std::string result;
  do {
    ASSERT_LT(++tries, 10) << "livelock";
    const uint32_t t = dom0.begin();
    dom0.read("/a", t);
    other.send(Type::kWrite, fields({"/a"}) + "again");
    dom0.write("/seen", "x", t);
    result = dom0.end(t);
  } while (result == "!EAGAIN");
  EXPECT_EQ(result, "OK");
  EXPECT_EQ(tries, 4);
  EXPECT_EQ(other.take_answer(), std::string("OK", 3)) << "the writer was answered once the turn was over";
  EXPECT_GT(rig.engine->counters().deferred, 0u);
}

TEST_F(TransactionsTest, AKeptRequestStopsItsConnectionsInputAndOrderHolds) {
  for (int i = 0; i < 3; ++i) {
    const uint32_t t = dom0.begin();
    dom0.read("/a", t);
    other.write("/a", "x");
    dom0.end(t);
  }
  const uint32_t t = dom0.begin();
  dom0.read("/a", t);
  EXPECT_TRUE(rig.engine->wants_input(other.id()));
  other.send(Type::kWrite, fields({"/a"}) + "first");
  EXPECT_FALSE(rig.engine->wants_input(other.id()));
  other.send(Type::kRead, fields({"/a"}));
  EXPECT_EQ(other.take_answer(), std::nullopt);
  EXPECT_TRUE(rig.engine->wants_tick());
  EXPECT_EQ(dom0.end(t), "OK");
  EXPECT_EQ(rig.outbox.resumed, (std::vector<ConnectionId>{other.id()}));
  EXPECT_EQ(other.take_answer(), std::string("OK", 3));
  EXPECT_EQ(other.take_answer(), "first");
  EXPECT_TRUE(rig.engine->wants_input(other.id()));
}

TEST_F(TransactionsTest, ATurnEndsWhenItsHolderStaysAway) {
  for (int i = 0; i < 3; ++i) {
    const uint32_t t = dom0.begin();
    dom0.read("/a", t);
    other.write("/a", "x");
    dom0.end(t);
  }
  const uint32_t t = dom0.begin();
  dom0.read("/a", t);
  other.send(Type::kWrite, fields({"/a"}) + "waits");
  for (uint32_t i = 0; i < 9; ++i) rig.engine->tick();
  EXPECT_EQ(other.take_answer(), std::nullopt);
  rig.engine->tick();
  EXPECT_EQ(other.take_answer(), std::string("OK", 3));
  EXPECT_FALSE(rig.engine->wants_tick());
  EXPECT_EQ(dom0.end(t), "!EAGAIN");
}

TEST_F(TransactionsTest, ATurnEndsWithItsConnection) {
  for (int i = 0; i < 3; ++i) {
    const uint32_t t = dom0.begin();
    dom0.read("/a", t);
    other.write("/a", "x");
    dom0.end(t);
  }
  dom0.read("/a", dom0.begin());
  other.send(Type::kWrite, fields({"/a"}) + "waits");
  rig.engine->disconnect(dom0.id());
  EXPECT_EQ(other.take_answer(), std::string("OK", 3));
}

TEST_F(TransactionsTest, AGuestsTurnNeverMakesTheControlDomainWait) {
  dom0.set_permissions("/a", {"b0"});
  Client guest = Client::guest(rig, 7);
  for (int i = 0; i < 5; ++i) {
    const uint32_t t = guest.begin();
    guest.read("/a", t);
    EXPECT_EQ(dom0.write("/a", "x"), "OK");
    EXPECT_EQ(guest.end(t), "!EAGAIN");
  }
  Client rival = Client::guest(rig, 8);
  const uint32_t t = guest.begin();
  guest.read("/a", t);
  rival.send(Type::kWrite, fields({"/a"}) + "waits");
  EXPECT_EQ(rival.take_answer(), std::nullopt) << "another guest does wait";
  EXPECT_EQ(guest.end(t), "OK");
}

/// Sixty-four clients increment one counter, each with a transaction, their requests interleaved.
TEST_F(TransactionsTest, SixtyFourWhoAllWantTheSameNodeAllGetThrough) {
  dom0.write("/counter", "0");
  struct Party {
    Client client;
    uint32_t transaction = 0;
    int step = 0;
    int done = 0;
    std::string value;
  };
  std::vector<Party> parties;
  for (int i = 0; i < 64; ++i) parties.push_back({.client = Client::control(rig)});
  constexpr int kEach = 5;
  int rounds = 0;
  size_t finished = 0;
  while (finished < parties.size()) {
    ASSERT_LT(++rounds, 50'000) << "livelock";
    for (Party& party : parties) {
      if (party.done == kEach) continue;
      switch (party.step++) {
        case 0:
          party.transaction = party.client.begin();
          break;
        case 1:
          party.value = party.client.read("/counter", party.transaction);
          break;
        case 2:
          party.client.write("/counter", std::to_string(std::stoi(party.value) + 1), party.transaction);
          break;
        default:
          party.step = 0;
          if (party.client.end(party.transaction) == "OK" && ++party.done == kEach) ++finished;
      }
    }
  }
  EXPECT_EQ(dom0.read("/counter"), std::to_string(64 * kEach));
}

}  // namespace
}  // namespace synfluid::spawner::store::test
