// Capture files made by a test, byte for byte.
#pragma once

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

namespace synfluid::gateway::testing {

/// A path that nobody else uses; the file goes with it.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& suffix) {
    static int number = 0;
    path_ = ::testing::TempDir() + "gateway-" + std::to_string(getpid()) + "-" + std::to_string(number++) +
            suffix;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }
  void write(const std::vector<uint8_t>& bytes) const {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::string path_;
};

/// Little-endian pcap with microseconds.
class PcapBytes {
 public:
  explicit PcapBytes(uint32_t link_type) {
    u32(0xa1b2c3d4);
    u16(2);
    u16(4);
    u32(0);
    u32(0);
    u32(262144);
    u32(link_type);
  }
  PcapBytes& record(const std::vector<uint8_t>& captured, uint32_t wire_bytes, uint32_t claimed_bytes) {
    u32(100);
    u32(5);
    u32(claimed_bytes);
    u32(wire_bytes);
    bytes.insert(bytes.end(), captured.begin(), captured.end());
    return *this;
  }
  PcapBytes& record(const std::vector<uint8_t>& captured) {
    const auto length = static_cast<uint32_t>(captured.size());
    return record(captured, length, length);
  }

  std::vector<uint8_t> bytes;

 private:
  void u16(uint16_t v) {
    bytes.push_back(static_cast<uint8_t>(v & 0xff));
    bytes.push_back(static_cast<uint8_t>(v >> 8));
  }
  void u32(uint32_t v) {
    u16(static_cast<uint16_t>(v & 0xffff));
    u16(static_cast<uint16_t>(v >> 16));
  }
};

}  // namespace synfluid::gateway::testing
