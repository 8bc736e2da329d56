// Quotas: what is refused, how it is said, and that only the one who takes too much is hurt.
#include <sstream>

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

Quotas small() {
  Quotas quotas;
  quotas.set(Quota::kNodes, 10);
  quotas.set(Quota::kWatches, 4);
  quotas.set(Quota::kTransactions, 3);
  quotas.set(Quota::kOutstanding, 5);
  quotas.set(Quota::kTransactionNodes, 8);
  quotas.set(Quota::kMemory, 8000);
  quotas.set(Quota::kNodeSize, 100);
  quotas.set(Quota::kNodePermissions, 2);
  quotas.set(Quota::kPathLength, 50);
  return quotas;
}

class QuotaTest : public testing::Test {
 protected:
  QuotaTest() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
    for (const char* home : {"/local/domain/7", "/local/domain/8"}) dom0.write(home, "");
    dom0.set_permissions("/local/domain/7", {"n7"});
    dom0.set_permissions("/local/domain/8", {"n8"});
  }
  ~QuotaTest() override { spdlog::set_default_logger(before_); }

  size_t lines_of(const std::string& text) const {
    const std::string log = log_.str();
    size_t lines = 0;
    for (size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++lines;
    return lines;
  }

  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> before_;
  Rig rig{std::make_unique<MemoryStorage>(), small()};
  Client dom0 = Client::control(rig);
  Client guest = Client::guest(rig, 7);
  Client neighbour = Client::guest(rig, 8);
};

TEST_F(QuotaTest, NodesEndAtTheQuotaInAndOutOfTransactions) {
  for (int i = 0; i < 9; ++i) EXPECT_EQ(guest.write("n" + std::to_string(i), ""), "OK");
  EXPECT_EQ(guest.write("more", ""), "!ENOSPC");
  EXPECT_EQ(guest.mkdir("more"), "!ENOSPC");
  const uint32_t t = guest.begin();
  EXPECT_EQ(guest.write("more", "", t), "!ENOSPC");
  guest.abandon(t);
  EXPECT_EQ(guest.write("n1", "still writable"), "OK");
  EXPECT_EQ(neighbour.write("n0", ""), "OK") << "a neighbour is not hurt";
  EXPECT_EQ(guest.rm("n1"), "OK");
  EXPECT_EQ(guest.write("more", ""), "OK");
  EXPECT_GE(lines_of("ENOSPC for domain 7"), 1u);
  EXPECT_EQ(lines_of("domain 8"), 0u);
}

TEST_F(QuotaTest, NodesMadeByTransactionsCountTogether) {
  const uint32_t t = guest.begin();
  const uint32_t u = guest.begin();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(guest.write("t" + std::to_string(i), "", t), "OK");
    EXPECT_EQ(guest.write("u" + std::to_string(i), "", u), "OK");
  }
  EXPECT_EQ(guest.end(t), "OK");
  EXPECT_EQ(guest.end(u), "!ENOSPC");
}

TEST_F(QuotaTest, ADeepPathCountsEachOfItsNodes) {
  EXPECT_EQ(guest.write("a/b/c/d/e/f/g/h/i/j", ""), "!ENOSPC");
  EXPECT_EQ(guest.read("a"), "!ENOENT") << "nothing of it was made";
}

TEST_F(QuotaTest, WatchesEndAtTheQuota) {
  for (int i = 0; i < 4; ++i) EXPECT_EQ(guest.watch("w", std::to_string(i)), "OK");
  EXPECT_EQ(guest.watch("w", "more"), "!E2BIG");
  EXPECT_EQ(neighbour.watch("w", "0"), "OK");
  EXPECT_EQ(guest.unwatch("w", "2"), "OK");
  EXPECT_EQ(guest.watch("w", "more"), "OK");
  EXPECT_GE(lines_of("E2BIG for domain 7"), 1u);
}

TEST_F(QuotaTest, TransactionsEndAtTheQuota) {
  const uint32_t first = guest.begin();
  guest.begin();
  guest.begin();
  EXPECT_EQ(guest.ask(Type::kTransactionStart, fields({""})), "!ENOSPC");
  EXPECT_NE(neighbour.begin(), 0u);
  guest.abandon(first);
  EXPECT_NE(guest.begin(), 0u);
}

TEST_F(QuotaTest, ATransactionTouchesOnlySoManyNodes) {
  const uint32_t t = guest.begin();
  for (int i = 0; i < 20; ++i) guest.read("n" + std::to_string(i), t);
  EXPECT_EQ(guest.read("one-more", t), "!ENOSPC");
  EXPECT_EQ(guest.abandon(t), "OK");
}

TEST_F(QuotaTest, ANodeIsOnlySoLarge) {
  EXPECT_EQ(guest.write("n", std::string(100, 'x')), "OK");
  EXPECT_EQ(guest.write("n", std::string(101, 'x')), "!ENOSPC");
  EXPECT_EQ(guest.write("m", std::string(101, 'x')), "!ENOSPC");
  EXPECT_EQ(guest.mkdir("d/" + std::string(35, 'a')), "OK");
  EXPECT_EQ(guest.mkdir("d/" + std::string(35, 'b')), "OK");
  EXPECT_EQ(guest.mkdir("d/" + std::string(35, 'c')), "!ENOSPC") << "the names of a node's children count";
}

TEST_F(QuotaTest, PermissionsAndPathsAreOnlySoLong) {
  guest.write("n", "");
  EXPECT_EQ(guest.set_permissions("n", {"n7", "r8"}), "OK");
  EXPECT_EQ(guest.set_permissions("n", {"n7", "r8", "r9"}), "!ENOSPC");
  EXPECT_EQ(guest.write(std::string(50, 'a'), ""), "OK");
  EXPECT_EQ(guest.write(std::string(51, 'a'), ""), "!EINVAL");
  EXPECT_EQ(dom0.write("/" + std::string(51, 'a'), ""), "OK");
}

TEST_F(QuotaTest, MemoryEndsAtTheQuota) {
  const uint32_t t = guest.begin();
  std::string answer;
  for (int i = 0; i < 1000 && answer != "!ENOMEM"; ++i)
    answer = guest.write("n", std::string(100, static_cast<char>('a' + i % 26)), t);
  EXPECT_EQ(answer, "!ENOMEM");
  EXPECT_EQ(guest.abandon(t), "OK");
  EXPECT_EQ(guest.write("n", "x"), "OK") << "what the transaction took is given back";
}

/// "a/a/…/a": the nodes of one request.
std::string levels(int count) {
  std::string path = "a";
  for (int i = 1; i < count; ++i) path += "/a";
  return path;
}

TEST(MemoryQuota, CountsWhatDeepPathsAndLongPermissionsTake) {
  Quotas quotas;
  quotas.set(Quota::kMemory, 100'000);
  Rig rig(std::make_unique<MemoryStorage>(), quotas);
  Client dom0 = Client::control(rig);
  Client guest = Client::guest(rig, 7);
  dom0.write("/local/domain/7", "");
  dom0.set_permissions("/local/domain/7", {"n7"});
  EXPECT_EQ(guest.write(levels(400), ""), "!ENOMEM") << "each node keeps its whole path";
  EXPECT_EQ(guest.watch(levels(1000), "1"), "OK");
  EXPECT_EQ(guest.watch(levels(1000), "2"), "!ENOMEM") << "each component is a place of the table";
  guest.unwatch(levels(1000), "1");
  int granted = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string node = "n" + std::to_string(i);
    if (guest.write(node, "") != "OK") break;
    const auto domid = [&](int which) { return "r" + std::to_string(100 + 4 * i + which); };
    if (guest.set_permissions(node, {"n7", domid(0), domid(1), domid(2), domid(3)}) != "OK") break;
    ++granted;
  }
  EXPECT_LT(granted, 170) << "lists of permissions that no other node shares";
  EXPECT_GT(granted, 100);
}

TEST_F(QuotaTest, AGuestThatTakesNoAnswersIsReadNoMore) {
  EXPECT_TRUE(rig.engine->wants_input(guest.id()));
  for (int i = 0; i < 5; ++i) guest.send(Type::kRead, fields({"x"}));
  EXPECT_FALSE(rig.engine->wants_input(guest.id()));
  EXPECT_TRUE(rig.engine->wants_input(neighbour.id()));
  guest.take_answer();
  EXPECT_TRUE(rig.engine->wants_input(guest.id()));
  EXPECT_EQ(rig.outbox.resumed, (std::vector<ConnectionId>{guest.id()}));
}

TEST_F(QuotaTest, EventsToAGuestThatTakesNoneAreBounded) {
  guest.watch("w", "token");
  guest.take_events();
  for (int i = 0; i < 10'000; ++i) dom0.write("/local/domain/7/w", "x");
  EXPECT_LE(rig.outbox.queues[guest.id()].size() * 24, 8000u);
  EXPECT_GT(rig.engine->counters().events_dropped, 9000u);
  EXPECT_LT(lines_of("ENOMEM for domain 7"), 10u) << "and so is the log";
  guest.take_events();
  dom0.write("/local/domain/7/w", "x");
  EXPECT_EQ(guest.take_events().size(), 1u) << "it goes on where it takes them again";
}

TEST_F(QuotaTest, TheLogSaysHowManyLinesWereLeftOut) {
  for (int i = 0; i < 100; ++i) guest.read("/nothing-of-yours");
  EXPECT_EQ(lines_of("EACCES for domain 7"), 5u);
  rig.clock.advance(2 * kNsPerSecond);
  guest.read("/nothing-of-yours");
  EXPECT_EQ(lines_of("95 such lines left out"), 1u);
}

TEST_F(QuotaTest, TheControlDomainHasNone) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(dom0.write("/c/" + std::to_string(i), std::string(500, 'x')), "OK");
    EXPECT_EQ(dom0.watch("/c", std::to_string(i)), "OK");
    EXPECT_NE(dom0.begin(), 0u);
  }
  EXPECT_EQ(log_.str(), "");
}

TEST_F(QuotaTest, WhatADeadDomainTookIsGivenBack) {
  dom0.ask(Type::kIntroduce, fields({"9", "1", "1"}));
  Client ring(rig, rig.domains.rings[DomId(9)]);
  dom0.write("/local/domain/9", "");
  dom0.set_permissions("/local/domain/9", {"n9"});
  for (int i = 0; i < 4; ++i) ring.watch("w", std::to_string(i));
  for (int i = 0; i < 9; ++i) ring.write("n" + std::to_string(i), "");
  ring.begin();
  rig.engine->domain_died(DomId(9));
  EXPECT_EQ(shown(dom0.ask(Type::kControl, fields({"quota", "9"}))),
            "Domain 9:\nnodes            :        0\nwatches          :        0\n"
            "transactions     :        0\nmemory           :        0\n ");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
