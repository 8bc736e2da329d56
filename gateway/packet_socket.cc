#include "gateway/packet_socket.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>

#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/checksum.h"
#include "backend/vif.h"

namespace synfluid::gateway {

namespace {

constexpr size_t kMacs = 12;
constexpr size_t kTagBytes = 4;
constexpr uint16_t kTpidDot1q = 0x8100;
/// Ethernet, and a second tag that the kernel leaves in place.
constexpr uint32_t kLinkBytes = 14 + 4;
/// In front of a frame in its slot: the ring's header, the socket address, the virtio header, alignment.
constexpr uint32_t kSlotOverhead = 160;
/// A whole window of a fast flow, or a millisecond of 64-byte frames at 10 Mpps.
constexpr size_t kRingBytes = size_t{8} << 20;
constexpr uint32_t kBlockBytes = 64 * 1024;
constexpr int kSendBufferBytes = 4 << 20;
/// Frames that no slot holds wait in the socket's own queue: as much as in the ring.
constexpr int kReceiveBufferBytes = static_cast<int>(kRingBytes);

/// What the kernel puts in front of each frame (struct virtio_net_hdr; its header is no C++).
struct OffloadHeader {
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kTcp4Segments = 1;
  static constexpr uint8_t kTcp6Segments = 4;
  static constexpr uint8_t kUdpSegments = 5;
  static constexpr uint8_t kWithEcn = 0x80;
  uint8_t flags;
  uint8_t segmentation;
  uint16_t header_bytes;
  uint16_t segment_bytes;
  uint16_t checksum_start;
  uint16_t checksum_offset;
};
static_assert(sizeof(OffloadHeader) == 10);

class Setup {
 public:
  Setup(int fd, const std::string& interface) : fd_(fd), interface_(interface) {}

  template <class Value>
  Status option(int name, const Value& value, std::string_view what) const {
    if (setsockopt(fd_, SOL_PACKET, name, &value, sizeof(value)) == 0) return {};
    return Error::from_errno(errno, fmt::format("port iface:{}: {}", interface_, what));
  }

  Status bind_to(unsigned index, uint16_t protocol) const {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(protocol);
    address.sll_ifindex = static_cast<int>(index);
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return {};
    return Error::from_errno(errno, fmt::format("port iface:{}: cannot be bound", interface_));
  }

 private:
  const int fd_;
  const std::string& interface_;
};

Result<UniqueFd> packet_socket(const std::string& interface) {
  // Protocol 0: nothing is received before all is set up.
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (fd) return fd;
  if (errno != EPERM && errno != EACCES)
    return Error::from_errno(errno, fmt::format("port iface:{}: packet socket", interface));
  return Error(ErrorCode::kPermission,
               fmt::format("port iface:{}: a packet socket needs CAP_NET_RAW: run as root, or setcap "
                           "cap_net_raw,cap_net_admin+ep on the program",
                           interface),
               EPERM);
}

ifreq request_for(const std::string& interface) {
  ifreq request{};
  interface.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  return request;
}

/// Its MTU; an error if its frames are no Ethernet frames.
Result<uint32_t> mtu_of(int fd, const std::string& interface) {
  ifreq request = request_for(interface);
  if (ioctl(fd, SIOCGIFHWADDR, &request) != 0)
    return Error::from_errno(errno, fmt::format("port iface:{}: no hardware address", interface));
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER && request.ifr_hwaddr.sa_family != ARPHRD_LOOPBACK)
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("port iface:{}: it is no Ethernet interface (type {})", interface,
                             request.ifr_hwaddr.sa_family));
  request = request_for(interface);
  if (ioctl(fd, SIOCGIFMTU, &request) != 0)
    return Error::from_errno(errno, fmt::format("port iface:{}: no MTU", interface));
  return static_cast<uint32_t>(std::max(request.ifr_mtu, 0));
}

/// Without the privilege for more, the system's limit does.
void set_buffer(int fd, int forced, int polite, int bytes) {
  if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)) != 0)
    setsockopt(fd, SOL_SOCKET, polite, &bytes, sizeof(bytes));
}

Status set_up_receiver(const Setup& setup, unsigned index) {
  if (Status s = setup.option(PACKET_VERSION, int{TPACKET_V2}, "TPACKET_V2"); !s) return s;
  if (Status s = setup.option(PACKET_VNET_HDR, int{1}, "offload headers"); !s) return s;
  if (Status s = setup.option(PACKET_IGNORE_OUTGOING, int{1}, "ignoring the host's own frames"); !s) return s;
  // What is longer than a slot is queued whole beside the ring.
  if (Status s = setup.option(PACKET_COPY_THRESH, int{1}, "whole long frames"); !s) return s;
  packet_mreq promiscuous{};
  promiscuous.mr_ifindex = static_cast<int>(index);
  promiscuous.mr_type = PACKET_MR_PROMISC;
  return setup.option(PACKET_ADD_MEMBERSHIP, promiscuous, "promiscuous mode");
}

Result<UniqueFd> open_sender(const std::string& interface, unsigned index) {
  auto fd = packet_socket(interface);
  if (!fd) return fd.error();
  const Setup setup(fd->get(), interface);
  if (Status s = setup.option(PACKET_QDISC_BYPASS, int{1}, "sending past the queueing discipline"); !s)
    return s.error();
  set_buffer(fd->get(), SO_SNDBUFFORCE, SO_SNDBUF, kSendBufferBytes);
  if (Status s = setup.bind_to(index, 0); !s) return s.error();
  return fd;
}

/// The field has the pseudo header's sum; the rest is what a network card would have done.
bool complete_checksum(std::span<std::byte> frame, const OffloadHeader& offload) noexcept {
  const size_t start = offload.checksum_start;
  const size_t field = start + offload.checksum_offset;
  if (start >= frame.size() || field + 2 > frame.size()) return false;
  uint16_t sum = backend::fold_sum(backend::add_to_sum(frame.subspan(start), 0));
  if (sum == 0) sum = 0xffff;  // to UDP, zero is "none"; to TCP both are the same
  std::memcpy(frame.data() + field, &sum, sizeof(sum));
  return true;
}

/// A frame as the kernel gave it, and what it said of it.
struct Received {
  std::span<std::byte> bytes;
  OffloadHeader offload{};
};

/// Takes a frame that was queued beside the ring. Empty if `room` cannot hold it.
Received receive_whole(int fd, std::span<std::byte> room) noexcept {
  Received frame;
  std::array<iovec, 2> pieces{{{&frame.offload, sizeof(frame.offload)}, {room.data(), room.size()}}};
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  const ssize_t bytes = recvmsg(fd, &message, MSG_DONTWAIT);
  if (bytes < static_cast<ssize_t>(sizeof(frame.offload)) || (message.msg_flags & MSG_TRUNC) != 0) return {};
  frame.bytes = room.first(static_cast<size_t>(bytes) - sizeof(frame.offload));
  return frame;
}

/// Puts back the tag that the kernel took off, in the bytes before the frame.
void restore_tag(std::span<std::byte>& frame, const tpacket2_hdr& header) noexcept {
  if ((header.tp_status & TP_STATUS_VLAN_VALID) == 0 || frame.size() < kMacs) return;
  const bool told = (header.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0;
  const std::array<uint16_t, 2> tag{htons(told ? header.tp_vlan_tpid : kTpidDot1q),
                                    htons(header.tp_vlan_tci)};
  std::byte* const begin = frame.data() - kTagBytes;
  std::memmove(begin, frame.data(), kMacs);
  std::memcpy(begin + kMacs, tag.data(), kTagBytes);
  frame = {begin, frame.size() + kTagBytes};
}

/// What a slot stands for, its tag in place: in the slot, or in `whole` what is longer than that or has to be
/// cut. Empty: it is lost.
Received read_slot(std::byte* slot, int fd, std::span<std::byte> whole) noexcept {
  const auto& header = *reinterpret_cast<const tpacket2_hdr*>(slot);
  const auto room = whole.subspan(kTagBytes);
  Received frame;
  if (header.tp_snaplen == header.tp_len) {
    frame.bytes = {slot + header.tp_mac, header.tp_snaplen};
    std::memcpy(&frame.offload, frame.bytes.data() - sizeof(frame.offload), sizeof(frame.offload));
    if (frame.offload.segmentation != 0) {
      // The slot goes back before all of it is out.
      std::memcpy(room.data(), frame.bytes.data(), frame.bytes.size());
      frame.bytes = room.first(frame.bytes.size());
    }
  } else if ((header.tp_status & TP_STATUS_COPY) != 0) {
    frame = receive_whole(fd, room);
  }
  if (frame.offload.segmentation == 0 && (frame.offload.flags & OffloadHeader::kNeedsChecksum) != 0)
    complete_checksum(frame.bytes, frame.offload);
  restore_tag(frame.bytes, header);
  return frame;
}

bool start_cutting(Segmenter& segments, const Received& frame) noexcept {
  switch (frame.offload.segmentation & ~OffloadHeader::kWithEcn) {
    case OffloadHeader::kTcp4Segments:
    case OffloadHeader::kTcp6Segments:
      return segments.start(frame.bytes, Segmenter::Protocol::kTcp, frame.offload.segment_bytes);
    case OffloadHeader::kUdpSegments:
      return segments.start(frame.bytes, Segmenter::Protocol::kUdp, frame.offload.segment_bytes);
    default:
      return false;
  }
}

}  // namespace

Result<PacketSocket::Ring> PacketSocket::map_ring(int fd, uint32_t mtu) {
  const uint32_t frame = std::min<uint32_t>(mtu + kLinkBytes, backend::kMaxFrameBytes);
  Ring ring;
  ring.slot_bytes = std::bit_ceil(frame + kSlotOverhead);
  ring.slots = static_cast<uint32_t>(kRingBytes / ring.slot_bytes);
  const tpacket_req request{.tp_block_size = kBlockBytes,
                            .tp_block_nr = static_cast<unsigned>(kRingBytes / kBlockBytes),
                            .tp_frame_size = ring.slot_bytes,
                            .tp_frame_nr = ring.slots};
  if (setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)) != 0)
    return Error::from_errno(errno, "receive ring");
  void* const memory = mmap(nullptr, ring.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "mapping the receive ring");
  ring.memory = static_cast<std::byte*>(memory);
  return ring;
}

Result<std::unique_ptr<PacketSocket>> PacketSocket::open(const std::string& interface, rte_mempool& pool) {
  const unsigned index = if_nametoindex(interface.c_str());
  if (index == 0)
    return Error(ErrorCode::kNotFound,
                 fmt::format("port iface:{}: there is no network interface '{}'", interface, interface));
  auto receiver = packet_socket(interface);
  if (!receiver) return receiver.error();
  const auto mtu = mtu_of(receiver->get(), interface);
  if (!mtu) return mtu.error();
  const Setup setup(receiver->get(), interface);
  if (Status s = set_up_receiver(setup, index); !s) return s.error();
  set_buffer(receiver->get(), SO_RCVBUFFORCE, SO_RCVBUF, kReceiveBufferBytes);
  auto sender = open_sender(interface, index);
  if (!sender) return sender.error();
  const auto ring = map_ring(receiver->get(), *mtu);
  if (!ring) return ring.error().within(fmt::format("port iface:{}", interface));
  const int fd = receiver->get();
  std::unique_ptr<PacketSocket> port(new PacketSocket(std::move(*receiver), std::move(*sender), *ring, pool));
  constexpr uint16_t kEverything = 0x0003;  // ETH_P_ALL
  if (Status s = Setup(fd, interface).bind_to(index, kEverything); !s) return s.error();
  return port;
}

PacketSocket::~PacketSocket() {
  munmap(ring_.memory, ring_.bytes());
}

size_t PacketSocket::rx_burst(std::span<rte_mbuf*> out) noexcept {
  size_t got = 0;
  for (uint32_t looked = 0; got < out.size() && looked < out.size();) {
    if (!segments_.done()) {
      if (!cut(out[got])) break;
      ++got;
      continue;
    }
    std::byte* const slot = ring_.slot(next_);
    std::atomic_ref<uint32_t> status(reinterpret_cast<tpacket2_hdr*>(slot)->tp_status);
    if ((status.load(std::memory_order_acquire) & TP_STATUS_USER) == 0) break;
    rte_mbuf* frame = nullptr;
    if (!take(slot, frame)) break;
    if (frame != nullptr) out[got++] = frame;
    status.store(TP_STATUS_KERNEL, std::memory_order_release);
    next_ = next_ + 1 == ring_.slots ? 0 : next_ + 1;
    ++looked;
  }
  return got;
}

/// The next segment of the frame that is being cut. False: the pool is empty.
bool PacketSocket::cut(rte_mbuf*& frame) noexcept {
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(&pool_);
  if (mbuf == nullptr) return false;
  const size_t bytes = segments_.next_bytes();
  segments_.write_next(
      {reinterpret_cast<std::byte*>(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes))), bytes});
  frame = mbuf;
  return true;
}

/// Copies the slot's frame into `frame`, or leaves that null for one that has to be cut or is too long.
/// False: the pool is empty, and the slot stays as it is.
bool PacketSocket::take(std::byte* slot, rte_mbuf*& frame) noexcept {
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(&pool_);
  if (mbuf == nullptr) return false;
  const Received received = read_slot(slot, receiver_.get(), *whole_);
  const size_t bytes = received.bytes.size();
  const size_t room = rte_pktmbuf_tailroom(mbuf);
  if (received.offload.segmentation != 0) {
    if (!start_cutting(segments_, received) || segments_.next_bytes() > room) {
      segments_.drop();
      too_long_.add();
    }
  } else if (bytes == 0 || bytes > room) {
    too_long_.add();
  } else {
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(bytes)), received.bytes.data(), bytes);
    frame = mbuf;
    return true;
  }
  rte_pktmbuf_free(mbuf);
  return true;
}

size_t PacketSocket::tx_burst(std::span<rte_mbuf*> frames) noexcept {
  std::array<iovec, kBurst> pieces;
  std::array<mmsghdr, kBurst> messages{};
  const size_t count = std::min(frames.size(), kBurst);
  for (size_t i = 0; i < count; ++i) {
    const auto bytes = bytes_of(frames[i]);
    pieces[i] = {bytes.data(), bytes.size()};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  size_t taken = 0;
  while (taken < count) {
    const int sent =
        sendmmsg(sender_.get(), &messages[taken], static_cast<unsigned>(count - taken), MSG_DONTWAIT);
    if (sent > 0) {
      taken += static_cast<size_t>(sent);
    } else if (errno == EMSGSIZE || errno == EINVAL) {
      not_sent_.add();
      ++taken;
    } else {
      break;  // full, or the interface is down
    }
  }
  rte_pktmbuf_free_bulk(frames.data(), static_cast<unsigned>(taken));
  return taken;
}

PortLosses PacketSocket::losses() noexcept {
  tpacket_stats since{};
  socklen_t length = sizeof(since);
  if (getsockopt(receiver_.get(), SOL_PACKET, PACKET_STATISTICS, &since, &length) == 0)
    kernel_drops_ += since.tp_drops;
  return {.kernel_drops = kernel_drops_, .too_long = too_long_.get(), .not_sent = not_sent_.get()};
}

}  // namespace synfluid::gateway
