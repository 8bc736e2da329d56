// Lays out what a guest of ours shares with its host, before its first instruction. Used by both hypervisors.
//
// The layout itself is base/abi/card.h's; this file fills it in: the card, two empty rings, and the receive
// buffers posted. It also turns what an operator wrote (image name, config keys) into what the card carries.
//
// Threads: pure functions. Ownership: none taken; the area is the caller's. Units: bytes and pages of 4 KiB.
// Errors: make_card_config() and builtin_service() report what cannot go on a card; lay_out_shared_area() has
// preconditions only, since everything it is given was checked when the image was prepared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/abi/card.h"
#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::spawner {

struct SharedAreaConfig {
  DomId domid = {};
  uint32_t generation = 0;
  abi::ServiceKind service = abi::ServiceKind::kResponder;
  uint32_t event_port = 0;  ///< the host's end; 0 where there is none
  uint32_t buffers = 0;     ///< 1 to abi::kMaxBuffers
  uint32_t rx_posted = 0;   ///< at most `buffers`
  uint32_t ready_pages = 0;
  std::array<uint8_t, 6> mac{};
  std::array<uint64_t, 4> entropy{};
  std::string_view card_config = {};  ///< from make_card_config()
};

/// Writes the card and both rings and posts the receive buffers. The buffers' own pages are not touched.
/// The receive ring does not ask for a notification at first: a guest looks at it before it waits for one, so
/// the first frame costs no doorbell. Preconditions: `area` is page-aligned and has at least the pages before
/// the first buffer; nobody else uses it yet.
void lay_out_shared_area(std::span<std::byte> area, const SharedAreaConfig& config);

/// The lines of CardPage::config. An error for a key or value that cannot stand in a line, or too much of it.
Result<std::string> make_card_config(const std::vector<std::pair<std::string, std::string>>& config);

/// Which service "builtin:NAME" is; nothing for a path to an image; an error for a built-in image that does
/// not exist.
Result<std::optional<abi::ServiceKind>> builtin_service(std::string_view image);

/// A locally administered address that tells the guest apart: its generation and domain id are in it.
std::array<uint8_t, 6> guest_mac(DomId domid, uint32_t generation);

}  // namespace synfluid::spawner
