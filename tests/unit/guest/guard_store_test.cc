// The guard store against a map of bytes by sequence number.
#include "guest/services/firewall/guard_store.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace synfluid::guest::testing {
namespace {

class Store {
 public:
  explicit Store(size_t chunks) : memory_(chunks * 600 + 64), arena_(memory_), store_(arena_, chunks) {}
  GuardStore& operator*() { return store_; }
  GuardStore* operator->() { return &store_; }

 private:
  std::vector<std::byte> memory_;
  net::Arena arena_;
  GuardStore store_;
};

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

TEST(GuardStore, KeepsRunsAndLetsGapsBeAnything) {
  Store store(8);
  GuardStore::Chain chain;
  store->append(chain, 100, bytes_of("head"));
  store->append(chain, 200, bytes_of("5\r\n"));
  EXPECT_TRUE(store->matches(chain, 100, bytes_of("head and whatever")));
  EXPECT_TRUE(store->matches(chain, 90, bytes_of("0123456789he")));
  EXPECT_FALSE(store->matches(chain, 90, bytes_of("0123456789hE")));
  EXPECT_FALSE(store->matches(chain, 199, bytes_of("x6")));
  EXPECT_TRUE(store->matches(chain, 203, bytes_of("behind")));
  EXPECT_TRUE(chain.reaches(202));
  EXPECT_FALSE(chain.reaches(203));
}

TEST(GuardStore, ForgetsWhatIsAcknowledgedAsAWhole) {
  Store store(8);
  GuardStore::Chain chain;
  store->append(chain, 0xfffffffe, bytes_of("head"));
  store->append(chain, 50, bytes_of("x"));
  EXPECT_FALSE(store->would_release(chain, 1));
  store->release(chain, 1);
  EXPECT_FALSE(store->matches(chain, 0xfffffffe, bytes_of("H")));
  store->release(chain, 2);
  EXPECT_TRUE(store->matches(chain, 0xfffffffe, bytes_of("H")));
  EXPECT_FALSE(store->matches(chain, 50, bytes_of("y")));
  store->release(chain, 51);
  EXPECT_TRUE(chain.empty());
}

TEST(GuardStore, HasRoomForTheWorstThatItPromises) {
  constexpr uint32_t kSegment = 1460;
  Store store(16);
  GuardStore::Chain chain;
  uint32_t seq = 0;
  int segments = 0;
  // A body in chunks of one byte.
  for (; store->has_room(chain, kSegment); ++segments)
    for (const uint32_t end = seq + kSegment; seq + 6 <= end; seq += 6)
      store->append(chain, seq, bytes_of("\r\n1\r\n"));
  EXPECT_GE(segments, 2);
  EXPECT_LE(chain.chunks, 16);
  store->clear(chain);
  EXPECT_TRUE(store->has_room(chain, kSegment));
}

TEST(GuardStore, OneFlowCannotHaveItAll) {
  Store store(2 * GuardStore::kMostChunks);
  GuardStore::Chain greedy;
  for (uint32_t seq = 0; store->has_room(greedy, 500); seq += 500)
    store->append(greedy, seq, bytes_of(std::string(500, 'x')));
  EXPECT_LE(greedy.chunks, GuardStore::kMostChunks);
  EXPECT_TRUE(store->has_room({}, 5000));
}

TEST(GuardStore, AgreesWithAMap) {
  std::mt19937 random(1);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  Store store(40);
  for (int round = 0; round < 200; ++round) {
    GuardStore::Chain chain;
    std::map<uint32_t, char> model;  // by offset from `begin`
    const auto begin = static_cast<uint32_t>(random());
    uint32_t end = 0, acked = 0;
    for (int step = 0; step < 60; ++step) {
      std::string text(1 + below(below(4) == 0 ? 900 : 8), '\0');
      for (char& c : text) c = static_cast<char>('a' + below(2));
      switch (below(3)) {
        case 0:
          end += below(3) * below(20);
          if (!store->has_room(chain, text.size())) break;
          store->append(chain, begin + end, bytes_of(text));
          for (const char c : text) model[end++] = c;
          break;
        case 1: {
          acked += below(end - acked + 1);
          store->release(chain, begin + acked);
          // Runs are forgotten as a whole: below the acknowledgement either is right.
          model.erase(model.begin(), model.lower_bound(acked));
          break;
        }
        default: {
          const uint32_t at = acked + below(end - acked + 10);
          bool same = true;
          for (uint32_t i = 0; i < text.size(); ++i) {
            const auto kept = model.find(at + i);
            if (kept != model.end() && below(2) == 0) text[i] = kept->second;
          }
          for (uint32_t i = 0; i < text.size(); ++i)
            same = same && (!model.contains(at + i) || model[at + i] == text[i]);
          ASSERT_EQ(store->matches(chain, begin + at, bytes_of(text)), same) << round << " step " << step;
        }
      }
    }
    store->clear(chain);
  }
  EXPECT_TRUE(store->has_room({}, 9000)) << "a chunk was lost";
}

}  // namespace
}  // namespace synfluid::guest::testing
