// WATCH, UNWATCH, RESET_WATCHES and the events.
#include <gtest/gtest.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

using Events = std::vector<std::string>;

class WatchesTest : public testing::Test {
 protected:
  WatchesTest() {
    dom0.write("/local/domain/7", "");
    dom0.set_permissions("/local/domain/7", {"n7"});
  }
  Rig rig;
  Client dom0 = Client::control(rig);
  Client other = Client::control(rig);
  Client guest = Client::guest(rig, 7);
};

/// Counts how often a node is looked for.
class CountingStorage final : public Storage {
 public:
  std::optional<NodeView> find(std::string_view path) const override {
    ++finds;
    return nodes_.find(path);
  }
  bool list_children(std::string_view path, size_t offset, size_t max_bytes,
                     std::string& out) const override {
    return nodes_.list_children(path, offset, max_bytes, out);
  }
  Status apply(std::span<const Change> changes) override { return nodes_.apply(changes); }
  void for_each(const Visitor& visit) const override { nodes_.for_each(visit); }
  void for_each_below(std::string_view path, const Visitor& visit) const override {
    nodes_.for_each_below(path, visit);
  }
  Usage usage(DomId owner) const override { return nodes_.usage(owner); }
  std::vector<std::string> paths_naming(DomId domid) const override { return nodes_.paths_naming(domid); }
  size_t size() const override { return nodes_.size(); }

  mutable uint32_t finds = 0;

 private:
  MemoryStorage nodes_;
};

TEST(ManyWatches, OfThingsAGuestMayNotSeeCostOthersNoLooks) {
  auto nodes = std::make_unique<CountingStorage>();
  CountingStorage& counting = *nodes;
  Rig rig(std::move(nodes));
  Client dom0 = Client::control(rig);
  Client guest = Client::guest(rig, 7);
  dom0.write("/a/b", "");
  counting.finds = 0;
  dom0.write("/a/b", "1");
  const uint32_t alone = counting.finds;
  for (int i = 0; i < 100; ++i) ASSERT_EQ(guest.watch(i % 2 == 0 ? "/" : "/a", std::to_string(i)), "OK");
  guest.take_events();
  counting.finds = 0;
  dom0.write("/a/b", "2");
  EXPECT_LE(counting.finds, alone + 2);
  EXPECT_TRUE(guest.take_events().empty());
}

TEST_F(WatchesTest, AWatchFiresOnceWhenItIsSetAfterItsReply) {
  dom0.send(Type::kWatch, fields({"/nowhere", "token"}));
  EXPECT_EQ(dom0.waiting(), (std::vector<Type>{Type::kWatch, Type::kWatchEvent}));
  EXPECT_EQ(dom0.take_events(), (Events{"/nowhere token "}));
}

TEST_F(WatchesTest, EventsHaveNoRequestAndNoTransaction) {
  dom0.send(Type::kWatch, fields({"/a", "t"}));
  const Header header = rig.outbox.queues[dom0.id()].back().header;
  EXPECT_EQ(header, (Header{.type = Type::kWatchEvent, .request_id = 0, .transaction_id = 0, .length = 5}));
}

TEST_F(WatchesTest, ChangesAtAndBelowThePathAreTold) {
  dom0.watch("/a", "t");
  dom0.take_events();
  other.write("/a", "1");
  other.write("/a/b/c", "2");
  other.mkdir("/a/d");
  other.mkdir("/a/d");
  other.set_permissions("/a/d", {"n7"});
  other.rm("/a/d");
  other.write("/ab", "no");
  other.write("/b", "no");
  other.read("/a");
  EXPECT_EQ(dom0.take_events(), (Events{"/a t ", "/a/b/c t ", "/a/d t ", "/a/d t ", "/a/d t "}));
}

TEST_F(WatchesTest, TheRootHearsEverythingButSpecialEvents) {
  dom0.watch("/", "t");
  dom0.take_events();
  other.write("/x/y", "1");
  rig.engine->domain_died(DomId(9));
  EXPECT_EQ(dom0.take_events(), (Events{"/x/y t "}));
}

TEST_F(WatchesTest, RemovalTellsWatchesOnEveryNodeThatGoes) {
  dom0.write("/a/b/c", "");
  dom0.write("/a/x", "");
  dom0.watch("/a", "top");
  dom0.watch("/a/b/c", "leaf");
  dom0.watch("/a/missing", "none");
  dom0.take_events();
  other.rm("/a");
  EXPECT_EQ(dom0.take_events(), (Events{"/a/b/c leaf ", "/a top "}));
}

TEST_F(WatchesTest, RelativeWatchesGetRelativeEvents) {
  guest.watch("device", "t");
  EXPECT_EQ(guest.take_events(), (Events{"device t "}));
  dom0.write("/local/domain/7/device/vif/0/state", "1");
  EXPECT_EQ(guest.take_events(), (Events{"device/vif/0/state t "}));
  guest.watch("/local/domain/7/device", "absolute");
  guest.take_events();
  guest.write("device/x", "");
  EXPECT_EQ(guest.take_events(), (Events{"device/x t ", "/local/domain/7/device/x absolute "}));
}

TEST_F(WatchesTest, ADepthLimitsHowFarBelow) {
  dom0.watch("/a", "zero", "0");
  dom0.watch("/a", "one", "1");
  dom0.take_events();
  other.write("/a", "");
  other.write("/a/b", "");
  other.write("/a/b/c", "");
  EXPECT_EQ(dom0.take_events(), (Events{"/a zero ", "/a one ", "/a/b one "}));
  EXPECT_EQ(dom0.watch("/a", "bad", "-1"), "!EINVAL");
  EXPECT_EQ(dom0.watch("/a", "bad", "x"), "!EINVAL");
}

TEST_F(WatchesTest, TheSameWatchTwiceExists) {
  EXPECT_EQ(dom0.watch("/a", "t"), "OK");
  EXPECT_EQ(dom0.watch("/a", "t"), "!EEXIST");
  EXPECT_EQ(dom0.watch("/a", "u"), "OK");
  EXPECT_EQ(other.watch("/a", "t"), "OK");
  EXPECT_EQ(guest.watch("device", "t"), "OK");
  EXPECT_EQ(guest.watch("/local/domain/7/device", "t"), "!EEXIST") << "the same path, said otherwise";
}

TEST_F(WatchesTest, UnwatchEndsItAndSaysWhenThereIsNone) {
  dom0.watch("/a", "t");
  dom0.take_events();
  EXPECT_EQ(dom0.unwatch("/a", "other"), "!ENOENT");
  EXPECT_EQ(other.unwatch("/a", "t"), "!ENOENT");
  EXPECT_EQ(dom0.unwatch("/a", "t"), "OK");
  EXPECT_EQ(dom0.unwatch("/a", "t"), "!ENOENT");
  other.write("/a", "");
  EXPECT_EQ(dom0.take_events(), Events());
}

TEST_F(WatchesTest, BrokenWatchesAreRefused) {
  EXPECT_EQ(dom0.ask(Type::kWatch, fields({"/a"})), "!EINVAL");
  EXPECT_EQ(dom0.watch("", "t"), "!EINVAL");
  EXPECT_EQ(dom0.watch("/a/", "t"), "!EINVAL");
  EXPECT_EQ(dom0.watch("@", "t"), "!EINVAL");
  EXPECT_EQ(dom0.ask(Type::kUnwatch, fields({"/a"})), "!EINVAL");
}

TEST_F(WatchesTest, WatchIgnoresTheTransaction) {
  EXPECT_EQ(dom0.ask(Type::kWatch, fields({"/a", "t"}), 4711), std::string_view("OK", 3));
  EXPECT_EQ(dom0.ask(Type::kUnwatch, fields({"/a", "t"}), 4711), std::string_view("OK", 3));
}

TEST_F(WatchesTest, ResetEndsAllWatchesAndTransactionsOfTheCaller) {
  dom0.watch("/a", "t");
  dom0.watch("/b", "t");
  other.watch("/a", "t");
  const uint32_t transaction = dom0.begin();
  EXPECT_EQ(shown(dom0.ask(Type::kResetWatches, fields({""}))), "OK ");
  EXPECT_EQ(dom0.end(transaction), "!ENOENT");
  dom0.take_events();
  other.take_events();
  other.write("/a", "");
  EXPECT_EQ(dom0.take_events(), Events());
  EXPECT_EQ(other.take_events(), (Events{"/a t "}));
}

TEST_F(WatchesTest, ADisconnectedClientHearsNothing) {
  dom0.watch("/a", "t");
  dom0.take_events();
  rig.engine->disconnect(dom0.id());
  other.write("/a", "");
  EXPECT_TRUE(rig.outbox.queues[dom0.id()].empty());
  Client again = Client::control(rig);
  EXPECT_EQ(again.id(), dom0.id()) << "its number is used again, its watches are not";
  other.write("/a", "");
  EXPECT_EQ(again.take_events(), Events());
}

TEST_F(WatchesTest, AGuestHearsOnlyWhatItMayRead) {
  dom0.write("/secret", "");
  dom0.write("/open", "");
  dom0.set_permissions("/open", {"r0"});
  EXPECT_EQ(guest.watch("/secret", "s"), "OK");
  EXPECT_EQ(guest.watch("/open", "o"), "OK");
  guest.take_events();
  dom0.write("/secret", "x");
  dom0.write("/secret/below", "x");
  dom0.rm("/secret");
  dom0.write("/open", "x");
  dom0.rm("/open");
  EXPECT_EQ(guest.take_events(), (Events{"/open o ", "/open o "}));
}

TEST_F(WatchesTest, AGuestHearsThatItLosesSight) {
  dom0.write("/open", "");
  dom0.set_permissions("/open", {"r0"});
  guest.watch("/open", "o");
  guest.take_events();
  dom0.set_permissions("/open", {"n0"});
  dom0.write("/open", "later");
  EXPECT_EQ(guest.take_events(), (Events{"/open o "}));
}

TEST_F(WatchesTest, ManyWatchesElsewhereChangeNothing) {
  for (int i = 0; i < 10'000; ++i) dom0.watch("/elsewhere/" + std::to_string(i), "t");
  dom0.take_events();
  other.watch("/a", "t");
  other.take_events();
  dom0.write("/a", "");
  EXPECT_EQ(other.take_events(), (Events{"/a t "}));
  EXPECT_EQ(dom0.take_events(), Events());
  for (int i = 0; i < 10'000; ++i) EXPECT_EQ(dom0.unwatch("/elsewhere/" + std::to_string(i), "t"), "OK");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
