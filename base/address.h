// IP addresses, prefixes and the key of a TCP flow.
//
// IPv4 is kept as IPv4-mapped IPv6 (::ffff:a.b.c.d, RFC 4291 2.5.5.2), so that one key type, one hash and one
// classifier serve both. Byte order: addresses as on the wire; ports and VLAN ids in host order.
// Values: no threads, no ownership.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"

namespace synfluid {

struct Address {
  std::array<uint8_t, 16> bytes{};

  static constexpr Address from_v4(std::span<const uint8_t, 4> v4) {
    Address a;
    a.bytes[10] = a.bytes[11] = 0xff;
    for (size_t i = 0; i < 4; ++i) a.bytes[12 + i] = v4[i];
    return a;
  }
  static constexpr Address from_v6(std::span<const uint8_t, 16> v6) {
    Address a;
    for (size_t i = 0; i < 16; ++i) a.bytes[i] = v6[i];
    return a;
  }
  /// Dotted quad or RFC 4291 text.
  static Result<Address> parse(std::string_view text);

  constexpr bool is_v4() const {
    for (size_t i = 0; i < 10; ++i)
      if (bytes[i] != 0) return false;
    return bytes[10] == 0xff && bytes[11] == 0xff;
  }
  std::string to_string() const;

  friend constexpr auto operator<=>(const Address&, const Address&) = default;
};

/// An address block. `length` counts bits of the 128-bit form: an IPv4 /16 has length 112.
struct Prefix {
  Address address;
  uint8_t length = 128;

  /// "10.0.0.0/8", "2001:db8::/32", or an address alone. Bits behind the prefix must be zero.
  static Result<Prefix> parse(std::string_view text);
  bool contains(const Address& a) const;
  std::string to_string() const;

  friend constexpr auto operator<=>(const Prefix&, const Prefix&) = default;
};

/// 802.1Q tags of a frame: id 0 means no such tag. `outer` is the first tag on the wire (the S-tag of QinQ).
struct VlanTags {
  uint16_t outer = 0;
  uint16_t inner = 0;
  friend constexpr auto operator<=>(const VlanTags&, const VlanTags&) = default;
};

struct Endpoint {
  Address address;
  uint16_t port = 0;
  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
  std::string to_string() const;
};

/// A TCP connection, the same key for both directions: the smaller endpoint (address, then port) comes first.
/// 40 bytes without padding, so that it can be hashed and compared as bytes.
struct FlowKey {
  Address low;
  Address high;
  uint16_t low_port = 0;
  uint16_t high_port = 0;
  VlanTags vlan;

  Endpoint low_end() const { return {low, low_port}; }
  Endpoint high_end() const { return {high, high_port}; }
  friend constexpr bool operator==(const FlowKey&, const FlowKey&) = default;
};
static_assert(sizeof(FlowKey) == 40 && alignof(FlowKey) == 2);

/// Which end of a FlowKey a packet came from.
enum class FromEnd : uint8_t { kLow, kHigh };
constexpr FromEnd other(FromEnd end) {
  return end == FromEnd::kLow ? FromEnd::kHigh : FromEnd::kLow;
}

struct OrientedKey {
  FlowKey key;
  FromEnd from = FromEnd::kLow;

  const Endpoint source() const { return from == FromEnd::kLow ? key.low_end() : key.high_end(); }
  const Endpoint destination() const { return from == FromEnd::kLow ? key.high_end() : key.low_end(); }
};

OrientedKey make_flow_key(const Endpoint& source, const Endpoint& destination, VlanTags vlan);

}  // namespace synfluid
