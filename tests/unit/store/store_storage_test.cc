// The storage waist, on every storage there is without a disk.
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <random>

#include <gtest/gtest.h>

#include "spawner/store/map_storage.h"
#include "spawner/store/memory_storage.h"

namespace synfluid::spawner::store {
namespace {

const std::vector<Permission> kControl{{DomId(0), Access::kNone}};
const std::vector<Permission> kGuest{{DomId(7), Access::kNone}, {DomId(0), Access::kRead}};

template <class Kind>
class StorageTest : public testing::Test {
 protected:
  StorageTest() { create("/", "", kControl); }

  void create(std::string_view path, std::string_view value, const std::vector<Permission>& permissions) {
    apply({.kind = ChangeKind::kCreate, .path = path, .value = value, .permissions = permissions});
  }
  void erase(std::string_view path) { apply({.kind = ChangeKind::kErase, .path = path}); }
  void apply(const Change& change) { ASSERT_TRUE(storage.apply({&change, 1})); }
  std::string list(std::string_view path, size_t offset = 0, size_t max_bytes = 4096) {
    std::string out;
    complete = storage.list_children(path, offset, max_bytes, out);
    std::ranges::replace(out, '\0', ' ');
    return out;
  }

  Kind storage;
  bool complete = false;
};

using Kinds = testing::Types<MemoryStorage, MapStorage>;
TYPED_TEST_SUITE(StorageTest, Kinds);

TYPED_TEST(StorageTest, ANodeIsFoundWithAllThatItWasMadeWith) {
  this->create("/a", "one", kGuest);
  const auto node = this->storage.find("/a");
  ASSERT_TRUE(node);
  EXPECT_EQ(node->value, "one");
  EXPECT_TRUE(std::ranges::equal(node->permissions, kGuest));
  EXPECT_EQ(node->children, 0u);
  EXPECT_FALSE(this->storage.find("/b"));
  EXPECT_FALSE(this->storage.find("/a/b"));
  EXPECT_EQ(this->storage.find("/")->children, 1u);
  EXPECT_EQ(this->storage.find("/")->children_bytes, 2u);
}

TYPED_TEST(StorageTest, ValuesGrowAndShrinkInPlace) {
  this->create("/a", "", kControl);
  for (const size_t bytes : {0u, 1u, 13u, 4000u, 17u, 4096u, 0u, 200u}) {
    const std::string value(bytes, 'x');
    this->apply({.kind = ChangeKind::kSetValue, .path = "/a", .value = value});
    EXPECT_EQ(this->storage.find("/a")->value, value);
  }
}

TYPED_TEST(StorageTest, EachPartHasAGenerationOfItsOwn) {
  this->create("/a", "one", kControl);
  const Generations before = this->storage.find("/a")->generations;
  this->apply({.kind = ChangeKind::kSetValue, .path = "/a", .value = "two"});
  const Generations valued = this->storage.find("/a")->generations;
  EXPECT_GT(valued.value, before.value);
  EXPECT_EQ(valued.permissions, before.permissions);
  EXPECT_EQ(valued.children, before.children);
  this->create("/a/b", "", kControl);
  const Generations parent = this->storage.find("/a")->generations;
  EXPECT_GT(parent.children, valued.children);
  EXPECT_EQ(parent.value, valued.value);
  this->apply({.kind = ChangeKind::kSetPermissions, .path = "/a", .permissions = kGuest});
  EXPECT_GT(this->storage.find("/a")->generations.permissions, parent.permissions);
}

TYPED_TEST(StorageTest, ANodeMadeAnewIsNotTakenForTheOldOne) {
  this->create("/a", "one", kControl);
  const Generations before = this->storage.find("/a")->generations;
  this->erase("/a");
  this->create("/a", "one", kControl);
  EXPECT_GT(this->storage.find("/a")->generations.value, before.value);
}

TYPED_TEST(StorageTest, ErasingTakesAllBelow) {
  for (const char* path : {"/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e", "/ab"})
    this->create(path, "v", kControl);
  this->erase("/a");
  for (const char* path : {"/a", "/a/b", "/a/b/c", "/a/b/d", "/a/e"}) EXPECT_FALSE(this->storage.find(path));
  EXPECT_TRUE(this->storage.find("/ab"));
  EXPECT_EQ(this->list("/"), "ab ");
  EXPECT_EQ(this->storage.size(), 2u);
  EXPECT_EQ(this->storage.usage(DomId(0)).nodes, 2u);
}

TYPED_TEST(StorageTest, ChildrenAreListedInTheOrderOfTheirMakingAndInParts) {
  for (const char* path : {"/one", "/two", "/three", "/four"}) this->create(path, "", kControl);
  EXPECT_EQ(this->list("/"), "one two three four ");
  EXPECT_TRUE(this->complete);
  EXPECT_EQ(this->list("/", 0, 9), "one two ");
  EXPECT_FALSE(this->complete);
  EXPECT_EQ(this->list("/", 8, 9), "three ");
  EXPECT_EQ(this->list("/", 14, 9), "four ");
  EXPECT_TRUE(this->complete);
  EXPECT_EQ(this->list("/", 19, 9), "");
  EXPECT_TRUE(this->complete);
  EXPECT_EQ(this->list("/", 5, 100), "wo three four ");
  EXPECT_EQ(this->list("/", 0, 3), "");
  EXPECT_FALSE(this->complete);
  this->erase("/two");
  EXPECT_EQ(this->list("/", 4, 100), "three four ");
}

TYPED_TEST(StorageTest, NodesThatNameADomainAreFound) {
  this->create("/a", "v", kGuest);
  this->create("/a/b", "", kGuest);
  this->create("/c", "", kControl);
  EXPECT_EQ(this->storage.paths_naming(DomId(7)), (std::vector<std::string>{"/a", "/a/b"}));
  EXPECT_EQ(this->storage.usage(DomId(7)).nodes, 2u);
  EXPECT_EQ(this->storage.usage(DomId(7)).bytes, 2 * (kNodeChargeBytes + kPermissionChargeBytes) + 7)
      << "paths, values, entries after the first";
  this->apply({.kind = ChangeKind::kSetPermissions, .path = "/a", .permissions = kControl});
  EXPECT_EQ(this->storage.paths_naming(DomId(7)), (std::vector<std::string>{"/a/b"}));
  this->erase("/a");
  EXPECT_TRUE(this->storage.paths_naming(DomId(7)).empty());
  EXPECT_EQ(this->storage.usage(DomId(7)), Usage());
}

TYPED_TEST(StorageTest, SpecialNodesStandApart) {
  this->create("@releaseDomain", "", kGuest);
  EXPECT_TRUE(this->storage.find("@releaseDomain"));
  EXPECT_EQ(this->list("/"), "");
  EXPECT_FALSE(this->storage.find("/@releaseDomain"));
  EXPECT_EQ(this->storage.paths_naming(DomId(7)), (std::vector<std::string>{"@releaseDomain"}));
}

TYPED_TEST(StorageTest, AWalkMeetsEveryNodeOnce) {
  for (const char* path : {"/a", "/a/b", "/a/b/c", "/d"}) this->create(path, path, kControl);
  this->create("@x", "special", kControl);
  std::map<std::string, std::string> met;
  this->storage.for_each([&](std::string_view path, const NodeView& node) {
    if (path != "/" && path[0] != '@') {
      EXPECT_TRUE(met.contains(std::string(parent_of(path)))) << path;
    }
    EXPECT_TRUE(met.emplace(path, node.value).second) << path;
  });
  EXPECT_EQ(met.size(), 6u);
  EXPECT_EQ(met["@x"], "special");
  std::vector<std::string> below;
  this->storage.for_each_below("/a",
                               [&](std::string_view path, const NodeView&) { below.emplace_back(path); });
  EXPECT_EQ(below, (std::vector<std::string>{"/a/b/c", "/a/b", "/a"}));
}

std::string name_at(std::mt19937_64& random) {
  static const char* kNames[] = {"a", "b", "c", "state", "backend-id", "a-long-name-that-fills-words"};
  return kNames[random() % std::size(kNames)];
}

/// Each storage after the same random changes looks the same, whatever one asks.
TEST(StorageComparison, MemoryAndMapAgreeAfterRandomChanges) {
  for (const uint64_t seed : {1u, 2u, 3u, 4u}) {
    std::cout << "seed " << seed << "\n";
    std::mt19937_64 random(seed);
    MemoryStorage memory;
    MapStorage map;
    const std::vector<std::vector<Permission>> sets{kControl, kGuest, {{DomId(3), Access::kReadWrite}}};
    const auto both = [&](const Change& change) {
      ASSERT_TRUE(memory.apply({&change, 1}));
      ASSERT_TRUE(map.apply({&change, 1}));
    };
    both({.kind = ChangeKind::kCreate, .path = "/", .permissions = kControl});
    for (int step = 0; step < 4000; ++step) {
      std::string path;
      for (size_t depth = 1 + random() % 4; depth > 0; --depth) path += "/" + name_at(random);
      const auto& permissions = sets[random() % sets.size()];
      const std::string value(random() % 60, static_cast<char>('a' + random() % 26));
      if (!map.find(path)) {
        if (map.find(parent_of(path)))
          both({.kind = ChangeKind::kCreate, .path = path, .value = value, .permissions = permissions});
      } else {
        switch (random() % 8) {
          case 0:
          case 1:
            both({.kind = ChangeKind::kErase, .path = path});
            break;
          case 2:
            both({.kind = ChangeKind::kSetPermissions, .path = path, .permissions = permissions});
            break;
          default:
            both({.kind = ChangeKind::kSetValue, .path = path, .value = value});
        }
      }
      if (step % 97 != 0) continue;
      ASSERT_EQ(memory.size(), map.size());
      map.for_each([&](std::string_view at, const NodeView& node) {
        const auto same = memory.find(at);
        ASSERT_TRUE(same) << at;
        EXPECT_EQ(same->value, node.value);
        EXPECT_TRUE(std::ranges::equal(same->permissions, node.permissions));
        EXPECT_EQ(same->generations, node.generations);
        EXPECT_EQ(same->children, node.children);
        EXPECT_EQ(same->children_bytes, node.children_bytes);
        std::string from_memory;
        std::string from_map;
        const size_t offset = random() % (node.children_bytes + 2);
        const size_t room = random() % 40;
        EXPECT_EQ(memory.list_children(at, offset, room, from_memory),
                  map.list_children(at, offset, room, from_map));
        EXPECT_EQ(from_memory, from_map) << at << " " << offset << " " << room;
      });
      for (const uint16_t domid : std::initializer_list<uint16_t>{0, 3, 7}) {
        EXPECT_EQ(memory.usage(DomId(domid)), map.usage(DomId(domid)));
        EXPECT_EQ(memory.paths_naming(DomId(domid)), map.paths_naming(DomId(domid)));
      }
    }
  }
}

/// The tree of so many guests with one vif each, as a toolstack leaves it.
void make_guests(MemoryStorage& storage, uint16_t guests) {
  const auto create = [&](const std::string& path, const std::string& value,
                          const std::vector<Permission>& permissions) {
    const Change change{
        .kind = ChangeKind::kCreate, .path = path, .value = value, .permissions = permissions};
    ASSERT_TRUE(storage.apply({&change, 1}));
  };
  for (const char* path : {"/", "/local", "/local/domain", "/local/domain/0", "/local/domain/0/backend",
                           "/local/domain/0/backend/vif"})
    create(path, "", kControl);
  for (uint16_t guest = 1; guest <= guests; ++guest) {
    const std::string id = std::to_string(guest);
    const std::string home = "/local/domain/" + id;
    const std::string back = "/local/domain/0/backend/vif/" + id;
    const std::vector<Permission> readable{{DomId(0), Access::kNone}, {DomId(guest), Access::kRead}};
    const std::vector<Permission> own{{DomId(guest), Access::kNone}, {DomId(0), Access::kRead}};
    create(home, "", readable);
    for (const char* name : {"/name", "/domid"}) create(home + name, "synfluid-" + id, readable);
    for (const char* name : {"/device", "/device/vif", "/device/vif/0"}) create(home + name, "", own);
    create(home + "/device/vif/0/backend", back + "/0", own);
    for (const char* name : {"/backend-id", "/handle", "/state"})
      create(home + "/device/vif/0" + name, "0", own);
    create(home + "/device/vif/0/mac", "00:16:3e:00:00:01", own);
    create(back, "", readable);
    create(back + "/0", "", readable);
    create(back + "/0/frontend", home + "/device/vif/0", readable);
    for (const char* name : {"/frontend-id", "/handle", "/state"}) create(back + "/0" + name, id, readable);
  }
}

TEST(MemoryStorageSize, AHundredThousandNodesTakeAtMost256BytesEach) {
  MemoryStorage storage;
  make_guests(storage, 6000);
  const double per_node = static_cast<double>(storage.bytes()) / static_cast<double>(storage.size());
  std::cout << storage.size() << " nodes, " << per_node << " bytes a node\n";
  EXPECT_GT(storage.size(), 100'000u);
  EXPECT_LE(per_node, 256.0);
  EXPECT_GE(per_node, 64.0) << "less than the nodes themselves";
}

TEST(MemoryStorageSize, WhatIsErasedIsGivenBack) {
  MemoryStorage storage;
  make_guests(storage, 200);
  const size_t nodes = storage.size();
  const size_t bytes = storage.bytes();
  for (int round = 0; round < 20; ++round) {
    for (const char* path : {"/local"}) {
      const Change change{.kind = ChangeKind::kErase, .path = path};
      ASSERT_TRUE(storage.apply({&change, 1}));
    }
    EXPECT_EQ(storage.size(), 1u);
    const Change root{.kind = ChangeKind::kErase, .path = "/"};
    ASSERT_TRUE(storage.apply({&root, 1}));
    make_guests(storage, 200);
  }
  EXPECT_EQ(storage.size(), nodes);
  EXPECT_LE(storage.bytes(), bytes + bytes / 10);
}

}  // namespace
}  // namespace synfluid::spawner::store
