// Who may do what: every operation, tried across domains.
#include <gtest/gtest.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

class AccessTest : public testing::Test {
 protected:
  AccessTest() {
    make("/local/domain/7", {"n7"});
    make("/local/domain/8", {"n8"});
    make("/dom0-only", {"n0"});
    make("/dom0-only/child", {"n0"});
    make("/readable", {"n0", "r7"});
    make("/readable/child", {"n0", "r7"});
    make("/writable", {"n0", "w7"});
    make("/both", {"n0", "b7"});
    make("/all-read", {"r0"});
    make("/all-write", {"w0"});
    make("/of-eight", {"n8"});
    make("/of-eight-open", {"b8"});
  }
  void make(std::string_view path, std::initializer_list<std::string_view> permissions) {
    ASSERT_EQ(dom0.write(path, "value"), "OK");
    ASSERT_EQ(dom0.set_permissions(path, permissions), "OK");
  }

  /// Everything the guest tries at the path, in and out of a transaction: "read write list …" of what it got.
  std::string allowed_at(const std::string& path) {
    std::string outside = try_all(path, 0);
    const uint32_t transaction = guest.begin();
    const std::string inside = try_all(path, transaction);
    guest.abandon(transaction);
    EXPECT_EQ(inside, outside) << path;
    return outside;
  }
  std::string try_all(const std::string& path, uint32_t transaction) {
    const std::string missing = path + "/missing";
    std::string got;
    const auto note = [&](const char* what, const std::string& answer) {
      if (answer == "!EACCES") return;
      EXPECT_TRUE(answer[0] != '!' || answer == "!ENOENT") << path << " " << what << " " << answer;
      got += std::string(got.empty() ? "" : " ") + what;
    };
    note("read", guest.read(path, transaction));
    note("list", guest.list(path, transaction));
    note("part", guest.ask(Type::kDirectoryPart, fields({path, "0"}), transaction));
    note("perms", guest.permissions(path, transaction));
    note("look-below", guest.read(missing, transaction));
    note("write", guest.write(path, "theirs", transaction));
    note("mkdir", guest.mkdir(path, transaction));
    const std::string made = guest.write(missing, "theirs", transaction);
    note("create", made);
    if (made == "OK") {
      EXPECT_EQ(guest.rm(missing, transaction), "OK");
    } else {
      EXPECT_EQ(guest.rm(missing, transaction), "!EACCES") << path;
    }
    note("set-perms", guest.set_permissions(path, {"n7"}, transaction));
    return got;
  }

  Rig rig;
  Client dom0 = Client::control(rig);
  Client guest = Client::guest(rig, 7);
};

constexpr char kRead[] = "read list part perms look-below";
constexpr char kWrite[] = "write mkdir create";

TEST_F(AccessTest, NothingOfAnotherOwnersWithoutAGrant) {
  for (const char* path :
       {"/dom0-only", "/dom0-only/child", "/tool", "/local", "/local/domain", "/local/domain/8", "/of-eight"})
    EXPECT_EQ(allowed_at(path), "") << path;
  for (const std::string& answer : {guest.read("/"), guest.list("/"), guest.write("/", "x"), guest.rm("/"),
                                    guest.permissions("/"), guest.set_permissions("/", {"b7"})})
    EXPECT_EQ(answer, "!EACCES");
}

TEST_F(AccessTest, ReadersReadAndWritersWrite) {
  EXPECT_EQ(allowed_at("/readable"), kRead);
  EXPECT_EQ(allowed_at("/readable/child"), kRead);
  EXPECT_EQ(allowed_at("/writable"), kWrite);
  EXPECT_EQ(allowed_at("/both"), std::string(kRead) + " " + kWrite);
  EXPECT_EQ(allowed_at("/all-read"), kRead);
  EXPECT_EQ(allowed_at("/all-write"), kWrite);
  EXPECT_EQ(allowed_at("/of-eight-open"), std::string(kRead) + " " + kWrite);
}

TEST_F(AccessTest, OwnersMayEverything) {
  EXPECT_EQ(allowed_at("/local/domain/7"), std::string(kRead) + " " + kWrite + " set-perms");
}

TEST_F(AccessTest, NoGuestWritesUnderADirectoryOfTheControlDomain) {
  EXPECT_EQ(guest.write("/dom0-only/new", "x"), "!EACCES");
  EXPECT_EQ(guest.write("/dom0-only/new/deeper", "x"), "!EACCES");
  EXPECT_EQ(guest.write("/new", "x"), "!EACCES");
  EXPECT_EQ(guest.mkdir("/local/domain/9"), "!EACCES");
  EXPECT_EQ(guest.rm("/dom0-only"), "!EACCES");
  EXPECT_EQ(guest.rm("/readable/child"), "!EACCES");
  EXPECT_EQ(guest.rm("/dom0-only/none"), "!EACCES") << "whether it exists is not told";
  EXPECT_EQ(dom0.list("/dom0-only"), "child ");
}

TEST_F(AccessTest, WhatIsMissingIsToldOnlyToThoseWhoCouldSeeIt) {
  EXPECT_EQ(guest.read("/dom0-only/none"), "!EACCES");
  EXPECT_EQ(guest.read("/readable/none"), "!ENOENT");
  EXPECT_EQ(guest.read("none"), "!ENOENT");
}

TEST_F(AccessTest, AVeryDeepPathIsJudgedByTheNearestNodeThereIs) {
  std::string deep = "/local/domain/7";
  for (int i = 0; i < 900; ++i) deep += "/a";
  EXPECT_EQ(guest.read(deep), "!ENOENT");
  EXPECT_EQ(Client::guest(rig, 8).read(deep), "!EACCES");
  EXPECT_EQ(guest.permissions("@none/below"), "!EACCES");
  std::string made = "/local/domain/7/a/b/c/d/e/f";
  EXPECT_EQ(guest.write(made, "x"), "OK");
  for (const char* more : {"/g", "/g/h", "/g/h/i/j/k/l/m"})
    EXPECT_EQ(guest.read(made + more), "!ENOENT") << more;
  const uint32_t t = guest.begin();
  EXPECT_EQ(guest.read(deep, t), "!ENOENT");
  EXPECT_EQ(guest.write(made + "/g/h", "y", t), "OK");
  EXPECT_EQ(guest.end(t), "OK");
  EXPECT_EQ(dom0.read(made + "/g/h"), "y");
}

TEST_F(AccessTest, AGuestGivesNothingAway) {
  EXPECT_EQ(guest.set_permissions("/local/domain/7", {"n8"}), "!EPERM");
  EXPECT_EQ(guest.set_permissions("/local/domain/7", {"n0"}), "!EPERM");
  EXPECT_EQ(guest.set_permissions("/local/domain/7", {"n7", "r8"}), "OK");
  EXPECT_EQ(guest.set_permissions("/both", {"b7"}), "!EACCES") << "it may write it, but does not own it";
}

TEST_F(AccessTest, AGrantIsForItsDomainAlone) {
  Client eight = Client::guest(rig, 8);
  EXPECT_EQ(eight.read("/readable"), "!EACCES");
  EXPECT_EQ(eight.read("/local/domain/7"), "!EACCES");
  guest.set_permissions("/local/domain/7", {"n7", "r8"});
  EXPECT_EQ(eight.read("/local/domain/7"), "value");
  EXPECT_EQ(eight.write("/local/domain/7", "x"), "!EACCES");
}

TEST_F(AccessTest, AnEntryOfItsOwnGoesBeforeWhatAllMay) {
  make("/but-not-seven", {"b0", "n7"});
  EXPECT_EQ(guest.read("/but-not-seven"), "!EACCES");
  EXPECT_EQ(Client::guest(rig, 8).read("/but-not-seven"), "value");
}

TEST_F(AccessTest, WhatIsForTheControlDomainIsRefusedToGuests) {
  for (const Type type : {Type::kControl, Type::kIntroduce, Type::kRelease, Type::kIsDomainIntroduced,
                          Type::kResume, Type::kSetTarget})
    EXPECT_EQ(guest.ask(type, fields({"7", "1", "1"})), "!EACCES") << to_string(type);
  EXPECT_EQ(guest.ask(Type::kGetDomainPath, fields({"8"})), std::string("/local/domain/8", 16));
  EXPECT_TRUE(rig.domains.calls.empty());
}

TEST_F(AccessTest, AConditionThatChangesBeforeTheEndIsAConflict) {
  const uint32_t t = guest.begin();
  EXPECT_EQ(guest.write("/both", "mine", t), "OK");
  dom0.set_permissions("/both", {"n0"});
  EXPECT_EQ(guest.end(t), "!EAGAIN");
  EXPECT_EQ(dom0.read("/both"), "value");
}

TEST_F(AccessTest, SpecialNodesBelongToTheControlDomain) {
  EXPECT_EQ(guest.set_permissions("@releaseDomain", {"b7"}), "!EACCES");
  EXPECT_EQ(guest.set_permissions("@introduceDomain", {"b7"}), "!EACCES");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
