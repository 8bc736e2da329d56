// The hypercalls that a PV guest of ours makes, by the `syscall` instruction itself: no hypercall page to
// fill in.
//
// Source: Xen public headers xen/arch-x86/xen-x86_64.h (registers), sched.h, event_channel.h, xen.h.
#pragma once

#include <cstdint>

#include "guest/platform/xen_pv/xen_abi.h"

namespace synfluid::guest::xen_pv {

inline long hypercall(long number, uintptr_t first, uintptr_t second = 0, uintptr_t third = 0,
                      uintptr_t fourth = 0) {
  register uintptr_t r10 asm("r10") = fourth;
  long result;
  asm volatile("syscall"
               : "=a"(result), "+D"(first), "+S"(second), "+d"(third), "+r"(r10)
               : "0"(number)
               : "rcx", "r11", "memory");
  return result;
}

inline void set_trap_table(const trap_info* table) {
  hypercall(__HYPERVISOR_set_trap_table, reinterpret_cast<uintptr_t>(table));
}

/// Returns when the port is pending, or when `deadline_ns` of Xen's system time has come (0: never).
inline void poll_port(evtchn_port_t port, uint64_t deadline_ns) {
  sched_poll poll{};
  set_xen_guest_handle(poll.ports, &port);
  poll.nr_ports = 1;
  poll.timeout = deadline_ns;
  hypercall(__HYPERVISOR_sched_op, SCHEDOP_poll, reinterpret_cast<uintptr_t>(&poll));
}

/// Binds a port that the back end's domain left open to us; it is pending at once. Returns our end, or
/// nothing that could be one.
inline evtchn_port_t bind_port(domid_t domain, evtchn_port_t remote) {
  evtchn_bind_interdomain bind{.remote_dom = domain, .remote_port = remote, .local_port = 0};
  const long failed =
      hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_bind_interdomain, reinterpret_cast<uintptr_t>(&bind));
  return failed == 0 ? bind.local_port : 0;
}

inline void send_event(evtchn_port_t port) {
  evtchn_send send{port};
  hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, reinterpret_cast<uintptr_t>(&send));
}

/// Takes one page of what is claimed for us. Returns its frame; 0 if there is none.
inline xen_pfn_t populate_page(uint64_t pfn) {
  xen_pfn_t extent = pfn;
  xen_memory_reservation reservation{};
  set_xen_guest_handle(reservation.extent_start, &extent);
  reservation.nr_extents = 1;
  reservation.domid = DOMID_SELF;
  const long taken =
      hypercall(__HYPERVISOR_memory_op, XENMEM_populate_physmap, reinterpret_cast<uintptr_t>(&reservation));
  return taken == 1 ? extent : 0;
}

inline bool map_page(const void* at, uint64_t entry) {
  return hypercall(__HYPERVISOR_update_va_mapping, reinterpret_cast<uintptr_t>(at), entry, UVMF_NONE) == 0;
}

/// Makes an empty page table of a frame of ours, and enters it into `entry` of the table above it, both by
/// machine addresses.
inline bool add_page_table(xen_pfn_t frame, uint64_t entry, uint64_t value) {
  mmuext_op clear{};
  clear.cmd = MMUEXT_CLEAR_PAGE;
  clear.arg1.mfn = frame;
  if (hypercall(__HYPERVISOR_mmuext_op, reinterpret_cast<uintptr_t>(&clear), 1, 0, DOMID_SELF) != 0)
    return false;
  mmu_update update{entry | MMU_NORMAL_PT_UPDATE, value};
  return hypercall(__HYPERVISOR_mmu_update, reinterpret_cast<uintptr_t>(&update), 1, 0, DOMID_SELF) == 0;
}

[[noreturn]] inline void shut_down(unsigned reason) {
  sched_shutdown shutdown{reason};
  for (;;) hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, reinterpret_cast<uintptr_t>(&shutdown));
}

}  // namespace synfluid::guest::xen_pv
