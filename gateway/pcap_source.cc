#include "gateway/pcap_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>

#include <fmt/format.h>
#include <pcap/pcap.h>

#include "base/clock.h"

namespace synfluid::gateway {

namespace {

constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherIpv6 = 0x86dd;
/// IEEE's EtherType for local experiments: stands for a protocol that has none.
constexpr uint16_t kEtherLocal = 0x88b5;

/// What OpenBSD calls raw IP.
constexpr int kOpenBsdRaw = 14;
/// So that no difference of two time stamps overflows.
constexpr int64_t kLatestSecond = INT64_MAX / 2 / kNsPerSecond;

constexpr size_t kEthernetBytes = 14;
constexpr size_t kSllBytes = 16;
constexpr size_t kSll2Bytes = 20;
constexpr size_t kLoopbackBytes = 4;

/// How one link type becomes Ethernet: what is cut off in front, and where the EtherType comes from.
struct LinkLayer {
  int type;
  size_t header_bytes;
  std::optional<size_t> ether_type_at;  ///< none: told from the IP version
};

constexpr std::array kLinkLayers = {
    LinkLayer{DLT_RAW, 0, {}},
    LinkLayer{kOpenBsdRaw, 0, {}},
    LinkLayer{DLT_IPV4, 0, {}},
    LinkLayer{DLT_IPV6, 0, {}},
    LinkLayer{DLT_LINUX_SLL, kSllBytes, 14},
    LinkLayer{DLT_LINUX_SLL2, kSll2Bytes, 0},
    LinkLayer{DLT_NULL, kLoopbackBytes, {}},
    LinkLayer{DLT_LOOP, kLoopbackBytes, {}},
};

const LinkLayer* find_link_layer(int type) {
  const auto it = std::ranges::find(kLinkLayers, type, &LinkLayer::type);
  return it == kLinkLayers.end() ? nullptr : &*it;
}

uint16_t ether_type_of(const LinkLayer& layer, std::span<const std::byte> captured) {
  if (layer.ether_type_at)
    return static_cast<uint16_t>(static_cast<uint16_t>(captured[*layer.ether_type_at]) << 8 |
                                 static_cast<uint16_t>(captured[*layer.ether_type_at + 1]));
  if (captured.size() <= layer.header_bytes) return kEtherLocal;
  const unsigned version = static_cast<unsigned>(captured[layer.header_bytes]) >> 4;
  return version == 4 ? kEtherIpv4 : version == 6 ? kEtherIpv6 : kEtherLocal;
}

/// Formats that captures are kept in, which libpcap does not open.
struct Compression {
  std::string_view magic;
  const char* name;
  const char* remedy;
};

using namespace std::string_view_literals;
constexpr std::array kCompressions = {
    Compression{"\x1f\x8b"sv, "gzip", "zcat"},
    Compression{"\xfd"
                "7zXZ\0"sv,
                "xz", "xzcat"},
    Compression{"\x28\xb5\x2f\xfd"sv, "zstd", "zstdcat"},
    Compression{"BZh"sv, "bzip2", "bzcat"},
    Compression{"\x04\x22\x4d\x18"sv, "lz4", "lz4cat"},
};

const Compression* compression_of(const std::string& path) {
  std::array<char, 8> head{};
  std::ifstream(path, std::ios::binary).read(head.data(), head.size());
  const auto it = std::ranges::find_if(kCompressions, [&](const Compression& c) {
    return std::string_view(head.data(), head.size()).starts_with(c.magic);
  });
  return it == kCompressions.end() ? nullptr : &*it;
}

std::string describe_link_type(int type) {
  const char* name = pcap_datalink_val_to_name(type);
  return fmt::format("{} ({})", name != nullptr ? name : "unnamed", type);
}

}  // namespace

PcapSource::PcapSource(std::string name, pcap* handle, int link_type)
    : name_(std::move(name)), handle_(handle), link_type_(link_type) {}

PcapSource::~PcapSource() {
  pcap_close(handle_);
}

Result<std::unique_ptr<PcapSource>> PcapSource::open(const TraceFile& file) {
  std::array<char, PCAP_ERRBUF_SIZE> text{};
  pcap_t* handle =
      pcap_open_offline_with_tstamp_precision(file.path().c_str(), PCAP_TSTAMP_PRECISION_NANO, text.data());
  if (handle == nullptr) {
    if (const Compression* found = compression_of(file.path()); found != nullptr)
      return Error(ErrorCode::kInvalidArgument,
                   fmt::format("{}: compressed by {}; play it by: {} FILE | synfluid replay - ...",
                               file.name(), found->name, found->remedy));
    std::string_view why(text.data());
    // libpcap repeats the file's name in some of its messages.
    if (why.starts_with(file.path() + ": ")) why.remove_prefix(file.path().size() + 2);
    return Error(ErrorCode::kInvalidArgument, fmt::format("{}: no pcap or pcapng: {}", file.name(), why));
  }
  const int type = pcap_datalink(handle);
  if (type != DLT_EN10MB && find_link_layer(type) == nullptr) {
    pcap_close(handle);
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("{}: link type {} is not supported; supported: Ethernet, raw IP, Linux cooked, "
                             "BSD loopback",
                             file.name(), describe_link_type(type)));
  }
  return std::unique_ptr<PcapSource>(new PcapSource(file.name(), handle, type));
}

Result<std::optional<TraceFrame>> PcapSource::next() {
  pcap_pkthdr* header = nullptr;
  const u_char* data = nullptr;
  const int got = pcap_next_ex(handle_, &header, &data);
  if (got == PCAP_ERROR_BREAK) return std::optional<TraceFrame>();
  if (got != 1)
    return Error(ErrorCode::kProtocol,
                 fmt::format("{}: record {} is broken: {}", name_, record_ + 1, pcap_geterr(handle_)));
  TraceFrame frame;
  frame.record = ++record_;
  const int64_t second = std::clamp(int64_t{header->ts.tv_sec}, -kLatestSecond, kLatestSecond);
  // In nanoseconds, as open() asked; 32 bits of a pcap file, whatever they say.
  frame.time_ns = second * kNsPerSecond + std::clamp<int64_t>(header->ts.tv_usec, 0, kNsPerSecond - 1);
  frame.cut = header->caplen < header->len;
  const auto* captured = reinterpret_cast<const std::byte*>(data);
  frame.bytes = to_ethernet({captured, header->caplen}, std::max(header->len, header->caplen));
  return std::optional(frame);
}

std::span<const std::byte> PcapSource::to_ethernet(std::span<const std::byte> captured, size_t wire_bytes) {
  const LinkLayer* layer = find_link_layer(link_type_);
  const size_t cut = layer != nullptr ? layer->header_bytes : 0;
  const size_t put = layer != nullptr ? kEthernetBytes : 0;
  if (captured.size() < cut) return {};
  const std::span<const std::byte> body = captured.subspan(cut);
  const size_t length = std::min(put + std::max(wire_bytes - cut, body.size()), kMaxTraceFrameBytes);
  frame_.assign(length, std::byte{0});
  if (layer != nullptr) {
    constexpr std::array<uint8_t, 12> kAddresses = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1};
    std::memcpy(frame_.data(), kAddresses.data(), kAddresses.size());
    const uint16_t type = ether_type_of(*layer, captured);
    frame_[12] = static_cast<std::byte>(type >> 8);
    frame_[13] = static_cast<std::byte>(type & 0xff);
  }
  std::memcpy(frame_.data() + put, body.data(), std::min(body.size(), length - put));
  return frame_;
}

Result<uint64_t> count_packets(const TraceFile& file, const Interrupt& interrupt) {
  auto source = PcapSource::open(file);
  if (!source) return source.error();
  uint64_t packets = 0;
  for (;;) {
    auto frame = (*source)->next();
    if (!frame) return frame.error();
    if (!*frame || interrupt.came()) return packets;
    ++packets;
  }
}

}  // namespace synfluid::gateway
