// Text into a fixed buffer: what a freestanding program has instead of printf. What does not fit is left out.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "guest/net/address.h"

namespace synfluid::guest {

class TextWriter {
 public:
  explicit TextWriter(std::span<char> into) : into_(into) {}

  TextWriter& text(std::string_view text);
  TextWriter& number(uint64_t value);
  TextWriter& hex(uint32_t value);
  /// Dotted quad, or RFC 5952 text.
  TextWriter& address(const net::IpAddress& address);
  /// "192.0.2.1:80", "[2001:db8::1]:80".
  TextWriter& endpoint(const net::Endpoint& endpoint);

  size_t size() const { return used_; }
  std::string_view view() const { return {into_.data(), used_}; }

 private:
  void put(char c) {
    if (used_ < into_.size()) into_[used_++] = c;
  }
  void address_v6(const net::IpAddress& address);

  std::span<char> into_;
  size_t used_ = 0;
};

}  // namespace synfluid::guest
