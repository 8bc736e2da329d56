#include "flowtable/flow_hash.h"

#include <cerrno>
#include <span>

#include <sys/random.h>

#include "base/siphash.h"

namespace synfluid::flowtable {

Result<Secret> random_secret() {
  Secret secret;
  if (getrandom(secret.data(), sizeof secret, 0) != static_cast<ssize_t>(sizeof secret))
    return Error::from_errno(errno, "reading a secret from the kernel's random generator");
  return secret;
}

FlowHash::FlowHash(const Secret& secret) noexcept {
  for (size_t i = 0; i < words_.size(); ++i) {
    const uint64_t counter = i;
    words_[i] = siphash(secret, std::span(&counter, 1));
  }
  ipv4_low_ = words_[0] + plain_ipv4::Flow::kMapped;
  ipv4_high_ = words_[1] + plain_ipv4::Flow::kMapped;
  ipv4_heads_ = product(words_[2], words_[3]);
}

}  // namespace synfluid::flowtable
