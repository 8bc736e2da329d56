// Is this UTF-8 text a person could have typed? And how to show some of it.
//
// Threads: reentrant. No ownership.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace synfluid::policies {

/// The offset of the first byte that is no well-formed UTF-8 (RFC 3629), or a control character other than
/// tab, line feed and carriage return.
std::optional<size_t> find_bad_text(std::string_view text);

/// At most `max_bytes` of it, in one line: control characters as '?', and "..." where something is left out.
std::string excerpt(std::string_view text, size_t max_bytes = 60);

}  // namespace synfluid::policies
