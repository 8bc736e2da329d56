#include "spawner/card_console.h"

#include <cstring>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "base/abi/card.h"
#include "guest/services/console.h"

namespace synfluid::spawner {
namespace {

class CardConsoleTest : public ::testing::Test {
 protected:
  std::string read() { return read_card_console(std::as_bytes(std::span(card_.get(), 1))); }
  guest::Console guest() { return guest::Console(card_->console); }

  std::unique_ptr<abi::Card> card_ = std::make_unique<abi::Card>();
};

TEST_F(CardConsoleTest, IsEmptyBeforeTheGuestSaysAnything) {
  EXPECT_EQ(read(), "");
}

TEST_F(CardConsoleTest, HasTheGuestsLinesInOrder) {
  guest().line("one");
  guest().line("two");
  EXPECT_EQ(read(), "one\ntwo\n");
}

TEST_F(CardConsoleTest, KeepsTheLastWhenTheRingHasGoneRound) {
  for (int i = 0; i < 200; ++i) guest().line("line " + std::to_string(i));
  const std::string text = read();
  EXPECT_EQ(text.size(), abi::kConsoleBytes);
  EXPECT_TRUE(text.ends_with("line 198\nline 199\n")) << text;
}

TEST_F(CardConsoleTest, GoesOnWhenTheCountWrapsAround) {
  for (int i = 0; i < 200; ++i) guest().line("before");
  card_->console.written = 0xffff'fffd;
  guest().line("over the edge");
  EXPECT_TRUE(read().ends_with("the edge\n")) << read();
}

TEST_F(CardConsoleTest, BelievesNoCountAndShowsNoControlCharacters) {
  std::memset(card_->console.text, 0x1b, sizeof(card_->console.text));
  for (const uint32_t written : {1u, 511u, 512u, 513u, 0x8000'0000u, 0xffff'ffffu}) {
    card_->console.written = written;
    const std::string text = read();
    EXPECT_LE(text.size(), abi::kConsoleBytes);
    EXPECT_EQ(text.find_first_not_of('?'), std::string::npos) << written;
  }
}

TEST_F(CardConsoleTest, OfLessThanACardIsEmpty) {
  EXPECT_EQ(read_card_console(std::as_bytes(std::span(card_.get(), 1)).first(100)), "");
}

}  // namespace
}  // namespace synfluid::spawner
