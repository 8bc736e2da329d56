#include "spawner/shared_area.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>

#include <fmt/format.h>

#include "spawner/page_moves.h"

namespace synfluid::spawner {

namespace {

constexpr std::string_view kBuiltinPrefix = "builtin:";

void write_card(std::byte* page, const SharedAreaConfig& config) {
  auto* card = new (page) abi::Card{};
  abi::CardFixed& fixed = card->fixed;
  fixed.magic = abi::kCardMagic;
  fixed.version = abi::kCardVersion;
  fixed.domid = config.domid.value();
  fixed.generation = config.generation;
  fixed.service = config.service;
  fixed.event_port = config.event_port;
  fixed.buffers = config.buffers;
  fixed.rx_posted = config.rx_posted;
  fixed.ready_pages = config.ready_pages;
  std::copy(config.mac.begin(), config.mac.end(), fixed.mac);
  fixed.config_bytes = static_cast<uint16_t>(config.card_config.size());
  std::copy(config.entropy.begin(), config.entropy.end(), fixed.entropy);
  std::copy(config.card_config.begin(), config.card_config.end(), card->config);
}

/// Nobody has asked to be told of anything yet.
template <class Ring>
Ring* write_empty_ring(std::byte* page) {
  clear_pages({page, abi::kPageBytes});
  auto* ring = new (page) Ring;
  return ring;
}

void post_receive_buffers(abi::NetRxRing& ring, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    abi::NetRxRequest& request = ring.entries[i].request;
    request.id = static_cast<uint16_t>(i);
    request.gref = abi::kFirstGrant + abi::kFirstBufferPage + i;
  }
  ring.indices.req_prod = count;
}

bool fits_in_a_line(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\0'; });
}

}  // namespace

void lay_out_shared_area(std::span<std::byte> area, const SharedAreaConfig& config) {
  assert(config.buffers >= 1 && config.buffers <= abi::kMaxBuffers && config.rx_posted <= config.buffers);
  assert(area.size() >= size_t{abi::kFirstBufferPage} * abi::kPageBytes);
  assert(config.card_config.size() <= abi::kCardConfigBytes);
  const auto page = [&](uint32_t n) { return area.data() + size_t{n} * abi::kPageBytes; };
  write_card(page(abi::kCardPage), config);
  // The host is told of the guest's first transmission, unless it has begun to poll by then.
  write_empty_ring<abi::NetTxRing>(page(abi::kTxRingPage))->indices.req_event = 1;
  post_receive_buffers(*write_empty_ring<abi::NetRxRing>(page(abi::kRxRingPage)), config.rx_posted);
}

Result<std::string> make_card_config(const std::vector<std::pair<std::string, std::string>>& config) {
  std::string lines;
  for (const auto& [key, value] : config) {
    if (key.empty() || key.find(' ') != std::string::npos || !fits_in_a_line(key)) {
      return Error(ErrorCode::kInvalidArgument, fmt::format("config key '{}' must be one word", key));
    }
    if (!fits_in_a_line(value)) {
      return Error(ErrorCode::kInvalidArgument, fmt::format("config '{}': the value must be one line", key));
    }
    lines += fmt::format("{} {}\n", key, value);
  }
  if (lines.size() > abi::kCardConfigBytes) {
    return Error(ErrorCode::kInvalidArgument, fmt::format("config takes {} bytes, a guest can be given {}",
                                                          lines.size(), abi::kCardConfigBytes));
  }
  return lines;
}

Result<std::optional<abi::ServiceKind>> builtin_service(std::string_view image) {
  if (!image.starts_with(kBuiltinPrefix)) return std::optional<abi::ServiceKind>{};
  const std::string_view name = image.substr(kBuiltinPrefix.size());
  if (name == "responder") return std::optional(abi::ServiceKind::kResponder);
  if (name == "passthrough") return std::optional(abi::ServiceKind::kPassthrough);
  if (name == "firewall") return std::optional(abi::ServiceKind::kFirewall);
  return Error(
      ErrorCode::kNotFound,
      fmt::format("image '{}': there is no such built-in image (responder, passthrough, firewall)", image));
}

std::array<uint8_t, 6> guest_mac(DomId domid, uint32_t generation) {
  const uint32_t id = domid.value();
  return {0x02,
          0x53,
          static_cast<uint8_t>(generation >> 8),
          static_cast<uint8_t>(generation),
          static_cast<uint8_t>(id >> 8),
          static_cast<uint8_t>(id)};
}

}  // namespace synfluid::spawner
