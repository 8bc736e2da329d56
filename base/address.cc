#include "base/address.h"

#include <charconv>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace synfluid {

namespace {

/// Bits of the IPv4-mapped form in front of the IPv4 address itself.
constexpr uint8_t kV4PrefixBits = 96;

/// The byte mask of the first `length` bits, at byte `i`.
uint8_t mask_byte(unsigned length, size_t i) {
  const unsigned before = static_cast<unsigned>(i) * 8;
  if (length >= before + 8) return 0xff;
  if (length <= before) return 0;
  return static_cast<uint8_t>(0xff << (8 - (length - before)));
}

}  // namespace

Result<Address> Address::parse(std::string_view text) {
  const std::string terminated(text);
  std::array<uint8_t, 4> v4;
  if (inet_pton(AF_INET, terminated.c_str(), v4.data()) == 1) return Address::from_v4(v4);
  std::array<uint8_t, 16> v6;
  if (inet_pton(AF_INET6, terminated.c_str(), v6.data()) == 1) return Address::from_v6(v6);
  return Error(ErrorCode::kInvalidArgument, fmt::format("'{}' is not an IPv4 or IPv6 address", text));
}

std::string Address::to_string() const {
  char text[INET6_ADDRSTRLEN];
  const bool v4 = is_v4();
  inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? bytes.data() + 12 : bytes.data(), text, sizeof text);
  return text;
}

Result<Prefix> Prefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  auto address = Address::parse(text.substr(0, slash));
  if (!address) return address.error();
  const bool v4 = address->is_v4() && text.find(':') == std::string_view::npos;
  const unsigned widest = v4 ? 32 : 128;
  unsigned length = widest;
  if (slash != std::string_view::npos) {
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (ec != std::errc{} || end != digits.data() + digits.size() || digits.empty() || length > widest)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("'{}' has a prefix length that is not a number from 0 to {}", text, widest));
  }
  Prefix prefix{*address, static_cast<uint8_t>(v4 ? kV4PrefixBits + length : length)};
  for (size_t i = 0; i < 16; ++i) {
    if ((address->bytes[i] & ~mask_byte(prefix.length, i)) != 0)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("'{}' has address bits set behind its prefix length", text));
  }
  return prefix;
}

bool Prefix::contains(const Address& a) const {
  const size_t whole = length / 8;
  if (std::memcmp(a.bytes.data(), address.bytes.data(), whole) != 0) return false;
  return whole == 16 || ((a.bytes[whole] ^ address.bytes[whole]) & mask_byte(length, whole)) == 0;
}

std::string Prefix::to_string() const {
  const bool v4 = address.is_v4() && length >= kV4PrefixBits;
  return fmt::format("{}/{}", address.to_string(), v4 ? length - kV4PrefixBits : length);
}

std::string Endpoint::to_string() const {
  return address.is_v4() ? fmt::format("{}:{}", address.to_string(), port)
                         : fmt::format("[{}]:{}", address.to_string(), port);
}

OrientedKey make_flow_key(const Endpoint& source, const Endpoint& destination, VlanTags vlan) {
  const bool source_low = source < destination;
  const Endpoint& low = source_low ? source : destination;
  const Endpoint& high = source_low ? destination : source;
  return {{low.address, high.address, low.port, high.port, vlan},
          source_low ? FromEnd::kLow : FromEnd::kHigh};
}

}  // namespace synfluid
