// The guest as a Xen PV domain.
//
// It takes no interrupts: upcalls stay masked (the builder sees to that before the first instruction), and
// waiting is one SCHEDOP_poll on the vif's event channel with the deadline as its time-out. So it needs no
// timer interrupt, no handler and no stack for one. Exceptions are bugs: each is noted on the card and ends
// the domain.
//
// What the builder promises (spawner/toolstack/layout.h): the card at start_info.mod_start, working memory
// from the shared area's end to the last page, and Xen's shared info page mapped after that.
#include "guest/platform/platform.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/abi/card.h"
#include "guest/platform/xen_pv/clock.h"
#include "guest/platform/xen_pv/hypercall.h"
#include "guest/platform/xen_pv/note.h"

extern "C" {
extern std::byte xen_pv_base[];
extern std::byte xen_pv_exception_stubs[];
[[noreturn]] void xen_pv_start(const start_info* info);
[[noreturn]] void xen_pv_exception(uint32_t vector, const uint64_t* frame);
}

namespace synfluid::guest::xen_pv {
namespace {

constexpr uint32_t kVectors = 20;
constexpr uint32_t kStubBytes = 16;
constexpr uint32_t kPageFault = 14;
constexpr domid_t kBackendDomain = 0;

/// Vectors for which the CPU pushes an error code: 8, 10 to 14, 17.
constexpr uint32_t kWithErrorCode = 1u << 8 | 0x1fu << 10 | 1u << 17;

/// Of an exception frame, in words: Xen puts %rcx and %r11 before what the CPU pushes.
constexpr uint32_t kFrameErrorCode = 2;
constexpr uint32_t kFrameRip = 2;

class XenPvPlatform final : public Platform {
 public:
  explicit XenPvPlatform(const start_info& info)
      : area_(reinterpret_cast<std::byte*>(info.mod_start)),
        end_(xen_pv_base + info.nr_pages * abi::kPageBytes),
        memory_begin_(area_ + info.mod_len) {
    started_ns_ = now_ns();
  }

  uint64_t now_ns() override { return system_time_ns(shared().vcpu_info[0].time); }
  uint64_t started_ns() override { return started_ns_; }

  void wait(uint64_t deadline_ns) override {
    if (take_event()) return;
    poll_port(port_, deadline_ns == kNever ? 0 : deadline_ns);
    take_event();
  }

  void ring_host() override { send_event(port_); }


  [[noreturn]] void halt(const char*) override { shut_down(SHUTDOWN_crash); }

  std::byte* shared_area() override { return area_; }
  std::span<std::byte> memory() override { return {memory_begin_, end_}; }

  abi::Card& card() { return *reinterpret_cast<abi::Card*>(area_); }
  volatile shared_info& shared() { return *reinterpret_cast<volatile shared_info*>(end_); }

  /// False if the back end has not left a port open to us. What it wrote into the rings before now is found
  /// by looking: the port is pending from the start.
  bool bind_doorbell() {
    port_ = bind_port(kBackendDomain, card().fixed.event_port);
    return port_ != 0;
  }

  void clear_memory() {
    auto* at = memory_begin_;
    size_t words = memory().size() / sizeof(uint64_t);
    asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
  }

 private:
  /// An event that is pending stays so until this takes it: only then can the next one wake us.
  bool take_event() {
    constexpr uint32_t kWordBits = 64;
    auto* word = const_cast<unsigned long*>(&shared().evtchn_pending[port_ / kWordBits]);
    const unsigned long bit = 1ul << (port_ % kWordBits);
    if ((__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit) == 0) return false;
    return (__atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit) != 0;
  }

  std::byte* area_;
  std::byte* end_;
  std::byte* memory_begin_;
  uint64_t started_ns_ = 0;
  evtchn_port_t port_ = 0;
};

/// Room for the one platform; no constructor runs before the entry, so it is made in place.
alignas(XenPvPlatform) std::byte platform_room[sizeof(XenPvPlatform)];
XenPvPlatform* the_platform = nullptr;

void catch_exceptions() {
  trap_info table[kVectors + 1]{};
  for (uint32_t i = 0; i < kVectors; ++i) {
    table[i].vector = static_cast<uint8_t>(i);
    table[i].cs = FLAT_KERNEL_CS64;
    table[i].address = reinterpret_cast<uintptr_t>(xen_pv_exception_stubs) + uintptr_t{i} * kStubBytes;
  }
  set_trap_table(table);
}

}  // namespace
}  // namespace synfluid::guest::xen_pv

namespace {
using namespace synfluid::guest;
using namespace synfluid::guest::xen_pv;
}  // namespace

void* operator new(size_t, void* at) noexcept;

extern "C" void xen_pv_start(const start_info* info) {
  catch_exceptions();
  the_platform = ::new (static_cast<void*>(platform_room)) XenPvPlatform(*info);
  if (!the_platform->bind_doorbell()) {
    write_death_note(the_platform->card(), "no event channel was left open by the back end");
    shut_down(SHUTDOWN_crash);
  }
  the_platform->clear_memory();
  guest_main(*the_platform);
}

extern "C" void xen_pv_exception(uint32_t vector, const uint64_t* frame) {
  if (the_platform != nullptr) {
    const bool has_code = vector < 32 && (kWithErrorCode >> vector & 1) != 0;
    Note note;
    note.text("exception ").number(vector);
    if (has_code) note.text(" code ").number(frame[kFrameErrorCode]);
    note.text(" at ").number(frame[kFrameRip + (has_code ? 1 : 0)]);
    if (vector == kPageFault) note.text(" address ").number(the_platform->shared().vcpu_info[0].arch.cr2);
    write_death_note(the_platform->card(), note.c_str());
  }
  shut_down(SHUTDOWN_crash);
}
