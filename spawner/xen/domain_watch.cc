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

/// Between two passes over all domains: a dead guest's flow waits this long at the most while there are no
/// more than a slice has.
constexpr long kPassNs = 50 * kNsPerMs;

/// A flow that comes meanwhile waits for one slice, 0.1 ms; its answer fits a page, which libxencall keeps.
constexpr uint32_t kSliceDomains = 32;
/// 10,000 domains are looked at in a second.
constexpr long kSliceNs = 3 * kNsPerMs;

}  // namespace

Result<DomainWatch> DomainWatch::create(toolstack::XenCalls& xen) {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer) return Error::from_errno(errno, "making a timer");
  return DomainWatch(xen, std::move(timer));
}

void DomainWatch::add(VmId vm, uint64_t card_frame) {
  watched_[vm.domid] = {.generation = vm.generation, .card_frame = card_frame};
  if (period_ns_ == 0) tick_every(kPassNs);
}

void DomainWatch::remove(VmId vm) {
  const auto found = watched_.find(vm.domid);
  if (found != watched_.end() && found->second.generation == vm.generation) watched_.erase(found);
}

void DomainWatch::tick_every(long period_ns) {
  if (period_ns == period_ns_) return;
  const itimerspec spec{.it_interval = {.tv_sec = 0, .tv_nsec = period_ns},
                        .it_value = {.tv_sec = 0, .tv_nsec = period_ns}};
  period_ns_ = period_ns;
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
    tick_every(0);
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
  const bool is_pass_over = infos->size() < kSliceDomains;
  next_id_ = is_pass_over ? 0 : static_cast<uint16_t>(infos->back().domid.value() + 1);
  tick_every(is_pass_over ? kPassNs : kSliceNs);
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
