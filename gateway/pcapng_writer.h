// Writes frames to a pcapng file: one section, one interface per side, time-stamps in ns, each packet with
// its direction.
//
// Format: IETF draft-ietf-opsawg-pcapng (section header, interface description and enhanced packet blocks).
// Threads: one. Errors: opening and closing tell; a write that fails in between is told by close().
#pragma once

#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

class PcapngWriter {
 public:
  static Result<std::unique_ptr<PcapngWriter>> create(const std::string& path);
  /// A file that was not closed stays as far as it got.
  ~PcapngWriter() = default;

  /// A frame that left the gateway by `side`.
  void write(Side side, int64_t time_ns, std::span<const std::byte> frame);

  /// Writing has failed; close() says why.
  bool failed() const { return error_ != 0; }

  Status close();

 private:
  struct FileCloser {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  using File = std::unique_ptr<std::FILE, FileCloser>;

  PcapngWriter(std::string path, File file) : path_(std::move(path)), file_(std::move(file)) {}
  void write_header();
  void put16(uint16_t value);
  void put32(uint32_t value);
  void put_bytes(std::span<const std::byte> bytes);
  void put_option(uint16_t code, std::span<const std::byte> value);
  void begin_block(uint32_t type);
  void end_block();

  const std::string path_;
  File file_;
  std::vector<std::byte> block_;
  int error_ = 0;  ///< of the first write that failed
};

}  // namespace synfluid::gateway
