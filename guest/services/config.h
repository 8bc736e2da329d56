// The service's configuration, as the card has it: lines "key value\n".
#pragma once

#include <cstdint>
#include <string_view>

#include "base/abi/card.h"

namespace synfluid::guest {

struct ConfigLine {
  std::string_view key;
  std::string_view value;
};

/// Walks over the lines. A line without a space has an empty value; the text is the card's.
class ConfigReader {
 public:
  explicit ConfigReader(const abi::Card& card);
  /// False at the end.
  bool next(ConfigLine& line);

 private:
  std::string_view rest_;
};

/// A decimal number; `otherwise` for anything else.
uint64_t parse_number(std::string_view text, uint64_t otherwise);

}  // namespace synfluid::guest
