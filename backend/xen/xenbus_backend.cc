#include "backend/xen/xenbus_backend.h"

#include <charconv>
#include <system_error>
#include <utility>

#include <fmt/format.h>

namespace synfluid::backend::xen {

namespace {

/// A whole decimal number and nothing else.
std::optional<uint32_t> parse_number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

Result<std::optional<uint32_t>> read_number(XenbusDevice& device, std::string_view key) {
  const auto text = device.read_front(key);
  if (!text) return text.error();
  if (!*text) return std::optional<uint32_t>{};
  const auto value = parse_number(**text);
  if (!value) return Error(ErrorCode::kProtocol, fmt::format("front end: '{}' is no number", key));
  return value;
}

Result<uint32_t> need_number(XenbusDevice& device, std::string_view key) {
  const auto value = read_number(device, key);
  if (!value) return value.error();
  if (!*value) return Error(ErrorCode::kProtocol, fmt::format("front end: '{}' is missing", key));
  return **value;
}

Result<bool> read_flag(XenbusDevice& device, std::string_view key) {
  const auto value = read_number(device, key);
  if (!value) return value.error();
  return value->value_or(0) != 0;
}

/// One channel for both rings, or one for each.
Status read_ports(XenbusDevice& device, FrontEndDetails& details) {
  const auto single = read_number(device, "event-channel");
  if (!single) return single.error();
  if (*single) {
    details.tx_port = details.rx_port = EventPort{**single};
    return {};
  }
  const auto tx = need_number(device, "event-channel-tx");
  if (!tx) return tx.error();
  const auto rx = need_number(device, "event-channel-rx");
  if (!rx) return rx.error();
  details.tx_port = EventPort{*tx};
  details.rx_port = EventPort{*rx};
  return {};
}

Status read_rings(XenbusDevice& device, FrontEndDetails& details) {
  const auto queues = read_number(device, "multi-queue-num-queues");
  if (!queues) return queues.error();
  if (queues->value_or(1) != 1)
    return Error(ErrorCode::kProtocol, "front end: more queues than were offered");
  const auto tx = need_number(device, "tx-ring-ref");
  if (!tx) return tx.error();
  const auto rx = need_number(device, "rx-ring-ref");
  if (!rx) return rx.error();
  details.tx_ring = GrantRef{*tx};
  details.rx_ring = GrantRef{*rx};
  return {};
}

Status read_features(XenbusDevice& device, FrontEndDetails& details) {
  const auto copies = read_flag(device, "request-rx-copy");
  if (!copies) return copies.error();
  if (!*copies)
    return Error(ErrorCode::kProtocol, "front end: it does not ask for received frames to be copied");
  const auto persistent = read_flag(device, "feature-persistent");
  if (!persistent) return persistent.error();
  const auto chains = read_flag(device, "feature-sg");
  if (!chains) return chains.error();
  details.persistent = *persistent;
  details.receives_chains = *chains;
  return {};
}

Status read_control(XenbusDevice& device, FrontEndDetails& details) {
  const auto ring = read_number(device, "ctrl-ring-ref");
  if (!ring) return ring.error();
  if (!*ring) return {};
  const auto port = need_number(device, "event-channel-ctrl");
  if (!port) return port.error();
  details.control = {.ring = GrantRef{**ring}, .port = EventPort{*port}};
  return {};
}

Result<XenbusState> read_front_state(XenbusDevice& device) {
  const auto text = device.read_front("state");
  if (!text) return text.error();
  const auto value = *text ? parse_number(**text) : std::nullopt;
  if (!value || *value > static_cast<uint32_t>(XenbusState::kReconfigured)) return XenbusState::kUnknown;
  return static_cast<XenbusState>(*value);
}

}  // namespace

Result<FrontEndDetails> read_front_end(XenbusDevice& device, XenbusOffer offer) {
  FrontEndDetails details;
  if (const Status read = read_rings(device, details); !read) return read.error();
  if (const Status read = read_ports(device, details); !read) return read.error();
  if (const Status read = read_features(device, details); !read) return read.error();
  if (!offer.control_ring) return details;
  if (const Status read = read_control(device, details); !read) return read.error();
  return details;
}

Result<XenbusChange> XenbusBackend::front_changed() {
  const auto front = read_front_state(device_);
  if (!front) return front.error();
  switch (*front) {
    case XenbusState::kInitialising:
      return restart();
    case XenbusState::kInitialised:
    case XenbusState::kConnected:
      return connect();
    case XenbusState::kClosing:
      return leave(XenbusState::kClosing);
    case XenbusState::kUnknown:
    case XenbusState::kClosed:
      return leave(XenbusState::kClosed);
    case XenbusState::kInitWait:
    case XenbusState::kReconfiguring:
    case XenbusState::kReconfigured:
      break;  // nothing a vif's front end has to say
  }
  return XenbusChange{};
}

Status XenbusBackend::enter(XenbusState state) {
  if (state == state_) return {};
  state_ = state;
  return device_.write_state(state);
}

Result<XenbusChange> XenbusBackend::restart() {
  XenbusChange change;
  if (state_ == XenbusState::kConnected) {
    device_.disconnect();
    change = {XenbusChange::Kind::kClosed, "the front end started anew"};
  }
  if (connects_ >= kMaxConnects) return change;  // it stays closed
  if (const Status entered = enter(XenbusState::kInitWait); !entered) return entered.error();
  return change;
}

Result<XenbusChange> XenbusBackend::connect() {
  if (state_ != XenbusState::kInitWait) return XenbusChange{};
  if (++connects_ > kMaxConnects) return refuse("the front end connected too often");
  const auto details = read_front_end(device_, offer_);
  if (!details && details.error().code() != ErrorCode::kProtocol) return details.error();
  if (!details) return refuse(details.error().text());
  if (const Status connected = device_.connect(*details); !connected) return refuse(connected.error().text());
  if (const Status entered = enter(XenbusState::kConnected); !entered) return entered.error();
  return XenbusChange{XenbusChange::Kind::kConnected, {}};
}

Result<XenbusChange> XenbusBackend::leave(XenbusState state) {
  XenbusChange change;
  if (state_ == XenbusState::kConnected) {
    device_.disconnect();
    change = {XenbusChange::Kind::kClosed, "the front end closed its vif"};
  }
  // Closed stays closed: there is nothing left to close.
  if (state_ == XenbusState::kClosed) return change;
  if (const Status entered = enter(state); !entered) return entered.error();
  return change;
}

Result<XenbusChange> XenbusBackend::refuse(std::string reason) {
  if (const Status entered = enter(XenbusState::kClosing); !entered) return entered.error();
  return XenbusChange{XenbusChange::Kind::kRefused, std::move(reason)};
}

}  // namespace synfluid::backend::xen
