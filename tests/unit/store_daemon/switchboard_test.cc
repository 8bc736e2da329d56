#include "spawner/store/switchboard.h"

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "spawner/store/map_storage.h"

namespace synfluid::spawner::store {
namespace {

class NobodysDomains final : public Domains {
 public:
  Fault introduce(DomId, uint64_t, EventPort, ConnectionId) override { return Fault::kEnosys; }
  Fault reintroduce(DomId, uint64_t, EventPort, ConnectionId) override { return Fault::kEnosys; }
  void release(DomId, ConnectionId) override {}
};

/// Takes all that is written to it, and notes whose turn it was.
class NotingStream final : public Stream {
 public:
  NotingStream(Switchboard& board, ConnectionId id, std::vector<uint32_t>& written)
      : Stream(board, id), written_(written) {}

 private:
  Taken read(std::span<char>) override { return {}; }
  size_t write(std::span<const char> messages, size_t already) override {
    written_.push_back(id().value());
    return messages.size() - already;
  }

  std::vector<uint32_t>& written_;
};

TEST(Switchboard, WhoWasServedLastIsWrittenToFirst) {
  ManualClock clock;
  MapStorage storage;
  NobodysDomains domains;
  Switchboard board(clock);
  Engine engine(EngineConfig{.quotas = {}, .clock = &clock}, storage, board, domains);
  board.set_engine(engine);
  std::vector<uint32_t> written;
  std::vector<uint32_t> expected;
  std::vector<ConnectionId> ids;
  for (int i = 0; i < 3; ++i) {
    ids.push_back(engine.connect({.domid = DomId(0), .privilege = Privilege::kControl}));
    board.add(std::make_unique<NotingStream>(board, ids.back(), written));
    expected.insert(expected.begin(), ids.back().value());
  }
  const std::string path("/\0", 2);
  for (const ConnectionId id : ids)
    engine.handle(id, {MessageType::kDirectory, 1, 0, static_cast<uint32_t>(path.size())}, path);
  EXPECT_TRUE(written.empty());
  board.end_turn();
  EXPECT_EQ(written, expected);
  board.clear();
}

}  // namespace
}  // namespace synfluid::spawner::store
