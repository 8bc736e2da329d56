#include "guest/services/config.h"

namespace synfluid::guest {
namespace {

size_t find(std::string_view text, char wanted) {
  size_t at = 0;
  while (at < text.size() && text[at] != wanted) ++at;
  return at;
}

}  // namespace

ConfigReader::ConfigReader(const abi::Card& card)
    : rest_(card.config, card.fixed.config_bytes < abi::kCardConfigBytes ? card.fixed.config_bytes
                                                                         : abi::kCardConfigBytes) {}

bool ConfigReader::next(ConfigLine& line) {
  if (rest_.empty()) return false;
  const size_t end = find(rest_, '\n');
  const std::string_view text(rest_.data(), end);
  rest_.remove_prefix(end < rest_.size() ? end + 1 : end);
  const size_t space = find(text, ' ');
  line.key = {text.data(), space};
  line.value = space < text.size() ? std::string_view(text.data() + space + 1, text.size() - space - 1)
                                   : std::string_view();
  return true;
}

uint64_t parse_number(std::string_view text, uint64_t otherwise) {
  constexpr size_t kMostDigits = 18;  // fits 64 bits whatever they are
  if (text.empty() || text.size() > kMostDigits) return otherwise;
  uint64_t value = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return otherwise;
    value = value * 10 + static_cast<uint64_t>(digit - '0');
  }
  return value;
}

}  // namespace synfluid::guest
