// READ, WRITE, MKDIR, RM, DIRECTORY, DIRECTORY_PART, GET_PERMS, SET_PERMS.
#include <set>

#include <gtest/gtest.h>

#include "tests/unit/store/store_rig.h"

namespace synfluid::spawner::store::test {
namespace {

class NodesTest : public testing::Test {
 protected:
  Rig rig;
  Client dom0 = Client::control(rig);
  Client guest = Client::guest(rig, 7);
};

TEST_F(NodesTest, AnEmptyStoreHasTheToolNode) {
  EXPECT_EQ(dom0.list("/"), "tool ");
  EXPECT_EQ(dom0.list("/tool"), "xenstored ");
  EXPECT_EQ(dom0.read("/tool/xenstored"), "");
  EXPECT_EQ(dom0.permissions("/"), "n0 ");
  EXPECT_EQ(dom0.permissions("@releaseDomain"), "n0 ");
}

TEST_F(NodesTest, WhatWasWrittenIsRead) {
  EXPECT_EQ(dom0.write("/a", "one"), "OK");
  EXPECT_EQ(dom0.read("/a"), "one");
  EXPECT_EQ(dom0.write("/a", ""), "OK");
  EXPECT_EQ(dom0.read("/a"), "");
  const std::string binary("\0\1\xff\0", 4);
  EXPECT_EQ(dom0.write("/a", binary), "OK");
  EXPECT_EQ(dom0.read("/a"), binary);
  EXPECT_EQ(dom0.write("/a", std::string(4000, 'x')), "OK");
  EXPECT_EQ(dom0.read("/a"), std::string(4000, 'x'));
}

TEST_F(NodesTest, RepliesCarryTheRequestsNumbers) {
  dom0.send(Type::kRead, fields({"/tool"}));
  dom0.send(Type::kRead, fields({"/missing"}));
  const auto& queue = rig.outbox.queues[dom0.id()];
  ASSERT_EQ(queue.size(), 2u);
  EXPECT_EQ(queue[0].header,
            (Header{.type = Type::kRead, .request_id = 1, .transaction_id = 0, .length = 0}));
  EXPECT_EQ(queue[1].header,
            (Header{.type = Type::kError, .request_id = 2, .transaction_id = 0, .length = 7}));
  EXPECT_EQ(queue[1].payload, std::string_view("ENOENT", 7));
}

TEST_F(NodesTest, WriteMakesTheParentsThatAreMissing) {
  EXPECT_EQ(dom0.write("/a/b/c", "deep"), "OK");
  EXPECT_EQ(dom0.read("/a"), "");
  EXPECT_EQ(dom0.list("/a"), "b ");
  EXPECT_EQ(dom0.read("/a/b/c"), "deep");
}

TEST_F(NodesTest, MkdirKeepsWhatIsThere) {
  EXPECT_EQ(dom0.mkdir("/a/b"), "OK");
  EXPECT_EQ(dom0.read("/a/b"), "");
  EXPECT_EQ(dom0.write("/a/b", "kept"), "OK");
  EXPECT_EQ(dom0.mkdir("/a/b"), "OK");
  EXPECT_EQ(dom0.read("/a/b"), "kept");
  EXPECT_EQ(dom0.ask(Type::kMkdir, fields({"/a", "x"})), "!EINVAL");
}

TEST_F(NodesTest, RmTakesAllBelowAndForgivesWhatIsMissing) {
  dom0.write("/a/b/c", "x");
  EXPECT_EQ(dom0.rm("/a"), "OK");
  EXPECT_EQ(dom0.read("/a/b/c"), "!ENOENT");
  EXPECT_EQ(dom0.rm("/a"), "OK") << "the root is its parent, and is there";
  EXPECT_EQ(dom0.rm("/a/b/c"), "!ENOENT") << "its parent is not there";
  EXPECT_EQ(dom0.rm("/"), "!EINVAL");
  EXPECT_EQ(dom0.rm("@releaseDomain"), "!EINVAL");
}

TEST_F(NodesTest, BrokenPathsAreRefused) {
  for (const char* path : {"", "/a/", "//a", "/a//b", "/a b", "/\t", "@releaseDomain"}) {
    EXPECT_EQ(dom0.read(path), "!EINVAL") << path;
    EXPECT_EQ(dom0.write(path, "x"), "!EINVAL") << path;
    EXPECT_EQ(dom0.mkdir(path), "!EINVAL") << path;
    EXPECT_EQ(dom0.rm(path), "!EINVAL") << path;
    EXPECT_EQ(dom0.list(path), "!EINVAL") << path;
  }
  EXPECT_EQ(dom0.read("/" + std::string(kMaxAbsolutePath, 'a')), "!EINVAL");
}

TEST_F(NodesTest, BrokenPayloadsAreRefused) {
  for (const Type type :
       {Type::kRead, Type::kWrite, Type::kMkdir, Type::kRm, Type::kDirectory, Type::kGetPerms,
        Type::kSetPerms, Type::kDirectoryPart, Type::kWatch, Type::kUnwatch}) {
    EXPECT_EQ(dom0.ask(type, ""), "!EINVAL");
    EXPECT_EQ(dom0.ask(type, "/no-nul"), "!EINVAL");
  }
  EXPECT_EQ(dom0.ask(Type::kRead, fields({"/tool", ""})), "!EINVAL");
}

TEST_F(NodesTest, UnknownTypesAreNotImplemented) {
  for (const uint32_t type : {15u, 16u, 20u, 23u, 99u, 65535u, UINT32_MAX})
    EXPECT_EQ(dom0.ask(static_cast<Type>(type), fields({"/"})), "!ENOSYS") << type;
}

TEST_F(NodesTest, RelativePathsBeginAtTheDomainsHome) {
  dom0.write("/local/domain/7", "");
  dom0.set_permissions("/local/domain/7", {"n7"});
  EXPECT_EQ(guest.write("data/x", "mine"), "OK");
  EXPECT_EQ(dom0.read("/local/domain/7/data/x"), "mine");
  EXPECT_EQ(guest.list("data"), "x ");
}

TEST_F(NodesTest, DirectoryOfTooManyChildrenSaysSo) {
  for (int i = 0; i < 1000; ++i) dom0.write("/many/child" + std::to_string(i), "");
  EXPECT_EQ(dom0.list("/many"), "!E2BIG");
}

TEST_F(NodesTest, DirectoryPartGivesTheWholeListInParts) {
  std::string expected;
  for (int i = 0; i < 1500; ++i) {
    const std::string name = "child" + std::to_string(i);
    dom0.write("/many/" + name, "");
    expected += name + " ";
  }
  std::string all;
  std::string generation;
  for (;;) {
    const std::string part = dom0.ask(Type::kDirectoryPart, fields({"/many", std::to_string(all.size())}));
    ASSERT_LE(part.size(), kMaxPayload);
    const size_t end = part.find('\0');
    if (generation.empty()) generation = part.substr(0, end);
    EXPECT_EQ(part.substr(0, end), generation);
    const std::string names = part.substr(end + 1);
    const bool last = names.ends_with(std::string_view("\0\0", 2));
    all += shown(last ? names.substr(0, names.size() - 1) : names);
    if (last) break;
  }
  EXPECT_EQ(all, expected);
  dom0.write("/many/another", "");
  const std::string later = dom0.ask(Type::kDirectoryPart, fields({"/many", "0"}));
  EXPECT_NE(later.substr(0, later.find('\0')), generation);
}

TEST_F(NodesTest, DirectoryPartTellsEveryChangeOfTheNode) {
  const auto generation = [&] { return shown(dom0.ask(Type::kDirectoryPart, fields({"/a", "0"}))); };
  std::set<std::string> seen;
  dom0.mkdir("/a");
  seen.insert(generation());
  dom0.write("/a", "value");
  seen.insert(generation());
  dom0.set_permissions("/a", {"n0", "r7"});
  seen.insert(generation());
  EXPECT_EQ(seen.size(), 3u);
  dom0.write("/b", "");
  EXPECT_TRUE(seen.contains(generation())) << "another node is another matter";
}

TEST_F(NodesTest, DirectoryPartBeyondTheEndIsEmpty) {
  const std::string part = dom0.ask(Type::kDirectoryPart, fields({"/tool/xenstored", "0"}));
  EXPECT_EQ(part.substr(part.find('\0')), std::string_view("\0\0", 2));
  EXPECT_EQ(dom0.ask(Type::kDirectoryPart, fields({"/tool", "x"})), "!EINVAL");
  EXPECT_EQ(dom0.ask(Type::kDirectoryPart, fields({"/tool"})), "!EINVAL");
  EXPECT_EQ(dom0.ask(Type::kDirectoryPart, fields({"/none", "0"})), "!ENOENT");
}

TEST_F(NodesTest, PermissionsAreSetWhole) {
  dom0.write("/a", "");
  EXPECT_EQ(dom0.set_permissions("/a", {"n7", "r8", "b9", "w10"}), "OK");
  EXPECT_EQ(dom0.permissions("/a"), "n7 r8 b9 w10 ");
  EXPECT_EQ(dom0.set_permissions("/a", {"x7"}), "!EINVAL");
  EXPECT_EQ(dom0.set_permissions("/a", {}), "!EINVAL");
  EXPECT_EQ(dom0.set_permissions("/none", {"n0"}), "!ENOENT");
  EXPECT_EQ(dom0.permissions("/none"), "!ENOENT");
  EXPECT_EQ(dom0.permissions("/a"), "n7 r8 b9 w10 ");
}

TEST_F(NodesTest, NewNodesInheritPermissionsAndGuestsOwnTheirs) {
  dom0.write("/home", "");
  dom0.set_permissions("/home", {"b0", "r8"});
  dom0.write("/home/by-dom0", "");
  EXPECT_EQ(dom0.permissions("/home/by-dom0"), "b0 r8 ");
  EXPECT_EQ(guest.write("/home/by-guest/deep", ""), "OK");
  EXPECT_EQ(dom0.permissions("/home/by-guest"), "b7 r8 ");
  EXPECT_EQ(dom0.permissions("/home/by-guest/deep"), "b7 r8 ");
}

TEST_F(NodesTest, SpecialNodesHavePermissionsAlone) {
  EXPECT_EQ(dom0.set_permissions("@releaseDomain", {"n0", "r7"}), "OK");
  EXPECT_EQ(guest.permissions("@releaseDomain"), "n0 r7 ");
  EXPECT_EQ(guest.permissions("@introduceDomain"), "!EACCES");
  EXPECT_EQ(dom0.permissions("@noSuchThing"), "!ENOENT");
}

}  // namespace
}  // namespace synfluid::spawner::store::test
