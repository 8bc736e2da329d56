// Which hosts are blocked: the `block_hosts` (or `block_host`) lines of the card.
//
// A rule is a name ("ads.example.net": this host alone) or "*.example.net" (every host below it, not itself).
// Names compare without case; a port, one trailing dot and the brackets of an IPv6 literal do not count. A
// line may hold several rules, separated by spaces or commas. The rules point into the card.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/abi/card.h"
#include "guest/net/arena.h"

namespace synfluid::guest {

/// No host name is longer (RFC 1035 2.3.4), a port and a dot included.
inline constexpr size_t kMaxHostBytes = 255 + 6;

class HostRules {
 public:
  HostRules(const abi::Card& card, net::Arena& arena);

  /// `host` as it was in a Host header, a request target or an SNI extension.
  bool is_blocked(std::string_view host) const;
  size_t size() const { return rules_.size(); }

 private:
  struct Rule {
    std::string_view name;  ///< without "*." and without trailing dot
    bool below = false;
  };
  std::span<Rule> rules_;
};

}  // namespace synfluid::guest
