// The console of a guest of ours, as the host reads it: the last abi::kConsoleBytes that it wrote.
//
// Threads: pure functions; the guest may write while its page is read, and then the oldest characters may be
// newer ones. Trust: nothing in the page is believed. Errors: none; a page full of nonsense is nonsense in
// printable letters.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace synfluid::spawner {

/// `card` is the guest's first page, or its first abi::Card bytes.
std::string read_card_console(std::span<const std::byte> card);

/// What came from a guest, safe on a terminal and in JSON: lines stay lines, tabs stay; whatever else is no
/// printable ASCII becomes '?'.
std::string printable(std::string_view text);

}  // namespace synfluid::spawner
