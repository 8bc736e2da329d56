#include "bench/memif_link.h"

#include <cstring>
#include <new>

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace synfluid::bench {

namespace {

constexpr time_t kPatienceSeconds = 5;
constexpr size_t kRingBytes = sizeof(MemifRing) + kMemifSlots * sizeof(MemifDescriptor);
constexpr size_t kBuffersAt = (2 * kRingBytes + kMemifBufferBytes - 1) & ~(kMemifBufferBytes - 1);
constexpr uint16_t kSlotMask = kMemifSlots - 1;

uint32_t buffer_offset(MemifDirection direction, size_t slot) {
  const size_t first = direction == MemifDirection::kToServer ? 0 : kMemifSlots;
  return static_cast<uint32_t>(kBuffersAt + (first + slot) * kMemifBufferBytes);
}

Result<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(ErrorCode::kInvalidArgument, "a long name: " + path);
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd out(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const timeval patience{kPatienceSeconds, 0};
  if (!out || setsockopt(out.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      connect(out.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, path);
  return out;
}

Status send_with(int socket, const MemifMessage& message, int file) {
  iovec bytes{const_cast<std::byte*>(message.data()), message.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof file)] = {};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (file >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* const files = CMSG_FIRSTHDR(&header);
    files->cmsg_level = SOL_SOCKET;
    files->cmsg_type = SCM_RIGHTS;
    files->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(files), &file, sizeof file);
  }
  if (sendmsg(socket, &header, MSG_NOSIGNAL) != static_cast<ssize_t>(message.size()))
    return Error::from_errno(errno, "talking to the server");
  return {};
}

Status expect(int socket, MemifType type) {
  MemifMessage message;
  const ssize_t got = recv(socket, message.data(), message.size(), 0);
  if (got < 0) return Error::from_errno(errno, "the server does not answer");
  if (got != static_cast<ssize_t>(message.size())) return Error(ErrorCode::kSystem, "the server has gone");
  if (memif_type(message) == MemifType::kDisconnect)
    return Error(ErrorCode::kSystem, "refused: " + memif_reason(message));
  if (memif_type(message) != type)
    return Error(ErrorCode::kSystem,
                 fmt::format("answer {} instead of {}", static_cast<int>(memif_type(message)),
                             static_cast<int>(type)));
  return {};
}

Status introduce(int socket, uint32_t interface_id, int memory) {
  // Nobody is ever called, but a ring must come with a file for that.
  const UniqueFd events(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!events) return Error::from_errno(errno, "an event file");
  const auto ring = [](MemifDirection direction) {
    return memif_add_ring(direction, MemifArea::ring_offset(direction), kMemifLog2Slots);
  };
  const struct {
    MemifMessage message;
    int file;
    MemifType answer;
  } steps[] = {
      {memif_init(interface_id), -1, MemifType::kAck},
      {memif_add_region(MemifArea::kBytes), memory, MemifType::kAck},
      {ring(MemifDirection::kToServer), events.get(), MemifType::kAck},
      {ring(MemifDirection::kToClient), events.get(), MemifType::kAck},
      {memif_connect(), -1, MemifType::kConnected},
  };
  if (Status hello = expect(socket, MemifType::kHello); !hello) return hello;
  for (const auto& step : steps) {
    if (Status sent = send_with(socket, step.message, step.file); !sent) return sent;
    if (Status answered = expect(socket, step.answer); !answered) return answered;
  }
  return {};
}

}  // namespace

// ---- the rings ----

const size_t MemifArea::kBytes = kBuffersAt + 2 * kMemifSlots * kMemifBufferBytes;

uint32_t MemifArea::ring_offset(MemifDirection direction) {
  return direction == MemifDirection::kToServer ? 0 : static_cast<uint32_t>(kRingBytes);
}

MemifRing& MemifArea::ring(MemifDirection direction) const {
  return *std::launder(reinterpret_cast<MemifRing*>(at_ + ring_offset(direction)));
}

MemifDescriptor& MemifArea::descriptor(MemifDirection direction, uint16_t index) const {
  std::byte* const first = at_ + ring_offset(direction) + sizeof(MemifRing);
  return reinterpret_cast<MemifDescriptor*>(first)[index & kSlotMask];
}

MemifArea::MemifArea(std::byte* at) : at_(at) {
  for (const MemifDirection direction : {MemifDirection::kToServer, MemifDirection::kToClient}) {
    new (at_ + ring_offset(direction)) MemifRing{kMemifCookie, kMemifNoInterrupts, 0, 0};
    for (uint16_t slot = 0; slot < kMemifSlots; ++slot)
      descriptor(direction, slot) = {0, 0, kMemifBufferBytes, buffer_offset(direction, slot), 0};
  }
}

void MemifArea::offer_buffers() {
  ring(MemifDirection::kToClient)
      .head.store(static_cast<uint16_t>(taken_ + kMemifSlots), std::memory_order_release);
}

void MemifArea::put(std::span<const std::byte> frame) {
  MemifDescriptor& to = descriptor(MemifDirection::kToServer, laid_out_++);
  to.flags = 0;
  to.length = static_cast<uint32_t>(frame.size());
  std::memcpy(at_ + to.offset, frame.data(), frame.size());
}

void MemifArea::publish(size_t frames) {
  std::atomic<uint16_t>& head = ring(MemifDirection::kToServer).head;
  head.store(static_cast<uint16_t>(head.load(std::memory_order_relaxed) + frames), std::memory_order_release);
}

size_t MemifArea::arrived() const {
  return static_cast<uint16_t>(ring(MemifDirection::kToClient).tail.load(std::memory_order_acquire) - taken_);
}

size_t MemifArea::take() {
  const size_t frames = arrived();
  size_t bytes = 0;
  for (size_t i = 0; i < frames; ++i) {
    MemifDescriptor& from = descriptor(MemifDirection::kToClient, taken_++);
    bytes += from.length;
    from.flags = 0;
    from.length = kMemifBufferBytes;
  }
  offer_buffers();
  return bytes;
}

// ---- the connection ----

Result<std::unique_ptr<MemifLink>> MemifLink::connect(const std::string& socket_path, uint32_t interface_id) {
  auto socket = connect_to(socket_path);
  if (!socket) return socket.error();
  const UniqueFd file(memfd_create("memif", MFD_CLOEXEC));
  if (!file || ftruncate(file.get(), static_cast<off_t>(MemifArea::kBytes)) != 0)
    return Error::from_errno(errno, "memory to share");
  void* const memory =
      mmap(nullptr, MemifArea::kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file.get(), 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "memory to share");
  std::unique_ptr<MemifLink> made(new MemifLink(std::move(*socket), static_cast<std::byte*>(memory)));
  if (Status introduced = introduce(made->socket_.get(), interface_id, file.get()); !introduced)
    return introduced.error().within(socket_path);
  made->area_.offer_buffers();
  return made;
}

MemifLink::MemifLink(UniqueFd socket, std::byte* memory)
    : socket_(std::move(socket)), memory_(memory), area_(memory) {}

MemifLink::~MemifLink() {
  munmap(memory_, MemifArea::kBytes);
}

}  // namespace synfluid::bench
