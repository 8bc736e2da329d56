#include "guest/services/text.h"

namespace synfluid::guest {

TextWriter& TextWriter::text(std::string_view text) {
  for (const char c : text) put(c);
  return *this;
}

TextWriter& TextWriter::number(uint64_t value) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) put(digits[--count]);
  return *this;
}

TextWriter& TextWriter::hex(uint32_t value) {
  int shift = 28;
  while (shift > 0 && (value >> shift) == 0) shift -= 4;
  for (; shift >= 0; shift -= 4) put("0123456789abcdef"[(value >> shift) & 15]);
  return *this;
}

void TextWriter::address_v6(const net::IpAddress& address) {
  uint16_t groups[8];
  for (int i = 0; i < 8; ++i)
    groups[i] = static_cast<uint16_t>(address.bytes[2 * i] << 8 | address.bytes[2 * i + 1]);
  // The longest run of two zero groups or more becomes "::", the first of equals.
  int best = -1, best_length = 1;
  for (int i = 0; i < 8; ++i) {
    int length = 0;
    while (i + length < 8 && groups[i + length] == 0) ++length;
    if (length > best_length) best = i, best_length = length;
  }
  for (int i = 0; i < 8; ++i) {
    if (i == best) {
      text("::");
      i += best_length - 1;
      continue;
    }
    if (i != 0 && (best < 0 || i != best + best_length)) put(':');
    hex(groups[i]);
  }
}

TextWriter& TextWriter::address(const net::IpAddress& address) {
  if (!address.is_v4()) {
    address_v6(address);
    return *this;
  }
  for (int i = 0; i < 4; ++i) {
    if (i != 0) put('.');
    number(address.v4()[i]);
  }
  return *this;
}

TextWriter& TextWriter::endpoint(const net::Endpoint& endpoint) {
  const bool v4 = endpoint.address.is_v4();
  if (!v4) put('[');
  address(endpoint.address);
  if (!v4) put(']');
  put(':');
  return number(endpoint.port);
}

}  // namespace synfluid::guest
