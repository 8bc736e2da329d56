#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "spawner/store/lmdb_storage.h"
#include "spawner/store/map_storage.h"
#include "spawner/store/persistence.h"

namespace synfluid::spawner::store {
namespace {

class LmdbTest : public ::testing::Test {
 protected:
  LmdbTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "store-lmdb-XXXXXX";
    folder_ = mkdtemp(pattern.data());
    path_ = folder_ + "/tree";
  }
  ~LmdbTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<LmdbFile> open_file() {
    auto file = LmdbFile::open(path_);
    EXPECT_TRUE(file) << (file ? "" : file.error().text());
    return file ? std::move(*file) : nullptr;
  }
  static std::unique_ptr<LmdbStorage> open_storage(LmdbFile& file) {
    auto storage = LmdbStorage::open(file, std::make_unique<MapStorage>());
    EXPECT_TRUE(storage) << (storage ? "" : storage.error().text());
    return storage ? std::move(*storage) : nullptr;
  }

  std::string folder_;
  std::string path_;
};

using Contents = std::map<std::string, std::pair<std::string, std::vector<Permission>>>;

Contents contents_of(const Storage& storage) {
  Contents contents;
  storage.for_each([&](std::string_view path, const NodeView& node) {
    contents[std::string(path)] = {std::string(node.value),
                                   {node.permissions.begin(), node.permissions.end()}};
  });
  return contents;
}

const std::vector<Permission> kOwner = {{DomId(0), Access::kNone}};
const std::vector<Permission> kShared = {{DomId(3), Access::kRead}, {DomId(5), Access::kReadWrite}};

Change create(std::string_view path, std::string_view value = "") {
  return {.kind = ChangeKind::kCreate, .path = path, .value = value, .permissions = kOwner};
}

TEST_F(LmdbTest, NodesAreThereAgainInTheOrderOfTheirCreation) {
  {
    const auto file = open_file();
    const auto storage = open_storage(*file);
    const Change changes[] = {
        create("/"),
        create("/zebra", "1"),
        create("/ant", std::string_view("\0b", 2)),
        {.kind = ChangeKind::kSetPermissions, .path = "/ant", .value = {}, .permissions = kShared}};
    ASSERT_TRUE(storage->apply(changes));
  }
  const auto file = open_file();
  const auto storage = open_storage(*file);
  std::string names;
  EXPECT_TRUE(storage->list_children("/", 0, 100, names));
  EXPECT_EQ(names, std::string("zebra\0ant\0", 10));
  EXPECT_EQ(storage->find("/ant")->value, std::string_view("\0b", 2));
  EXPECT_EQ(std::vector<Permission>(storage->find("/ant")->permissions.begin(),
                                    storage->find("/ant")->permissions.end()),
            kShared);
}

TEST_F(LmdbTest, PathsTooLongForAKeyAreKeptAndErasedToo) {
  const std::string name(400, 'n');
  const std::string first = "/" + name, second = first + "/" + name, third = second + "/" + name;
  {
    const auto file = open_file();
    const auto storage = open_storage(*file);
    const Change changes[] = {create("/"), create(first), create(second, "two"), create(third, "three")};
    ASSERT_TRUE(storage->apply(changes));
  }
  {
    const auto file = open_file();
    const auto storage = open_storage(*file);
    EXPECT_EQ(storage->find(third)->value, "three");
    const Change changes[] = {{.kind = ChangeKind::kErase, .path = second, .value = {}, .permissions = {}}};
    ASSERT_TRUE(storage->apply(changes));
  }
  const auto file = open_file();
  EXPECT_EQ(contents_of(*open_storage(*file)).size(), 2u);
}

TEST_F(LmdbTest, ErasingTakesWhatIsBelowAndNothingBeside) {
  const auto file = open_file();
  {
    const auto storage = open_storage(*file);
    const Change changes[] = {create("/"),    create("/a"),  create("/a/b"),
                              create("/a-b"), create("/a0"), create("/ab")};
    ASSERT_TRUE(storage->apply(changes));
    const Change erase[] = {{.kind = ChangeKind::kErase, .path = "/a", .value = {}, .permissions = {}}};
    ASSERT_TRUE(storage->apply(erase));
  }
  const Contents left = contents_of(*open_storage(*file));
  EXPECT_EQ(left.size(), 4u);
  EXPECT_TRUE(left.contains("/a-b"));
  EXPECT_TRUE(left.contains("/a0"));
}

/// Random trees, held against the reference and read again.
TEST_F(LmdbTest, WhatIsReadAgainIsWhatWasWritten) {
  const unsigned seed = 4711;
  std::mt19937 random(seed);
  SCOPED_TRACE(seed);
  auto file = open_file();
  auto storage = open_storage(*file);
  const Change root[] = {create("/")};
  ASSERT_TRUE(storage->apply(root));
  std::vector<std::string> paths = {"/"};
  for (int i = 0; i < 1'500; ++i) {
    const std::string at = paths[random() % paths.size()];
    const std::string value(random() % 40, static_cast<char>(random()));
    const auto kind = static_cast<ChangeKind>(random() % 4);
    Change change{.kind = kind, .path = at, .value = value, .permissions = kShared};
    std::string child = (at == "/" ? "/" : at + "/") + std::to_string(i);
    if (kind == ChangeKind::kCreate) change.path = child;
    if (kind == ChangeKind::kErase && (at == "/" || random() % 4 != 0)) continue;
    ASSERT_TRUE(storage->apply({&change, 1}));
    if (kind == ChangeKind::kCreate) paths.push_back(child);
    if (kind == ChangeKind::kErase)
      std::erase_if(paths, [&](const std::string& path) { return is_at_or_below(path, at); });
  }
  const Contents before = contents_of(*storage);
  EXPECT_EQ(before.size(), paths.size());
  storage.reset();
  file.reset();
  file = open_file();
  EXPECT_EQ(contents_of(*open_storage(*file)), before);
}

TEST_F(LmdbTest, TwoProcessesCannotHaveOneFile) {
  const auto file = open_file();
  const auto second = LmdbFile::open(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kConflict);
}

TEST_F(LmdbTest, AFileThatIsNoDatabaseIsAnError) {
  std::ofstream(path_) << std::string(8192, 'x');
  const auto file = LmdbFile::open(path_);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().text().find(path_), std::string::npos);
}

/// Storages count on the protocol's limits; a file may have been written by anybody.
TEST_F(LmdbTest, ARecordBeyondTheProtocolsLimitsIsAnError) {
  for (const size_t bytes : {kMaxPayload, kMaxPayload + 1}) {
    std::filesystem::remove(path_);
    const auto file = open_file();
    const std::string value(bytes, 'x');
    const Change changes[] = {create("/"), create("/a", value)};
    ASSERT_TRUE(open_storage(*file)->apply(changes));
    const auto again = LmdbStorage::open(*file, std::make_unique<MapStorage>());
    EXPECT_EQ(static_cast<bool>(again), bytes == kMaxPayload);
  }
}

TEST_F(LmdbTest, AFileOfAnotherBootIsEmptied) {
  {
    const auto file = open_file();
    const Change changes[] = {create("/"), create("/a")};
    ASSERT_TRUE(open_storage(*file)->apply(changes));
    auto transaction = file->begin();
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(transaction->put(LmdbTable::kMeta, "boot", "another"));
    ASSERT_TRUE(transaction->commit());
  }
  const auto file = open_file();
  EXPECT_EQ(open_storage(*file)->size(), 0u);
}

DomainState domain(uint16_t domid, uint32_t connection) {
  return {.domid = DomId(domid),
          .gfn = 1'000u + domid,
          .port = EventPort(domid),
          .connection = ConnectionId(connection),
          .target = {},
          .shut_down = false};
}

TEST_F(LmdbTest, DomainsAndTheirWatchesComeBack) {
  {
    const auto file = open_file();
    LmdbStateLog log(*file);
    log.domain_changed(domain(0, 17));
    log.domain_changed(domain(300, 4));
    DomainState with_target = domain(7, 5);
    with_target.target = DomId(300);
    with_target.shut_down = true;
    log.domain_changed(with_target);
    log.watch_added(ConnectionId(4), {.path = "device", .token = "a", .depth = {}});
    log.watch_added(ConnectionId(4), {.path = "device", .token = "b", .depth = 2});
    log.watch_added(ConnectionId(5), {.path = "@releaseDomain", .token = "", .depth = {}});
    log.watch_added(ConnectionId(99), {.path = "/", .token = "a socket's", .depth = {}});
    log.watch_removed(ConnectionId(4), {.path = "device", .token = "a", .depth = {}});
  }
  const auto file = open_file();
  const auto state = LmdbStateLog(*file).load();
  ASSERT_TRUE(state);
  ASSERT_EQ(state->domains.size(), 3u);
  EXPECT_EQ(state->domains[1].domid, DomId(7));
  EXPECT_EQ(state->domains[1].target, DomId(300));
  EXPECT_TRUE(state->domains[1].shut_down);
  EXPECT_EQ(state->domains[2].gfn, 1'300u);
  EXPECT_EQ(state->connections[0].peer.privilege, Privilege::kControl);
  EXPECT_EQ(state->connections[1].watches,
            (std::vector<WatchState>{{.path = "@releaseDomain", .token = "", .depth = {}}}));
  EXPECT_EQ(state->connections[2].watches,
            (std::vector<WatchState>{{.path = "device", .token = "b", .depth = 2}}));
  EXPECT_EQ(state->connections[2].id, state->domains[2].connection);
}

TEST_F(LmdbTest, ADomainThatIsGoneIsForgottenWithItsWatches) {
  const auto file = open_file();
  LmdbStateLog log(*file);
  log.domain_changed(domain(1, 1));
  log.domain_changed(domain(2, 2));
  for (const uint32_t connection : {1u, 2u})
    log.watch_added(ConnectionId(connection), {.path = "x", .token = "y", .depth = {}});
  log.domain_gone(DomId(1));
  const auto state = LmdbStateLog(*file).load();
  ASSERT_TRUE(state);
  ASSERT_EQ(state->domains.size(), 1u);
  EXPECT_EQ(state->domains[0].domid, DomId(2));
  EXPECT_EQ(state->connections[0].watches.size(), 1u);
}

TEST_F(LmdbTest, ASavedStateIsTheStateThatIsLoaded) {
  EngineState state;
  state.connections.push_back(
      {.id = ConnectionId(8), .peer = {}, .watches = {{.path = "s", .token = "t", .depth = {}}}});
  state.connections.push_back(
      {.id = ConnectionId(3), .peer = {}, .watches = {{.path = "p", .token = "t", .depth = {}}}});
  state.domains.push_back(domain(12, 3));
  const auto file = open_file();
  ASSERT_TRUE(LmdbStateLog(*file).save(state));
  const auto loaded = LmdbStateLog(*file).load();
  ASSERT_TRUE(loaded);
  ASSERT_EQ(loaded->connections.size(), 1u);
  EXPECT_EQ(loaded->connections[0].watches[0].path, "p");
}

TEST_F(LmdbTest, ARingsRemnantComesBackAndGoesWithItsDomain) {
  const auto file = open_file();
  LmdbStateLog log(*file);
  log.domain_changed(domain(9, 4));
  log.remnant_left(ConnectionId(4),
                   {.taken_index = 7, .request = "hal", .put_index = 8, .message = "message", .put = 3});
  const auto remnant = LmdbStateLog(*file).remnant_of(DomId(9));
  ASSERT_TRUE(remnant);
  EXPECT_EQ(remnant->taken_index, 7u);
  EXPECT_EQ(remnant->request, "hal");
  EXPECT_EQ(remnant->message, "message");
  EXPECT_EQ(remnant->put, 3u);
  log.domain_gone(DomId(9));
  EXPECT_FALSE(log.remnant_of(DomId(9)));
}

}  // namespace
}  // namespace synfluid::spawner::store
