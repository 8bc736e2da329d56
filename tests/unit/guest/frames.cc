#include "tests/unit/guest/frames.h"

#include <stdexcept>
#include <utility>

#include <fmt/format.h>

namespace synfluid::guest::testing {
namespace {

void put16(std::vector<uint8_t>& out, uint32_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void put32(std::vector<uint8_t>& out, uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}
void append(std::vector<uint8_t>& out, const std::vector<uint8_t>& more) {
  out.insert(out.end(), more.begin(), more.end());
}
void set16(std::vector<uint8_t>& out, size_t at, uint32_t value) {
  out[at] = static_cast<uint8_t>(value >> 8);
  out[at + 1] = static_cast<uint8_t>(value);
}

std::vector<uint8_t> address(bool v6, uint32_t last) {
  std::vector<uint8_t> out;
  if (v6) out = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0};
  put32(out, last);
  return out;
}

std::vector<uint8_t> both_addresses(const Tcp& tcp) {
  std::vector<uint8_t> out = address(tcp.v6, tcp.source);
  append(out, address(tcp.v6, tcp.destination));
  return out;
}

std::vector<uint8_t> pseudo_header(std::vector<uint8_t> addresses, size_t length) {
  put32(addresses, static_cast<uint32_t>(length));
  put32(addresses, 6);
  return addresses;
}

std::vector<uint8_t> tcp_bytes(const Tcp& tcp) {
  std::vector<uint8_t> options = tcp.options;
  while (options.size() % 4 != 0) options.push_back(0);
  std::vector<uint8_t> out;
  put16(out, tcp.sport);
  put16(out, tcp.dport);
  put32(out, tcp.seq);
  put32(out, tcp.ack);
  out.push_back(static_cast<uint8_t>((20 + options.size()) / 4 << 4));
  out.push_back(tcp.flags);
  put16(out, tcp.window);
  put32(out, 0);
  append(out, options);
  out.insert(out.end(), tcp.payload.begin(), tcp.payload.end());
  std::vector<uint8_t> summed = pseudo_header(both_addresses(tcp), out.size());
  append(summed, out);
  set16(out, 16, internet_checksum(summed));
  if (tcp.break_checksum) out[16] ^= 0x55;
  return out;
}

/// Reads with bounds, or throws.
class Reader {
 public:
  explicit Reader(const Frame& frame) : frame_(frame) {}
  uint32_t get(size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) value = value << 8 | byte();
    return value;
  }
  uint8_t byte() {
    if (at_ >= frame_.size()) throw std::runtime_error("frame too short");
    return static_cast<uint8_t>(frame_[at_++]);
  }
  std::vector<uint8_t> bytes(size_t count) {
    std::vector<uint8_t> out;
    while (count-- > 0) out.push_back(byte());
    return out;
  }
  size_t at() const { return at_; }
  size_t left() const { return frame_.size() - at_; }

 private:
  const Frame& frame_;
  size_t at_ = 0;
};

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

size_t dissect_ipv4(Reader& in, const Frame& frame, Tcp& out) {
  const size_t start = in.at();
  const uint32_t first = in.byte();
  require(first >> 4 == 4 && (first & 15) >= 5, "IPv4 header");
  in.byte();
  const uint32_t total = in.get(2);
  in.get(2);
  require((in.get(2) & 0x3fff) == 0, "fragment");
  require(in.byte() > 0, "time to live");
  require(in.byte() == 6, "protocol");
  in.get(2);
  out.source = in.get(4);
  out.destination = in.get(4);
  const size_t header = (first & 15) * 4;
  out.ip_options = in.bytes(header - 20);
  std::vector<uint8_t> summed;
  for (size_t i = 0; i < header; ++i) summed.push_back(static_cast<uint8_t>(frame[start + i]));
  require(internet_checksum(summed) == 0, "IPv4 checksum");
  return total - header;
}

size_t dissect_ipv6(Reader& in, Tcp& out) {
  require(in.get(4) >> 28 == 6, "IPv6 version");
  const uint32_t length = in.get(2);
  require(in.byte() == 6, "next header");
  require(in.byte() > 0, "hop limit");
  in.bytes(12);
  out.source = in.get(4);
  in.bytes(12);
  out.destination = in.get(4);
  return length;
}

}  // namespace

uint16_t internet_checksum(const std::vector<uint8_t>& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : bytes[i];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

Frame to_frame(const std::vector<uint8_t>& bytes) {
  Frame out;
  for (const uint8_t byte : bytes) out.push_back(static_cast<std::byte>(byte));
  return out;
}

Frame build(const Tcp& tcp) {
  std::vector<uint8_t> out = tcp.macs;
  for (size_t i = 0; i < tcp.vlans.size(); ++i) {
    put16(out, i + 1 < tcp.vlans.size() ? 0x88a8 : 0x8100);
    put16(out, tcp.vlans[i]);
  }
  const std::vector<uint8_t> l4 = tcp_bytes(tcp);
  if (tcp.v6) {
    put16(out, 0x86dd);
    put32(out, 0x60000000);
    put16(out, static_cast<uint32_t>(l4.size() + tcp.extension_headers.size()));
    out.push_back(tcp.extension_headers.empty() ? 6 : 0);
    out.push_back(64);
    append(out, address(true, tcp.source));
    append(out, address(true, tcp.destination));
    append(out, tcp.extension_headers);
  } else {
    put16(out, 0x0800);
    std::vector<uint8_t> ip = {static_cast<uint8_t>(0x45 + tcp.ip_options.size() / 4), 0};
    put16(ip, static_cast<uint32_t>(20 + tcp.ip_options.size() + l4.size()));
    put32(ip, 0x12344000);
    ip.push_back(64);
    ip.push_back(6);
    put16(ip, 0);
    append(ip, address(false, tcp.source));
    append(ip, address(false, tcp.destination));
    append(ip, tcp.ip_options);
    set16(ip, 10, internet_checksum(ip));
    append(out, ip);
  }
  append(out, l4);
  return to_frame(out);
}

Tcp dissect(const Frame& frame) {
  Reader in(frame);
  Tcp out;
  out.macs = in.bytes(12);
  uint32_t type = in.get(2);
  for (; type == 0x8100 || type == 0x88a8; type = in.get(2))
    out.vlans.push_back(static_cast<uint16_t>(in.get(2)));
  out.v6 = type == 0x86dd;
  require(out.v6 || type == 0x0800, "EtherType");
  const size_t length = out.v6 ? dissect_ipv6(in, out) : dissect_ipv4(in, frame, out);
  require(length <= in.left() && length >= 20, "IP length");
  // By the frame's own addresses: a Tcp has only the last four bytes of each.
  const size_t width = out.v6 ? 16 : 4;
  const size_t addresses_at = out.v6 ? in.at() - 32 : in.at() - out.ip_options.size() - 8;
  std::vector<uint8_t> addresses;
  for (size_t i = 0; i < 2 * width; ++i) addresses.push_back(static_cast<uint8_t>(frame[addresses_at + i]));
  std::vector<uint8_t> summed = pseudo_header(addresses, length);
  for (size_t i = 0; i < length; ++i) summed.push_back(static_cast<uint8_t>(frame[in.at() + i]));
  require(internet_checksum(summed) == 0, "TCP checksum");
  out.sport = static_cast<uint16_t>(in.get(2));
  out.dport = static_cast<uint16_t>(in.get(2));
  out.seq = in.get(4);
  out.ack = in.get(4);
  const size_t header = (in.get(1) >> 4) * 4u;
  require(header >= 20 && header <= length, "data offset");
  out.flags = in.byte();
  out.window = static_cast<uint16_t>(in.get(2));
  in.get(4);
  out.options = in.bytes(header - 20);
  for (const uint8_t byte : in.bytes(length - header)) out.payload.push_back(static_cast<char>(byte));
  return out;
}

Tcp turned(Tcp tcp) {
  std::swap(tcp.source, tcp.destination);
  std::swap(tcp.sport, tcp.dport);
  const std::vector<uint8_t> macs = tcp.macs;
  for (size_t i = 0; i < 12; ++i) tcp.macs[i] = macs[(i + 6) % 12];
  return tcp;
}

std::string describe(const Tcp& tcp) {
  std::string flags;
  for (const auto& [bit, name] : {std::pair{kS, "S"}, {kF, "F"}, {kR, "R"}, {kP, "P"}, {kA, "A"}})
    if (tcp.has(bit)) flags += name;
  return fmt::format("{} seq {} ack {} win {} len {}", flags, tcp.seq, tcp.ack, tcp.window,
                     tcp.payload.size());
}

}  // namespace synfluid::guest::testing
