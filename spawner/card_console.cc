#include "spawner/card_console.h"

#include <algorithm>
#include <cstring>

#include "base/abi/card.h"

namespace synfluid::spawner {

std::string read_card_console(std::span<const std::byte> card) {
  if (card.size() < sizeof(abi::Card)) return {};
  abi::CardConsole console;
  std::memcpy(&console, card.data() + offsetof(abi::Card, console), sizeof(console));
  const uint32_t length = std::min(console.written, abi::kConsoleBytes);
  std::string text(length, '\0');
  for (uint32_t i = 0; i < length; ++i)
    text[i] = console.text[(console.written - length + i) % abi::kConsoleBytes];
  return printable(text);
}

std::string printable(std::string_view text) {
  std::string shown(text);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return (c < ' ' || c > '~') && c != '\n' && c != '\t'; }, '?');
  return shown;
}

}  // namespace synfluid::spawner
