#include "spawner/xen/domain_watch.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include <sys/timerfd.h>
#include <unistd.h>

#include "base/abi/card.h"
#include "base/clock.h"
#include "spawner/card_console.h"
#include "spawner/xen/card_reader.h"

namespace synfluid::spawner::xen {

namespace {

/// A dead guest's flow waits this long at the most while there are no more domains than a slice has.
constexpr long kTickNs = 50 * kNsPerMs;

/// One hypercall of about a microsecond a domain: half a millisecond a tick, 1% of a core.
constexpr uint32_t kSliceDomains = 512;

}  // namespace

Result<DomainWatch> DomainWatch::create(toolstack::XenCalls& xen) {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer) return Error::from_errno(errno, "making a timer");
  return DomainWatch(xen, std::move(timer));
}

void DomainWatch::add(VmId vm, uint64_t card_frame) {
  watched_[vm.domid] = {.generation = vm.generation, .card_frame = card_frame};
  if (!ticking_) set_ticking(true);
}

void DomainWatch::remove(VmId vm) {
  const auto found = watched_.find(vm.domid);
  if (found != watched_.end() && found->second.generation == vm.generation) watched_.erase(found);
}

void DomainWatch::set_ticking(bool ticking) {
  const long period = ticking ? kTickNs : 0;
  const itimerspec spec{.it_interval = {.tv_sec = 0, .tv_nsec = period},
                        .it_value = {.tv_sec = 0, .tv_nsec = period}};
  ticking_ = ticking;
  ::timerfd_settime(timer_.get(), 0, &spec, nullptr);
}

bool DomainWatch::take_tick() {
  uint64_t ticks = 0;
  return ::read(timer_.get(), &ticks, sizeof(ticks)) == sizeof(ticks);
}

std::optional<VmEvent> DomainWatch::next() {
  if (events_.empty() && take_tick()) look_at_a_slice();
  if (events_.empty()) return std::nullopt;
  VmEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void DomainWatch::look_at_a_slice() {
  if (watched_.empty()) {
    set_ticking(false);
    return;
  }
  const uint16_t lowest = watched_.begin()->first.value();
  const auto infos = xen_.list_domains(DomId(std::max(next_id_, lowest)), kSliceDomains);
  if (!infos) return;
  for (const toolstack::DomainInfo& info : *infos) {
    const auto found = watched_.find(info.domid);
    if (found == watched_.end() || found->second.reported || !(info.shut_down || info.dying)) continue;
    report(info, found->second);
  }
  next_id_ = infos->size() < kSliceDomains ? 0 : static_cast<uint16_t>(infos->back().domid.value() + 1);
}

void DomainWatch::report(const toolstack::DomainInfo& info, Watched& watched) {
  watched.reported = true;
  const bool exited = info.shut_down && !info.crashed;
  events_.push_back({.vm = {info.domid, watched.generation},
                     .kind = exited ? VmEvent::Kind::kExited : VmEvent::Kind::kCrashed,
                     .detail = last_words(info.domid, watched.card_frame)});
}

std::string DomainWatch::last_words(DomId domid, uint64_t card_frame) {
  if (card_frame == 0) return {};
  const auto card = read_card(xen_, domid, card_frame);
  if (!card) return {};
  char note[sizeof(abi::CardGuest::death_note)];
  std::memcpy(note, card->data() + offsetof(abi::Card, guest) + offsetof(abi::CardGuest, death_note),
              sizeof(note));
  std::string words = printable({note, ::strnlen(note, sizeof(note))});
  std::ranges::replace(words, '\n', ' ');
  return words;
}

}  // namespace synfluid::spawner::xen
