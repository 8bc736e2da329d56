// What a guest says to people: lines in a ring on its card (base/abi/card.h), the oldest overwritten. Nobody
// is told and nothing waits: who wants to know reads the card.
#pragma once

#include <span>
#include <string_view>

#include "base/abi/card.h"

namespace synfluid::guest {

class Console {
 public:
  explicit Console(abi::CardConsole& ring) : ring_(&ring) {}

  /// Ends the line itself.
  void line(std::string_view text);

 private:
  void put(char c) { ring_->text[ring_->written++ % abi::kConsoleBytes] = c; }

  abi::CardConsole* ring_;
};

/// Room for what a line is made of: two endpoints and a few words.
inline constexpr size_t kLineBytes = 160;

}  // namespace synfluid::guest
