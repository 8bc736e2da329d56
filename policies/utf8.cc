#include "policies/utf8.h"

#include <cstdint>

namespace synfluid::policies {

namespace {

uint8_t byte_at(std::string_view text, size_t i) {
  return static_cast<uint8_t>(text[i]);
}

bool is_continuation(uint8_t byte) {
  return (byte & 0xc0) == 0x80;
}

bool is_control(uint8_t byte) {
  return byte < 0x20 || byte == 0x7f;
}

/// Bytes of the sequence that `lead` begins; 0 if none does.
size_t sequence_bytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

/// Overlong forms, surrogates, and what lies behind U+10FFFF.
bool is_forbidden(uint8_t lead, uint8_t second) {
  return (lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0) ||
         (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90);
}

/// The length of the good character at `at`, or 0.
size_t character_bytes(std::string_view text, size_t at) {
  const uint8_t lead = byte_at(text, at);
  const size_t size = sequence_bytes(lead);
  if (size == 0 || at + size > text.size()) return 0;
  for (size_t i = 1; i < size; ++i)
    if (!is_continuation(byte_at(text, at + i))) return 0;
  return size > 1 && is_forbidden(lead, byte_at(text, at + 1)) ? 0 : size;
}

}  // namespace

std::optional<size_t> find_bad_text(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (is_control(byte_at(text, at)) && c != '\t' && c != '\n' && c != '\r') return at;
    const size_t size = character_bytes(text, at);
    if (size == 0) return at;
    at += size;
  }
  return std::nullopt;
}

std::string excerpt(std::string_view text, size_t max_bytes) {
  size_t end = text.size();
  if (end > max_bytes) {
    end = max_bytes;
    while (end > 0 && is_continuation(byte_at(text, end))) --end;
  }
  std::string shown(text.substr(0, end));
  for (char& c : shown)
    if (is_control(static_cast<uint8_t>(c))) c = '?';
  return end < text.size() ? shown + "..." : shown;
}

}  // namespace synfluid::policies
