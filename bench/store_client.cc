#include "bench/store_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace synfluid::bench {

namespace {

struct Header {
  uint32_t op;
  uint32_t request;
  uint32_t transaction;
  uint32_t size;
};

constexpr size_t kMaxPayload = 4096;
using Message = std::array<char, sizeof(Header) + kMaxPayload>;

Error of_reply(const std::string& payload) {
  const std::string word = payload.c_str();
  return Error(word == "EAGAIN" ? ErrorCode::kConflict : ErrorCode::kSystem, "the store says " + word);
}

}  // namespace

Result<StoreClient> StoreClient::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error(ErrorCode::kInvalidArgument, path + ": too long for a socket");
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return Error::from_errno(errno, path);
  return StoreClient(std::move(fd));
}

Status StoreClient::send(StoreOp op, std::string_view payload, uint32_t transaction) {
  Message message;
  if (payload.size() > kMaxPayload) return Error(ErrorCode::kInvalidArgument, "the payload is too long");
  const Header header{static_cast<uint32_t>(op), 1, transaction, static_cast<uint32_t>(payload.size())};
  std::memcpy(message.data(), &header, sizeof header);
  std::ranges::copy(payload, message.begin() + sizeof header);
  return send_bytes({message.data(), sizeof header + payload.size()});
}

Status StoreClient::send_all(StoreOp op, std::span<const std::string> payloads) {
  std::string bytes;
  for (const std::string& payload : payloads) {
    const Header header{static_cast<uint32_t>(op), 1, 0, static_cast<uint32_t>(payload.size())};
    bytes.append(reinterpret_cast<const char*>(&header), sizeof header).append(payload);
  }
  return send_bytes(bytes);
}

Status StoreClient::send_bytes(std::string_view bytes) {
  if (::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()))
    return {};
  return Error::from_errno(errno, "sending to the store");
}

Status StoreClient::fill(size_t wanted) {
  std::array<char, 16 << 10> buffer;
  while (received_.size() < wanted) {
    const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (count <= 0) return Error::from_errno(count == 0 ? ECONNRESET : errno, "reading from the store");
    received_.append(buffer.data(), static_cast<size_t>(count));
  }
  return {};
}

Result<StoreReply> StoreClient::receive() {
  Header header;
  if (Status got = fill(sizeof header); !got) return got.error();
  std::memcpy(&header, received_.data(), sizeof header);
  if (header.size > kMaxPayload) return Error(ErrorCode::kProtocol, "the store's message is too long");
  const size_t whole = sizeof header + header.size;
  if (Status got = fill(whole); !got) return got.error();
  StoreReply reply{static_cast<StoreOp>(header.op), received_.substr(sizeof header, header.size)};
  received_.erase(0, whole);
  if (reply.op == StoreOp::kError) return of_reply(reply.payload);
  return reply;
}

Result<std::string> StoreClient::call(StoreOp op, std::string_view payload, uint32_t transaction) {
  if (Status sent = send(op, payload, transaction); !sent) return sent.error();
  for (;;) {
    auto reply = receive();
    if (!reply) return reply.error();
    if (reply->op != StoreOp::kWatchEvent) return std::move(reply->payload);
  }
}

Status StoreClient::write(const std::string& path, std::string_view value, uint32_t transaction) {
  const auto reply = call(StoreOp::kWrite, write_payload(path, value), transaction);
  if (!reply) return reply.error().within(path);
  return {};
}

Status StoreClient::watch(const std::string& path, const std::string& token) {
  const auto reply = call(StoreOp::kWatch, strings_payload({path, token}));
  if (!reply) return reply.error().within(path);
  return {};
}

std::string write_payload(std::string_view path, std::string_view value) {
  std::string payload(path);
  payload += '\0';
  payload += value;
  return payload;
}

std::string strings_payload(std::initializer_list<std::string_view> strings) {
  std::string payload;
  for (const std::string_view string : strings) {
    payload += string;
    payload += '\0';
  }
  return payload;
}

}  // namespace synfluid::bench
