#include "spawner/xen/guest_console.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "backend/xen/channel.h"
#include "base/abi/netif.h"
#include "spawner/xen/foreign_domain.h"

namespace synfluid::spawner::xen {

namespace {

/// One page: what goes in, what came out, and the indices.
struct ConsoleRing {
  char in[1024];
  char out[2048];
  uint32_t in_cons, in_prod;
  uint32_t out_cons, out_prod;
};
static_assert(sizeof(ConsoleRing) == 3088 && sizeof(ConsoleRing) <= abi::kPageBytes);

class MappedConsole final : public GuestConsole {
 public:
  MappedConsole(backend::xen::GrantMap map, backend::xen::Channel channel)
      : map_(std::move(map)), channel_(std::move(channel)) {}

  void read() override {
    const std::string text = drain_console(map_.bytes());
    if (text.empty()) return;
    keep_tail(tail_, text);
    channel_.notify();  // there is room again
  }
  const std::string& tail() const override { return tail_; }

 private:
  backend::xen::GrantMap map_;
  backend::xen::Channel channel_;
  std::string tail_;
};

}  // namespace

std::string drain_console(std::span<std::byte> page) {
  auto& ring = *reinterpret_cast<ConsoleRing*>(page.data());
  const uint32_t from = __atomic_load_n(&ring.out_cons, __ATOMIC_RELAXED);
  const uint32_t to = __atomic_load_n(&ring.out_prod, __ATOMIC_ACQUIRE);
  std::string text;
  if (to - from <= sizeof(ring.out))
    for (uint32_t i = from; i != to; ++i)
      text.push_back(__atomic_load_n(&ring.out[i % sizeof(ring.out)], __ATOMIC_RELAXED));
  __atomic_store_n(&ring.out_cons, to, __ATOMIC_RELEASE);
  return text;
}

void keep_tail(std::string& tail, std::string_view text) {
  tail.append(text);
  if (tail.size() > kTailBytes) tail.erase(0, tail.size() - kTailBytes);
}

std::string last_line(std::string_view tail) {
  const size_t end = tail.find_last_not_of("\r\n \t");
  if (end == std::string_view::npos) return {};
  const size_t before = tail.substr(0, end + 1).find_last_of("\r\n");
  std::string line(tail.substr(before == std::string_view::npos ? 0 : before + 1, std::string_view::npos));
  line.resize(end - (before == std::string_view::npos ? 0 : before + 1) + 1);
  for (char& c : line)
    if (c < ' ' || c > '~') c = '?';
  return line;
}

Result<std::unique_ptr<GuestConsole>> connect_console(backend::xen::GrantMapper& mapper,
                                                      backend::xen::XenDoorbells& doorbells, DomId domid,
                                                      EventPort guest_port, backend::DoorbellToken token) {
  auto shard = mapper.shard();
  if (!shard) return shard.error();
  const std::array<uint32_t, 1> refs = {kConsoleGrant};
  auto map = backend::xen::map_grants(std::move(*shard), domid, refs);
  if (!map) return map.error().within("console");
  auto channel = backend::xen::Channel::bind(doorbells, domid, guest_port, token);
  if (!channel) return channel.error().within("console");
  return std::unique_ptr<GuestConsole>(std::make_unique<MappedConsole>(std::move(*map), std::move(*channel)));
}

}  // namespace synfluid::spawner::xen
