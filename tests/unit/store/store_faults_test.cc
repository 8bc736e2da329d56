// A storage that fails: the client is told, nothing has changed, and it goes on.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include "spawner/store/faulty_storage.h"
#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

class FaultsTest : public testing::Test {
 protected:
  FaultsTest() {
    spdlog::set_level(spdlog::level::off);
    auto storage = std::make_unique<FaultyStorage>(nodes);
    faults = storage.get();
    rig = std::make_unique<Rig>(std::move(storage));
    dom0 = std::make_unique<Client>(Client::control(*rig));
    dom0->write("/a", "old");
    dom0->watch("/", "t");
    dom0->take_events();
  }
  ~FaultsTest() override { spdlog::set_level(spdlog::level::info); }

  MemoryStorage nodes;
  FaultyStorage* faults = nullptr;
  std::unique_ptr<Rig> rig;
  std::unique_ptr<Client> dom0;
};

TEST_F(FaultsTest, EveryChangeThatIsLostIsAnsweredWithAnError) {
  const size_t before = nodes.size();
  faults->fail(6);
  EXPECT_EQ(dom0->write("/a", "new"), "!EIO");
  EXPECT_EQ(dom0->write("/b/c", "new"), "!EIO");
  EXPECT_EQ(dom0->mkdir("/d"), "!EIO");
  EXPECT_EQ(dom0->set_permissions("/a", {"r0"}), "!EIO");
  EXPECT_TRUE(dom0->take_events().empty());
  EXPECT_EQ(dom0->rm("/a"), "!EIO");
  const uint32_t t = dom0->begin();
  dom0->write("/a", "new", t);
  dom0->write("/e", "new", t);
  EXPECT_EQ(dom0->end(t), "!EIO");
  EXPECT_EQ(dom0->read("/a"), "old");
  EXPECT_EQ(dom0->permissions("/a"), "n0 ");
  EXPECT_EQ(nodes.size(), before);
  EXPECT_EQ(dom0->write("/a", "new"), "OK");
  EXPECT_EQ(dom0->read("/a"), "new");
}

TEST_F(FaultsTest, ADomainsEndIsToldEvenIfItsNodesCannotBeErased) {
  dom0->write("/local/domain/7", "");
  dom0->set_permissions("/local/domain/7", {"n7"});
  dom0->ask(Type::kIntroduce, fields({"7", "1", "1"}));
  dom0->watch("@releaseDomain", "gone");
  dom0->take_events();
  faults->fail(1);
  rig->engine->domain_died(DomId(7));
  EXPECT_FALSE(rig->engine->is_introduced(DomId(7)));
  EXPECT_EQ(dom0->take_events().back(), "@releaseDomain gone ");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
