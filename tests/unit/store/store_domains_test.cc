// INTRODUCE, RELEASE, RESUME, SET_TARGET, IS_DOMAIN_INTRODUCED, GET_DOMAIN_PATH, special watches, CONTROL,
// and what a successor takes over.
#include <gtest/gtest.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

using Events = std::vector<std::string>;
using Calls = std::vector<std::string>;

class DomainsTest : public testing::Test {
 protected:
  std::string introduce(std::string_view domid, std::string_view gfn = "100", std::string_view port = "3") {
    return shown(dom0.ask(Type::kIntroduce, fields({domid, gfn, port})));
  }
  Client ring(uint16_t domid) { return {rig, rig.domains.rings.at(DomId(domid))}; }
  std::string ask(Type type, std::initializer_list<std::string_view> parts) {
    return shown(dom0.ask(type, fields(parts)));
  }
  void make_home(uint16_t domid) {
    const std::string id = std::to_string(domid);
    dom0.write("/local/domain/" + id, "");
    const std::string own = "n" + id;
    dom0.set_permissions("/local/domain/" + id, {own});
  }

  Rig rig;
  Client dom0 = Client::control(rig);
};

TEST_F(DomainsTest, AnIntroducedDomainTalksThroughItsRing) {
  make_home(7);
  EXPECT_EQ(ask(Type::kIsDomainIntroduced, {"7"}), "F ");
  EXPECT_EQ(introduce("7"), "OK ");
  EXPECT_EQ(rig.domains.calls, (Calls{"introduce 7 100 3"}));
  EXPECT_EQ(ask(Type::kIsDomainIntroduced, {"7"}), "T ");
  EXPECT_TRUE(rig.engine->is_introduced(DomId(7)));
  EXPECT_EQ(ring(7).write("data", "x"), "OK");
  EXPECT_EQ(dom0.read("/local/domain/7/data"), "x");
  EXPECT_EQ(ring(7).write("/local/domain/8", "x"), "!EACCES");
}

TEST_F(DomainsTest, BrokenIntroductionsAreRefused) {
  for (const char* domid : {"0", "32752", "65535", "65536", "-1", "x", ""})
    EXPECT_EQ(introduce(domid), "!EINVAL");
  EXPECT_EQ(introduce("7", "x"), "!EINVAL");
  EXPECT_EQ(introduce("7", "1", "0"), "!EINVAL");
  EXPECT_EQ(introduce("7", "1", "-3"), "!EINVAL");
  EXPECT_EQ(ask(Type::kIntroduce, {"7", "1"}), "!EINVAL");
  EXPECT_TRUE(rig.domains.calls.empty());
  EXPECT_EQ(introduce("7", "-5"), "OK ") << "a gfn is signed on the wire";
}

TEST_F(DomainsTest, AFailingIntroductionLeavesNothing) {
  rig.domains.fault = Fault::kEinval;
  EXPECT_EQ(introduce("7"), "!EINVAL");
  EXPECT_FALSE(rig.engine->is_introduced(DomId(7)));
  EXPECT_EQ(ask(Type::kRelease, {"7"}), "!ENOENT");
  rig.domains.fault = Fault::kNone;
  EXPECT_EQ(introduce("7"), "OK ");
}

TEST_F(DomainsTest, IntroducedAgainItBeginsAnew) {
  make_home(7);
  introduce("7");
  Client guest = ring(7);
  guest.watch("x", "t");
  const uint32_t transaction = guest.begin();
  EXPECT_EQ(introduce("7", "200", "9"), "OK ");
  EXPECT_EQ(rig.domains.calls, (Calls{"introduce 7 100 3", "reintroduce 7 200 9"}));
  EXPECT_EQ(guest.read("x", transaction), "!ENOENT");
  guest.take_events();
  dom0.write("/local/domain/7/x", "");
  EXPECT_EQ(guest.take_events(), Events());
}

TEST_F(DomainsTest, ReleaseEndsItAndItsNodes) {
  make_home(7);
  introduce("7");
  ring(7).write("data", "x");
  EXPECT_EQ(ask(Type::kRelease, {"7"}), "OK ");
  EXPECT_EQ(rig.domains.calls.back(), "release 7");
  EXPECT_EQ(ask(Type::kIsDomainIntroduced, {"7"}), "F ");
  EXPECT_EQ(dom0.read("/local/domain/7"), "!ENOENT");
  EXPECT_EQ(ask(Type::kRelease, {"7"}), "!ENOENT");
  EXPECT_EQ(ask(Type::kRelease, {"0"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kRelease, {"x"}), "!EINVAL");
}

TEST_F(DomainsTest, ADeadDomainLosesWhatItOwnedAndWhatItWasGranted) {
  make_home(7);
  introduce("7");
  dom0.write("/backend/vif/7", "x");
  dom0.set_permissions("/backend/vif/7", {"n0", "r7"});
  dom0.write("/shared", "x");
  dom0.set_permissions("/shared", {"n0", "b7", "r8"});
  dom0.set_permissions("@releaseDomain", {"n0", "r7"});
  ring(7).write("a/b", "x");
  rig.engine->domain_died(DomId(7));
  EXPECT_EQ(dom0.read("/local/domain/7"), "!ENOENT");
  EXPECT_EQ(dom0.permissions("/backend/vif/7"), "n0 ");
  EXPECT_EQ(dom0.permissions("/shared"), "n0 r8 ");
  EXPECT_EQ(dom0.permissions("@releaseDomain"), "n0 ");
  introduce("7");
  EXPECT_EQ(ring(7).read("/shared"), "!EACCES") << "the next one with its id inherits nothing";
}

TEST_F(DomainsTest, TheDeathOfADomainNeverIntroducedCleansUpToo) {
  make_home(9);
  rig.engine->domain_died(DomId(9));
  EXPECT_EQ(dom0.read("/local/domain/9"), "!ENOENT");
}

TEST_F(DomainsTest, ArrivalsAndDeparturesAreToldToTheControlDomain) {
  dom0.watch("@introduceDomain", "in");
  dom0.watch("@releaseDomain", "out");
  dom0.watch("@releaseDomain", "out-id", "1");
  dom0.watch("@releaseDomain/7", "seven");
  EXPECT_EQ(dom0.take_events().size(), 4u);
  introduce("7");
  EXPECT_EQ(dom0.take_events(), (Events{"@introduceDomain in "}));
  introduce("7");
  EXPECT_EQ(dom0.take_events(), Events()) << "it is no new domain";
  introduce("8");
  dom0.take_events();
  rig.engine->domain_died(DomId(8));
  EXPECT_EQ(dom0.take_events(), (Events{"@releaseDomain out ", "@releaseDomain/8 out-id "}));
  ask(Type::kRelease, {"7"});
  EXPECT_EQ(dom0.take_events(),
            (Events{"@releaseDomain out ", "@releaseDomain/7 out-id ", "@releaseDomain/7 seven "}));
}

TEST_F(DomainsTest, SpecialEventsReachGuestsOnlyWithPermission) {
  introduce("7");
  Client guest = ring(7);
  EXPECT_EQ(guest.watch("@releaseDomain", "t"), "OK");
  guest.take_events();
  introduce("8");
  rig.engine->domain_died(DomId(8));
  EXPECT_EQ(guest.take_events(), Events());
  dom0.set_permissions("@releaseDomain", {"n0", "r7"});
  guest.take_events();
  introduce("8");
  rig.engine->domain_died(DomId(8));
  EXPECT_EQ(guest.take_events(), (Events{"@releaseDomain t "}));
}

TEST_F(DomainsTest, AShutDownIsToldOnceUntilTheDomainResumes) {
  introduce("7");
  dom0.watch("@releaseDomain", "t");
  dom0.take_events();
  rig.engine->domain_shut_down(DomId(7));
  rig.engine->domain_shut_down(DomId(7));
  EXPECT_EQ(dom0.take_events().size(), 1u);
  EXPECT_TRUE(rig.engine->is_introduced(DomId(7)));
  EXPECT_EQ(ask(Type::kResume, {"7"}), "OK ");
  rig.engine->domain_shut_down(DomId(7));
  EXPECT_EQ(dom0.take_events().size(), 1u);
  EXPECT_EQ(ask(Type::kResume, {"8"}), "!ENOENT");
  EXPECT_EQ(ask(Type::kResume, {"0"}), "!EINVAL");
}

TEST_F(DomainsTest, ATargetLendsItsRights) {
  make_home(7);
  introduce("7");
  introduce("8");
  dom0.write("/granted", "x");
  dom0.set_permissions("/granted", {"n0", "r7"});
  EXPECT_EQ(ring(8).write("/local/domain/7/x", ""), "!EACCES");
  EXPECT_EQ(ask(Type::kSetTarget, {"8", "7"}), "OK ");
  EXPECT_EQ(ring(8).write("/local/domain/7/x", ""), "OK");
  EXPECT_EQ(ring(8).read("/granted"), "x");
  EXPECT_EQ(ask(Type::kSetTarget, {"8", "9"}), "!ENOENT");
  EXPECT_EQ(ask(Type::kSetTarget, {"9", "8"}), "!ENOENT");
  EXPECT_EQ(ask(Type::kSetTarget, {"8"}), "!EINVAL");
  rig.engine->domain_died(DomId(7));
  make_home(7);
  introduce("7");
  EXPECT_EQ(ring(8).write("/local/domain/7/x", ""), "!EACCES")
      << "its target is gone, whoever has the id now";
}

TEST_F(DomainsTest, PathsOfDomainsAreToldToAll) {
  EXPECT_EQ(ask(Type::kGetDomainPath, {"7"}), "/local/domain/7 ");
  EXPECT_EQ(ask(Type::kGetDomainPath, {"007"}), "/local/domain/7 ");
  EXPECT_EQ(ask(Type::kGetDomainPath, {"x"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kIsDomainIntroduced, {"0"}), "T ");
  EXPECT_EQ(ask(Type::kIsDomainIntroduced, {"x"}), "!EINVAL");
}

TEST_F(DomainsTest, ManyDomainsComeAndGo) {
  for (int round = 0; round < 3; ++round) {
    for (int domid = 1; domid <= 2000; ++domid) ASSERT_EQ(introduce(std::to_string(domid)), "OK ");
    EXPECT_EQ(rig.engine->domains().size(), 2000u);
    for (uint16_t domid = 1; domid <= 2000; ++domid) rig.engine->domain_died(DomId(domid));
    EXPECT_TRUE(rig.engine->domains().empty());
  }
}

TEST_F(DomainsTest, ControlCommandsAnswer) {
  EXPECT_NE(ask(Type::kControl, {"help"}).find("memreport"), std::string::npos);
  EXPECT_EQ(ask(Type::kControl, {"check"}), "OK ");
  EXPECT_EQ(ask(Type::kControl, {"log", "on"}), "OK ");
  EXPECT_NE(ask(Type::kControl, {"log"}).find("requests: on"), std::string::npos);
  EXPECT_EQ(ask(Type::kControl, {"log", "off"}), "OK ");
  EXPECT_EQ(ask(Type::kControl, {"log", "maybe"}), "!EINVAL");
  EXPECT_NE(ask(Type::kControl, {"memreport"}).find("nodes: 5"), std::string::npos);
  EXPECT_NE(ask(Type::kControl, {"quota"}).find("nodes            :     1000"), std::string::npos);
  EXPECT_EQ(ask(Type::kControl, {"quota", "set", "nodes", "17"}), "OK ");
  EXPECT_NE(ask(Type::kControl, {"quota"}).find("nodes            :       17"), std::string::npos);
  EXPECT_EQ(ask(Type::kControl, {"quota", "set", "nodes", "0"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kControl, {"quota", "set", "nothing", "1"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kControl, {"quota", "x"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kControl, {"sing"}), "!EINVAL");
  EXPECT_EQ(ask(Type::kControl, {}), "!EINVAL");
}

TEST_F(DomainsTest, ASuccessorGoesOnWhereThePredecessorStopped) {
  make_home(7);
  introduce("7");
  introduce("8");
  ask(Type::kSetTarget, {"8", "7"});
  Client guest = ring(7);
  guest.watch("device", "relative");
  guest.watch("/local/domain/7", "absolute", "2");
  const uint32_t old_transaction = guest.begin();
  guest.write("x", "lost", old_transaction);
  guest.take_events();
  const EngineState state = rig.engine->snapshot();

  rig.engine = std::make_unique<Engine>(EngineConfig{}, *rig.storage, rig.outbox, rig.domains);
  rig.outbox.queues.clear();
  rig.engine->restore(state);
  EXPECT_TRUE(rig.engine->is_introduced(DomId(7)));
  EXPECT_EQ(guest.take_events(), (Events{"device relative ", "/local/domain/7 absolute "}));
  dom0.write("/local/domain/7/device/vif", "1");
  EXPECT_EQ(guest.take_events(), (Events{"/local/domain/7/device/vif absolute ", "device/vif relative "}));
  EXPECT_EQ(ring(8).write("/local/domain/7/by-eight", ""), "OK") << "targets too";

  EXPECT_EQ(guest.write("y", "1", old_transaction), "OK") << "its transaction goes on";
  EXPECT_EQ(guest.end(old_transaction), "!EAGAIN") << "and has to be tried again";
  EXPECT_EQ(guest.read("y"), "!ENOENT");
  const uint32_t t = guest.begin();
  EXPECT_NE(t, old_transaction);
  EXPECT_EQ(guest.write("y", "1", t), "OK");
  EXPECT_EQ(guest.end(t), "OK");
  EXPECT_EQ(rig.engine->snapshot().domains, state.domains);
  EXPECT_EQ(rig.engine->snapshot().connections.size(), state.connections.size());
}

class Recorder final : public StateLog {
 public:
  void domain_changed(const DomainState& domain) override { domains[domain.domid] = domain; }
  void domain_gone(DomId domid) override { domains.erase(domid); }
  void watch_added(ConnectionId connection, const WatchState& watch) override {
    watches[connection].push_back(watch);
  }
  void watch_removed(ConnectionId connection, const WatchState& watch) override {
    std::erase(watches[connection], watch);
    if (watches[connection].empty()) watches.erase(connection);
  }
  std::map<DomId, DomainState> domains;
  std::map<ConnectionId, std::vector<WatchState>> watches;
};

TEST_F(DomainsTest, TheLogKnowsWhatASnapshotKnows) {
  Recorder log;
  rig.engine = std::make_unique<Engine>(EngineConfig{}, *rig.storage, rig.outbox, rig.domains, log);
  dom0 = Client::control(rig);
  dom0.watch("/not-a-ring", "t");
  introduce("7");
  introduce("8");
  ring(7).watch("a", "1");
  ring(7).watch("/b", "2", "3");
  ring(7).watch("c", "3");
  ring(7).unwatch("c", "3");
  ask(Type::kSetTarget, {"8", "7"});
  rig.engine->domain_shut_down(DomId(8));
  const EngineState state = rig.engine->snapshot();
  ASSERT_EQ(log.domains.size(), 2u);
  for (const DomainState& domain : state.domains) EXPECT_EQ(log.domains[domain.domid], domain);
  ASSERT_EQ(log.watches.size(), 1u);
  EXPECT_EQ(log.watches.begin()->second, (std::vector<WatchState>{{.path = "a", .token = "1", .depth = {}},
                                                                  {.path = "/b", .token = "2", .depth = 3}}));
  rig.engine->domain_died(DomId(7));
  EXPECT_TRUE(log.watches.empty());
  EXPECT_EQ(log.domains.size(), 1u);
  EXPECT_EQ(log.domains[DomId(8)].target, std::nullopt);
}

TEST_F(DomainsTest, TheControlDomainsOwnRingIsAdopted) {
  const ConnectionId id = rig.engine->adopt_domain(DomId(0), EventPort(5), Privilege::kControl);
  Client kernel(rig, id);
  EXPECT_EQ(kernel.write("/anything", "x"), "OK");
  EXPECT_EQ(kernel.write("relative", "x"), "OK");
  EXPECT_EQ(dom0.read("/local/domain/0/relative"), "x");
  EXPECT_TRUE(rig.domains.calls.empty());
}

TEST_F(DomainsTest, AResetRingBeginsAnew) {
  introduce("7");
  make_home(7);
  Client guest = ring(7);
  guest.watch("x", "t");
  const uint32_t transaction = guest.begin();
  guest.take_events();
  rig.engine->reset(guest.id());
  dom0.write("/local/domain/7/x", "");
  EXPECT_EQ(guest.take_events(), Events());
  EXPECT_EQ(guest.read("x", transaction), "!ENOENT");
  EXPECT_EQ(guest.read("x"), "");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
