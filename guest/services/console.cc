#include "guest/services/console.h"

namespace synfluid::guest {

void Console::line(std::string_view text) {
  for (const char c : text) put(c);
  put('\n');
}

}  // namespace synfluid::guest
