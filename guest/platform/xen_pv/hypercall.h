// The hypercalls that a PV guest of ours makes, by the `syscall` instruction itself: no hypercall page to
// fill in.
//
// Source: Xen public headers xen/arch-x86/xen-x86_64.h (registers), sched.h, event_channel.h, xen.h.
#pragma once

#include <cstdint>

#include "guest/platform/xen_pv/xen_abi.h"

namespace synfluid::guest::xen_pv {

inline long hypercall(long number, uintptr_t first, uintptr_t second = 0) {
  long result;
  asm volatile("syscall" : "=a"(result), "+D"(first), "+S"(second) : "0"(number) : "rcx", "r11", "memory");
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

[[noreturn]] inline void shut_down(unsigned reason) {
  sched_shutdown shutdown{reason};
  for (;;) hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, reinterpret_cast<uintptr_t>(&shutdown));
}

}  // namespace synfluid::guest::xen_pv
