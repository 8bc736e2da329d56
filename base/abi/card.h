// The card: the first page of what a guest of ours shares with its host, and the layout of all of it.
//
// Freestanding: the host, the PV guest and the guest process include it. A guest of ours never negotiates:
// before its first instruction the builder has laid out the shared area below, granted every page of it
// read-write to the back end, opened an event channel for it, and posted the receive buffers.
//
//     page 0                 the card
//     page 1                 transmit ring (netif.h)
//     page 2                 receive ring (netif.h)
//     page 3 .. 3+buffers-1  buffers; the first `rx_posted` of them are posted on the receive ring before the
//     start
//                            (request id = buffer number), the others are the guest's to transmit from
//
// Page i of the area has grant reference kFirstGrant + i, on Xen and on `process` alike. A guest may transmit
// from any buffer, a received one included. It repost a buffer with its number as the id.
//
// Trust: the host fills its part before the start and never reads it back; what the guest writes is a claim,
// good for statistics and a death note, and nothing else.
//
// Versions: a guest that finds another magic or version writes nothing and halts.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/abi/netif.h"

namespace synfluid::abi {

inline constexpr uint32_t kCardMagic = 0x43464e53;  // "SNFC"
inline constexpr uint32_t kCardVersion = 1;

/// Xen keeps the first eight grant references for itself (GNTTAB_NR_RESERVED_ENTRIES).
inline constexpr uint32_t kFirstGrant = 8;

inline constexpr uint32_t kCardPage = 0;
inline constexpr uint32_t kTxRingPage = 1;
inline constexpr uint32_t kRxRingPage = 2;
inline constexpr uint32_t kFirstBufferPage = 3;
inline constexpr uint32_t kMaxBuffers = 256;

/// Which built-in service the image is to be.
enum class ServiceKind : uint32_t { kResponder = 1, kPassthrough = 2, kFirewall = 3 };

/// How far the guest has come, in its own words.
enum class GuestPhase : uint32_t { kNotStarted = 0, kRunning = 1, kPanicked = 2 };

/// Written by the host before the guest first runs, constant afterwards.
struct CardFixed {
  uint32_t magic;
  uint32_t version;
  uint32_t domid;
  uint32_t generation;  ///< tells apart two guests that had the same domid
  ServiceKind service;
  uint32_t
      event_port;      ///< the host's end of the vif's event channel, for the guest to bind; not on `process`
  uint32_t buffers;    ///< buffer pages in the area
  uint32_t rx_posted;  ///< how many of them are posted on the receive ring at the start
  uint8_t mac[6];
  uint16_t config_bytes;  ///< of CardPage::config in use
  uint32_t ready_pages;  ///< of working memory, there from the start; further ones come when they are touched
                         ///< (Xen)
  uint64_t entropy[4];   ///< fresh for every guest
};

/// Written by the host when a flow is given to the guest: at the latest before the flow's first frame is in
/// the ring.
struct CardAssignment {
  uint64_t syn_age_ns;  ///< how old the first SYN was when it was put on the receive ring
};

/// Written by the guest alone.
struct CardGuest {
  GuestPhase phase;
  uint32_t reserved;
  uint64_t frames_received;
  uint64_t frames_sent;
  uint64_t frames_dropped;  ///< by the guest: no buffer, malformed, blocked
  uint64_t flows_blocked;   ///< firewall: flows it reset
  uint64_t boot_ns;         ///< own clock, from the first instruction to the first wait
  char death_note[128];     ///< why it panicked; zero-terminated
};

/// What the guest says to people: byte i of all it ever wrote stands at text[i % kConsoleBytes], for as long
/// as nothing newer does. Written by the guest alone.
inline constexpr uint32_t kConsoleBytes = 512;
struct CardConsole {
  uint32_t written;  ///< bytes so far, modulo 2^32
  char text[kConsoleBytes];
};

inline constexpr uint32_t kCardConfigBytes = 3072;

struct Card {
  CardFixed fixed;
  alignas(64) CardAssignment assignment;
  alignas(64) CardGuest guest;
  /// Lines "key value\n" of the service's configuration, not terminated.
  alignas(64) char config[kCardConfigBytes];
  alignas(64) CardConsole console;
};

static_assert(sizeof(CardFixed) == 80);
static_assert(offsetof(Card, assignment) == 128);
static_assert(offsetof(Card, guest) == 192);
static_assert(offsetof(Card, config) == 384);
static_assert(offsetof(Card, console) == 3456);
static_assert(sizeof(Card) <= kPageBytes);

/// Pages of a shared area with so many buffers.
constexpr uint32_t shared_pages(uint32_t buffers) {
  return kFirstBufferPage + buffers;
}

}  // namespace synfluid::abi
