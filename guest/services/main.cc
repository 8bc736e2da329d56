#include "guest/services/guest.h"
#include "guest/services/text.h"

namespace synfluid::guest {
namespace {

/// Frames between two looks at the clock and two notifications. As many as the receive ring of a small guest
/// holds.
constexpr uint32_t kBatch = 64;
/// Pages an inline service keeps for frames of its own (RSTs).
constexpr uint32_t kInlineReserve = 2;

abi::Card& card_of(Platform& platform) {
  return *reinterpret_cast<abi::Card*>(platform.shared_area());
}

Guest* refuse(Platform& platform, const char* note) {
  write_death_note(card_of(platform), note);
  return nullptr;
}

/// A terminating guest needs pages to write into; an inline one sends from the pages it receives in.
uint32_t receive_target(const abi::CardFixed& fixed) {
  if (fixed.service == abi::ServiceKind::kResponder) return fixed.rx_posted;
  const uint32_t most = fixed.buffers > 2 * kInlineReserve ? fixed.buffers - kInlineReserve : fixed.buffers;
  return most > fixed.rx_posted ? most : fixed.rx_posted;
}

Service* make_service(const ServiceParts& parts) {
  switch (parts.card.fixed.service) {
    case abi::ServiceKind::kResponder:
      return make_responder(parts);
    case abi::ServiceKind::kPassthrough:
      return make_passthrough(parts);
    case abi::ServiceKind::kFirewall:
      return make_firewall(parts);
  }
  return nullptr;
}

const char* name_of(abi::ServiceKind kind) {
  switch (kind) {
    case abi::ServiceKind::kResponder:
      return "responder";
    case abi::ServiceKind::kPassthrough:
      return "passthrough";
    case abi::ServiceKind::kFirewall:
      return "firewall";
  }
  return "?";
}

void say_who_runs(abi::Card& card) {
  char room[kLineBytes];
  TextWriter line(room);
  line.text(name_of(card.fixed.service)).text(" in domain ").number(card.fixed.domid);
  line.text(": ").number(card.fixed.buffers).text(" buffers");
  Console(card.console).line(line.view());
}

}  // namespace

Guest::Guest(Platform& platform, uint32_t rx_target)
    : platform_(platform), card_(card_of(platform)), netfront_(platform, rx_target) {}

Guest* Guest::make(Platform& platform) {
  abi::Card& card = card_of(platform);
  if (card.fixed.magic != abi::kCardMagic || card.fixed.version != abi::kCardVersion) return nullptr;
  if (platform.memory().size() < kMinMemoryBytes) return refuse(platform, "too little working memory");
  if (card.fixed.buffers > abi::kMaxBuffers) return refuse(platform, "the card has too many buffers");
  net::Arena arena(platform.memory());
  Guest* guest = arena.make<Guest>(platform, receive_target(card.fixed));
  if (guest == nullptr) return refuse(platform, "too little working memory");
  guest->service_ = make_service({card, guest->netfront_, arena, Console(card.console)});
  if (guest->service_ == nullptr) return refuse(platform, "no such service, or too little memory for it");
  say_who_runs(card);
  card.guest.phase = abi::GuestPhase::kRunning;
  return guest;
}

Guest::Turn Guest::turn() {
  const uint64_t now_ns = platform_.now_ns();
  netfront_.reap();
  if (service_->wants_buffers() && netfront_.can_transmit()) service_->on_buffers(now_ns);
  uint32_t frames = 0;
  for (net::RxFrame frame; frames < kBatch && netfront_.receive(frame); ++frames)
    service_->on_frame(frame, now_ns);
  service_->run_timers(now_ns);
  publish_counters();
  netfront_.flush();
  if (frames == kBatch || (frames > 0 && more_comes())) return Turn::kBusy;
  const auto wants =
      service_->wants_buffers() ? net::Netfront::Wants::kBuffers : net::Netfront::Wants::kFrames;
  return netfront_.arm(wants) ? Turn::kBusy : Turn::kIdle;
}

/// Frames seldom come alone.
bool Guest::more_comes() const {
  for (uint32_t polls = platform_.polls_before_wait(); polls > 0; --polls) {
    if (netfront_.has_more()) return true;
    __builtin_ia32_pause();
  }
  return false;
}

void Guest::publish_counters() {
  const net::NetfrontCounters& net = netfront_.counters();
  const ServiceCounters service = service_->counters();
  card_.guest.frames_received = net.received;
  card_.guest.frames_sent = net.sent;
  card_.guest.frames_dropped = net.unusable + service.dropped;
  card_.guest.flows_blocked = service.flows_blocked;
}

void guest_main(Platform& platform) {
  Guest* guest = Guest::make(platform);
  if (guest == nullptr) platform.halt(card_of(platform).guest.death_note);
  bool first = true;
  for (;;) {
    if (guest->turn() == Guest::Turn::kBusy) continue;
    if (first) card_of(platform).guest.boot_ns = platform.now_ns() - platform.started_ns();
    first = false;
    platform.wait(guest->next_deadline_ns());
  }
}

}  // namespace synfluid::guest
