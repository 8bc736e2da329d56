// Addresses and endpoints as the guest keeps them: IPv4 as IPv4-mapped IPv6, like the host's base/address.h.
#pragma once

#include "guest/net/bytes.h"

namespace synfluid::guest::net {

struct IpAddress {
  uint8_t bytes[16] = {};

  bool is_v4() const {
    static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return same_bytes(bytes, kMapped, sizeof(kMapped));
  }
  bool is_multicast() const { return is_v4() ? (bytes[12] & 0xf0) == 0xe0 : bytes[0] == 0xff; }

  static IpAddress from_v4(const std::byte* wire) {
    IpAddress out;
    out.bytes[10] = out.bytes[11] = 0xff;
    copy_bytes(&out.bytes[12], wire, 4);
    return out;
  }
  static IpAddress from_v6(const std::byte* wire) {
    IpAddress out;
    copy_bytes(&out.bytes[0], wire, 16);
    return out;
  }
  const uint8_t* v4() const { return &bytes[12]; }

  friend bool operator==(const IpAddress& a, const IpAddress& b) { return same_bytes(a.bytes, b.bytes, 16); }
};

struct Endpoint {
  IpAddress address;
  uint16_t port = 0;
  friend bool operator==(const Endpoint& a, const Endpoint& b) {
    return a.port == b.port && a.address == b.address;
  }
};

}  // namespace synfluid::guest::net
