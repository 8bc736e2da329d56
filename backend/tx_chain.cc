#include "backend/tx_chain.h"

#include <bit>

namespace synfluid::backend {

namespace {

constexpr uint32_t kMinFrameBytes = 14;  // an Ethernet header

struct ExtraInfo {
  ExtraType type;
  uint8_t flags;
  uint16_t rest[5];
};
static_assert(sizeof(ExtraInfo) == sizeof(abi::NetTxRequest));

class ChainReader {
 public:
  ChainReader(const TxBackRing& ring, uint32_t available, TxChain& chain)
      : ring_(ring), available_(available), chain_(chain) {}

  void read(uint32_t max_bytes) {
    abi::NetTxRequest head = take();
    const uint32_t whole = head.size;
    chain_.checksum_blank = (head.flags & abi::kTxCsumBlank) != 0;
    if ((head.flags & abi::kTxExtraInfo) != 0) read_extras();
    const uint32_t tail = read_tail(head);
    if (chain_.kind != TxChain::Kind::kFrame) return;

    if (whole < kMinFrameBytes || whole > max_bytes || tail >= whole) {
      reject();
    } else {
      chain_.bytes = static_cast<uint16_t>(whole);
      head.size = static_cast<uint16_t>(whole - tail);
      set_fragment(0, head);
    }
  }

 private:
  abi::NetTxRequest take() {
    const abi::NetTxRequest request = ring_.peek(chain_.slots);
    chain_.id[chain_.slots++] = request.id;
    return request;
  }

  bool has_more() {
    if (chain_.slots < available_) return true;
    chain_.kind = TxChain::Kind::kIncomplete;
    return false;
  }

  // A refusal stands, but a control message may turn out to be bad.
  void reject() {
    if (chain_.kind != TxChain::Kind::kIncomplete) chain_.kind = TxChain::Kind::kBad;
  }

  void read_extras() {
    for (bool more = true; more && has_more();) {
      const auto extra = std::bit_cast<ExtraInfo>(take());
      ++chain_.extras;
      more = (extra.flags & kExtraFlagMore) != 0;
      judge_extra(extra.type);
    }
  }

  void judge_extra(ExtraType type) {
    switch (type) {
      case ExtraType::kHash:
        return;  // a hint of the frame's flow, which we find ourselves
      case ExtraType::kMulticastAdd:
      case ExtraType::kMulticastDelete:
        if (chain_.kind == TxChain::Kind::kFrame) chain_.kind = TxChain::Kind::kControl;
        return;
      case ExtraType::kNone:
      case ExtraType::kGso:
        break;  // not offered
    }
    reject();
  }

  /// Reads the fragments behind the first. Returns their bytes.
  uint32_t read_tail(const abi::NetTxRequest& head) {
    chain_.fragments = 1;
    uint32_t bytes = 0;
    for (uint16_t flags = head.flags; (flags & abi::kTxMoreData) != 0 && has_more();) {
      const abi::NetTxRequest request = take();
      flags = request.flags;
      bytes += request.size;
      if (request.size == 0 || (flags & abi::kTxExtraInfo) != 0) reject();
      set_fragment(chain_.fragments++, request);
    }
    return bytes;
  }

  void set_fragment(uint32_t index, const abi::NetTxRequest& request) {
    if (index >= kMaxFragments || uint32_t{request.offset} + request.size > abi::kPageBytes) return reject();
    chain_.fragment[index] = {request.gref, request.offset, request.size};
  }

  const TxBackRing& ring_;
  uint32_t available_;
  TxChain& chain_;
};

}  // namespace

void read_tx_chain(const TxBackRing& ring, uint32_t available, uint32_t max_bytes, TxChain& out) noexcept {
  out.kind = TxChain::Kind::kFrame;
  out.slots = out.extras = out.fragments = out.bytes = 0;
  ChainReader(ring, available, out).read(max_bytes);
}

}  // namespace synfluid::backend
