// The netif ring protocol as memory: what netfront and netback share, one page a ring.
//
// Freestanding: the host, the PV guest and the guest process all include it. The layout is Xen's (public
// header xen/io/netif.h and ring.h, which a unit test of backend/ compares this one with); the names are
// ours.
//
// One writer per field: the front end writes req_prod and rsp_event, the back end rsp_prod and req_event. The
// producer index is published after the entries (release) and read before them (acquire). Indices run freely;
// the slot is index modulo kRingSlots. Whoever reads an index or an entry that the other side wrote reads it
// once and checks it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace synfluid::abi {

inline constexpr uint32_t kPageBytes = 4096;
inline constexpr uint32_t kRingSlots = 256;

struct NetTxRequest {
  uint32_t gref;
  uint16_t offset;
  uint16_t flags;  ///< kTx*
  uint16_t id;
  uint16_t size;  ///< of the whole frame in the first request of a frame, of the fragment in the others
};

struct NetTxResponse {
  uint16_t id;
  int16_t status;  ///< kRsp*
};

struct NetRxRequest {
  uint16_t id;
  uint16_t pad;
  uint32_t gref;  ///< a whole page that the back end may write
};

struct NetRxResponse {
  uint16_t id;
  uint16_t offset;
  uint16_t flags;  ///< kRx*
  int16_t status;  ///< kRsp* when negative, else bytes in this page
};

inline constexpr uint16_t kTxCsumBlank = 1 << 0;
inline constexpr uint16_t kTxDataValidated = 1 << 1;
inline constexpr uint16_t kTxMoreData = 1 << 2;
inline constexpr uint16_t kTxExtraInfo = 1 << 3;

inline constexpr uint16_t kRxDataValidated = 1 << 0;
inline constexpr uint16_t kRxCsumBlank = 1 << 1;
inline constexpr uint16_t kRxMoreData = 1 << 2;
inline constexpr uint16_t kRxExtraInfo = 1 << 3;

inline constexpr int16_t kRspDropped = -2;
inline constexpr int16_t kRspError = -1;
inline constexpr int16_t kRspOkay = 0;
inline constexpr int16_t kRspNull = 1;

/// The head of a ring page; the entries begin at kRingEntries.
struct RingIndices {
  uint32_t req_prod;   ///< written by the front end
  uint32_t req_event;  ///< written by the back end: notify me when req_prod passes this
  uint32_t rsp_prod;   ///< written by the back end
  uint32_t rsp_event;  ///< written by the front end: notify me when rsp_prod passes this
  uint8_t pad[48];
};

union NetTxEntry {
  NetTxRequest request;
  NetTxResponse response;
};

union NetRxEntry {
  NetRxRequest request;
  NetRxResponse response;
};

template <class Entry, uint32_t Slots = kRingSlots>
struct RingPage {
  static constexpr uint32_t kSlots = Slots;
  RingIndices indices;
  Entry entries[Slots];
};

using NetTxRing = RingPage<NetTxEntry>;
using NetRxRing = RingPage<NetRxEntry>;

// ---- the control ring ----

struct NetCtrlRequest {
  uint16_t id;
  uint16_t type;  ///< kCtrl*
  uint32_t data[3];
};

struct NetCtrlResponse {
  uint16_t id;
  uint16_t type;
  uint32_t status;  ///< kCtrlStatus*
  uint32_t data;
};

/// A static grant, as ADD_GREF_MAPPING and DEL_GREF_MAPPING list them.
struct NetGref {
  uint32_t gref;
  uint16_t flags;   ///< kGrefReadOnly
  uint16_t status;  ///< of its removal: kCtrlStatus*
};

inline constexpr uint16_t kCtrlGetGrefMappingSize = 8;
inline constexpr uint16_t kCtrlAddGrefMapping = 9;
inline constexpr uint16_t kCtrlDelGrefMapping = 10;

inline constexpr uint32_t kCtrlStatusSuccess = 0;
inline constexpr uint32_t kCtrlStatusNotSupported = 1;
inline constexpr uint32_t kCtrlStatusInvalidParameter = 2;

inline constexpr uint16_t kGrefReadOnly = 1 << 0;
inline constexpr uint32_t kGrefsPerPage = kPageBytes / sizeof(NetGref);

union NetCtrlEntry {
  NetCtrlRequest request;
  NetCtrlResponse response;
};
using NetCtrlRing = RingPage<NetCtrlEntry, 128>;

static_assert(sizeof(RingIndices) == 64);
static_assert(sizeof(NetTxEntry) == 12 && sizeof(NetRxEntry) == 8);
static_assert(sizeof(NetCtrlEntry) == 16 && sizeof(NetGref) == 8);
static_assert(sizeof(NetTxRing) <= kPageBytes && sizeof(NetRxRing) <= kPageBytes &&
              sizeof(NetCtrlRing) <= kPageBytes);

}  // namespace synfluid::abi
