// What a packet costs dom0 and Xen, by the instruction clock: Linux's xen-netback beside ours.
//
// Three guests, one after the other: our own on our back end, a Debian kernel on our back end, the same
// kernel on xen-netback (made by xl). Batches of kBatch frames are sent to the guest, then this program
// sleeps, so that the guest has the CPU, and takes what has come back.
//
//   rx    the guest forgets the frames: a protocol that it does not know
//   echo  ICMP echo requests; the guest answers, or passes them back
//   tx    echo less rx
//
// Counted is dom0's CPU time as Xen keeps it (its hypercalls and interrupts are in it, the guest's own and
// idle time are not), less that of as many batches without frames, by packet. xen-netback gets its frames
// from a packet socket that skips the queue discipline; what the same socket costs on a dummy device is taken
// off. What came back is at its goal with xen-netback once dom0's stack has dropped it, with ours once
// receive() has copied it.
//
// Figures: PATH_{rx,tx}_{64,1500}, instructions a packet, and linux_over_synfluid_{rx,tx}_{64,1500}, to which
// our own guest belongs; linux_over_linux_guest_… has the Debian kernel on both sides. Where there is no
// Linux guest its figures are left out. Bulk receive in our own two modes is in bulk_receive.h.
#pragma once

#include "base/result.h"
#include "bench/report.h"

namespace synfluid::bench {

struct NetbackLabConfig {
  int rounds = 3;
  int batches = 100;  ///< of each sample
};

Status measure_packets_in_dom0(Report& report, const NetbackLabConfig& config);

}  // namespace synfluid::bench
