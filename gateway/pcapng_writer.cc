#include "gateway/pcapng_writer.h"

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace synfluid::gateway {

namespace {

constexpr uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr uint32_t kInterfaceDescription = 1;
constexpr uint32_t kEnhancedPacket = 6;
constexpr uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr uint16_t kLinkTypeEthernet = 1;

constexpr uint16_t kOptionEnd = 0;
constexpr uint16_t kShbUserApplication = 4;
constexpr uint16_t kIdbName = 2;
constexpr uint16_t kIdbTimeResolution = 9;
constexpr uint16_t kEpbFlags = 2;

constexpr std::byte kNanoseconds{9};
constexpr uint32_t kOutbound = 2;

std::span<const std::byte> as_bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

Result<std::unique_ptr<PcapngWriter>> PcapngWriter::create(const std::string& path) {
  File file(std::fopen(path.c_str(), "wb"));
  if (!file) return Error::from_errno(errno, fmt::format("cannot write {}", path));
  std::unique_ptr<PcapngWriter> writer(new PcapngWriter(path, std::move(file)));
  writer->write_header();
  return writer;
}

void PcapngWriter::write_header() {
  begin_block(kSectionHeader);
  put32(kByteOrderMagic);
  put16(1);  // version 1.0
  put16(0);
  put32(0xffffffff);  // section length: not stated
  put32(0xffffffff);
  put_option(kShbUserApplication, as_bytes_of("synfluid"));
  put_option(kOptionEnd, {});
  end_block();
  for (Side side : {Side::kAccess, Side::kCore}) {
    begin_block(kInterfaceDescription);
    put16(kLinkTypeEthernet);
    put16(0);
    put32(0);  // no snap length
    put_option(kIdbName, as_bytes_of(name_of(side)));
    put_option(kIdbTimeResolution, std::span(&kNanoseconds, 1));
    put_option(kOptionEnd, {});
    end_block();
  }
}

void PcapngWriter::write(Side side, int64_t time_ns, std::span<const std::byte> frame) {
  const auto time = static_cast<uint64_t>(time_ns);
  begin_block(kEnhancedPacket);
  put32(static_cast<uint32_t>(side));  // the interfaces were described in this order
  put32(static_cast<uint32_t>(time >> 32));
  put32(static_cast<uint32_t>(time));
  put32(static_cast<uint32_t>(frame.size()));
  put32(static_cast<uint32_t>(frame.size()));
  put_bytes(frame);
  put_option(kEpbFlags, std::as_bytes(std::span(&kOutbound, 1)));
  put_option(kOptionEnd, {});
  end_block();
}

Status PcapngWriter::close() {
  if (std::fflush(file_.get()) != 0 && error_ == 0) error_ = errno;
  file_.reset();
  if (failed()) return Error::from_errno(error_, fmt::format("cannot write {}", path_));
  return {};
}

void PcapngWriter::put16(uint16_t value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  block_.insert(block_.end(), bytes.begin(), bytes.end());
}

void PcapngWriter::put32(uint32_t value) {
  const auto bytes = std::as_bytes(std::span(&value, 1));
  block_.insert(block_.end(), bytes.begin(), bytes.end());
}

void PcapngWriter::put_bytes(std::span<const std::byte> bytes) {
  block_.insert(block_.end(), bytes.begin(), bytes.end());
  block_.resize((block_.size() + 3) & ~size_t{3});
}

void PcapngWriter::put_option(uint16_t code, std::span<const std::byte> value) {
  put16(code);
  put16(static_cast<uint16_t>(value.size()));
  put_bytes(value);
}

void PcapngWriter::begin_block(uint32_t type) {
  block_.clear();
  put32(type);
  put32(0);  // the length, known at the end
}

void PcapngWriter::end_block() {
  const auto total = static_cast<uint32_t>(block_.size() + sizeof(uint32_t));
  put32(total);
  std::memcpy(block_.data() + sizeof(uint32_t), &total, sizeof(total));
  if (std::fwrite(block_.data(), 1, block_.size(), file_.get()) != block_.size() && error_ == 0)
    error_ = errno;
}

}  // namespace synfluid::gateway
