// The guest as a Xen PV domain.
//
// It takes no interrupts: upcalls stay masked (the builder sees to that before the first instruction), and
// waiting is one SCHEDOP_poll on the vif's event channel with the deadline as its time-out. So it needs no
// timer interrupt, no handler and no stack for one. Exceptions are bugs: each is noted on the card and ends
// the domain. But for one: a page fault in working memory that is claimed and not there yet gets the page.
//
// What the builder promises (spawner/toolstack/layout.h): the card at start_info.mod_start, Xen's shared info
// page mapped behind the shared area, and working memory from there to the last page.
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
void xen_pv_page_fault(const uint64_t* frame);
}

namespace synfluid::guest::xen_pv {
namespace {

constexpr uint32_t kVectors = 20;
constexpr uint32_t kStubBytes = 16;
constexpr uint32_t kPageFault = 14;
constexpr domid_t kBackendDomain = 0;

/// The builder's page tables: L4, L3, L2, then the first L1 tables.
constexpr uint64_t kL2 = 2;
constexpr uint64_t kTableEntries = 512;
constexpr uint64_t kL1Span = kTableEntries * abi::kPageBytes;

/// Of a page-fault's error code: the page was mapped, so the access was not allowed.
constexpr uint64_t kFaultPresent = 1;

/// Present, writable, user (which a PV kernel is), accessed, dirty; and a page's, not executable.
constexpr uint64_t kTableEntry = 0x67;
constexpr uint64_t kReadWriteEntry = 1ull << 63 | kTableEntry;

/// Vectors for which the CPU pushes an error code: 8, 10 to 14, 17.
constexpr uint32_t kWithErrorCode = 1u << 8 | 0x1fu << 10 | 1u << 17;

/// Of an exception frame, in words: Xen puts %rcx and %r11 before what the CPU pushes.
constexpr uint32_t kFrameErrorCode = 2;
constexpr uint32_t kFrameRip = 2;

class XenPvPlatform final : public Platform {
 public:
  explicit XenPvPlatform(const start_info& info)
      : area_(reinterpret_cast<std::byte*>(info.mod_start)),
        shared_info_(reinterpret_cast<volatile shared_info*>(area_ + info.mod_len)),
        memory_begin_(area_ + info.mod_len + abi::kPageBytes),
        end_(xen_pv_base + info.nr_pages * abi::kPageBytes),
        l2_frame_(reinterpret_cast<const xen_pfn_t*>(info.mfn_list)[pfn_of(info.pt_base) + kL2]) {
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
  volatile shared_info& shared() { return *shared_info_; }

  /// False if the back end has not left a port open to us. What it wrote into the rings before now is found
  /// by looking: the port is pending from the start.
  bool bind_doorbell() {
    port_ = bind_port(kBackendDomain, card().fixed.event_port);
    return port_ != 0;
  }

  /// What is there of it from the start.
  void clear_memory() { clear(memory_begin_, size_t{card().fixed.ready_pages} * abi::kPageBytes); }

  /// Gets the page at `address` if it is of working memory that is claimed for us and was never touched.
  bool get_memory(uintptr_t address) {
    auto* const page = reinterpret_cast<std::byte*>(address & ~uintptr_t{abi::kPageBytes - 1});
    if (page < memory_begin_ || page >= end_) return false;
    const xen_pfn_t frame = populate_page(pfn_of(address));
    const uint64_t entry = frame * abi::kPageBytes | kReadWriteEntry;
    if (frame == 0) return false;
    if (!map_page(page, entry) && !(add_table_for(address) && map_page(page, entry))) return false;
    clear(page, abi::kPageBytes);
    return true;
  }

 private:
  static uint64_t pfn_of(uintptr_t address) {
    return (address - reinterpret_cast<uintptr_t>(xen_pv_base)) / abi::kPageBytes;
  }

  /// An L1 table for the addresses around this one. Such tables are numbered from the end of memory on.
  bool add_table_for(uintptr_t address) {
    const uintptr_t span = address / kL1Span;
    const xen_pfn_t frame = populate_page(pfn_of(reinterpret_cast<uintptr_t>(end_)) + span);
    const uint64_t entry = l2_frame_ * abi::kPageBytes + span % kTableEntries * sizeof(uint64_t);
    return frame != 0 && add_page_table(frame, entry, frame * abi::kPageBytes | kTableEntry);
  }

  static void clear(std::byte* at, size_t bytes) {
    size_t words = bytes / sizeof(uint64_t);
    asm volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(0) : "memory");
  }

  /// An event that is pending stays so until this takes it: only then can the next one wake us.
  bool take_event() {
    constexpr uint32_t kWordBits = 64;
    auto* word = const_cast<unsigned long*>(&shared().evtchn_pending[port_ / kWordBits]);
    const unsigned long bit = 1ul << (port_ % kWordBits);
    if ((__atomic_load_n(word, __ATOMIC_ACQUIRE) & bit) == 0) return false;
    return (__atomic_fetch_and(word, ~bit, __ATOMIC_ACQ_REL) & bit) != 0;
  }

  std::byte* area_;
  volatile shared_info* shared_info_;
  std::byte* memory_begin_;
  std::byte* end_;
  xen_pfn_t l2_frame_;
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

/// Returns when the access can be made again.
extern "C" void xen_pv_page_fault(const uint64_t* frame) {
  if (the_platform != nullptr && (frame[kFrameErrorCode] & kFaultPresent) == 0 &&
      the_platform->get_memory(the_platform->shared().vcpu_info[0].arch.cr2))
    return;
  xen_pv_exception(kPageFault, frame);
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
