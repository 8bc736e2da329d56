// ClientHello messages for tests.
#pragma once

#include <string>

namespace synfluid::guest::testing {

/// A hello in one record; an empty name leaves the extension out. `padding` bytes of another extension come
/// before it.
inline std::string tls_hello(const std::string& name, size_t padding = 0) {
  const auto number = [](size_t value, int bytes) {
    std::string out;
    while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
    return out;
  };
  std::string extensions;
  if (padding != 0) extensions += number(21, 2) + number(padding, 2) + std::string(padding, '\0');
  extensions += number(23, 2) + number(0, 2);
  if (!name.empty()) {
    const std::string entry = number(0, 1) + number(name.size(), 2) + name;
    extensions += number(0, 2) + number(entry.size() + 2, 2) + number(entry.size(), 2) + entry;
  }
  extensions += number(43, 2) + number(3, 2) + std::string("\x02\x03\x04");
  std::string body = std::string("\x03\x03") + std::string(32, 'r') + number(32, 1) + std::string(32, 's');
  body += number(4, 2) + std::string("\x13\x01\x13\x02", 4) + number(1, 1) + number(0, 1);
  body += number(extensions.size(), 2) + extensions;
  const std::string message = number(1, 1) + number(body.size(), 3) + body;
  return number(22, 1) + std::string("\x03\x01") + number(message.size(), 2) + message;
}

/// The same hello over records of `bytes` bytes each.
inline std::string split_records(const std::string& record, size_t bytes) {
  std::string out;
  for (size_t at = 5; at < record.size(); at += bytes) {
    const std::string piece = record.substr(at, bytes);
    out += std::string("\x16\x03\x01") + static_cast<char>(piece.size() >> 8) +
           static_cast<char>(piece.size()) + piece;
  }
  return out;
}

}  // namespace synfluid::guest::testing
