#include "bench/echo_frames.h"

#include <utility>

#include <linux/if_ether.h>

namespace synfluid::bench {
namespace {

constexpr Mac kOurMac{0x02, 0, 0, 0, 0, 0x77};
constexpr std::array<uint8_t, 4> kOurAddress{10, 9, 0, 77};
constexpr std::array<uint8_t, 4> kGuestAddress{10, 9, 0, 2};

class FrameWriter {
 public:
  FrameWriter(const Mac& to, uint16_t type, size_t length) : frame_(length) {
    bytes(to).bytes(kOurMac).word(type);
  }
  template <class Bytes>
  FrameWriter& bytes(const Bytes& from) {
    for (const auto byte : from) frame_[at_++] = static_cast<std::byte>(byte);
    return *this;
  }
  FrameWriter& word(size_t value) {
    return bytes(std::array<uint8_t, 2>{static_cast<uint8_t>(value >> 8), static_cast<uint8_t>(value)});
  }
  /// The Internet checksum of what is between, into `into`.
  FrameWriter& checksum(size_t from, size_t to, size_t into) {
    uint32_t sum = 0;
    for (size_t i = from; i < to; i += 2)
      sum += std::to_integer<uint32_t>(frame_[i]) << 8 | std::to_integer<uint32_t>(frame_[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16));
    frame_[into] = static_cast<std::byte>(sum >> 8);
    frame_[into + 1] = static_cast<std::byte>(sum);
    return *this;
  }
  Frame take() { return std::move(frame_); }

 private:
  Frame frame_;
  size_t at_ = 0;
};

}  // namespace

Frame silent_frame(const Mac& guest, size_t length) {
  return FrameWriter(guest, ETH_P_802_EX1, length).take();
}

Frame echo_request(const Mac& guest, size_t length) {
  FrameWriter w(guest, ETH_P_IP, length);
  w.word(0x4500).word(length - 14).word(0).word(0x4000).word(0x4001).word(0).bytes(kOurAddress);
  w.bytes(kGuestAddress).word(0x0800).word(0).word(1).word(1);
  return w.checksum(14, 34, 24).checksum(34, length, 36).take();
}

Frame arp_request(const Mac& guest) {
  FrameWriter w(guest, ETH_P_ARP, 60);
  w.word(1).word(ETH_P_IP).word(0x0604).word(1).bytes(kOurMac).bytes(kOurAddress);
  return w.bytes(Mac{}).bytes(kGuestAddress).take();
}

}  // namespace synfluid::bench
