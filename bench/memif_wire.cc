#include "bench/memif_wire.h"

#include <algorithm>
#include <cstring>

namespace synfluid::bench {

namespace {

constexpr size_t kReasonAt = 6;
constexpr size_t kReasonBytes = 96;

/// Fields one after the other, without gaps.
class Writer {
 public:
  explicit Writer(MemifType type) { put(static_cast<uint16_t>(type)); }

  template <typename Field>
  Writer& put(Field field) {
    std::memcpy(&message_[at_], &field, sizeof field);
    at_ += sizeof field;
    return *this;
  }
  MemifMessage done() const { return message_; }

 private:
  MemifMessage message_{};
  size_t at_ = 0;
};

}  // namespace

MemifMessage memif_init(uint32_t interface_id) {
  constexpr uint8_t kEthernet = 0;  // no secret and no name follow
  return Writer(MemifType::kInit).put(kMemifVersion).put(interface_id).put(kEthernet).done();
}

MemifMessage memif_add_region(uint64_t bytes) {
  return Writer(MemifType::kAddRegion).put(uint16_t{0}).put(bytes).done();
}

MemifMessage memif_add_ring(MemifDirection direction, uint32_t offset, uint8_t log2_slots) {
  constexpr uint16_t kIndex = 0;
  constexpr uint16_t kRegion = 0;
  return Writer(MemifType::kAddRing)
      .put(static_cast<uint16_t>(direction))
      .put(kIndex)
      .put(kRegion)
      .put(offset)
      .put(log2_slots)
      .done();
}

MemifMessage memif_connect() {
  return Writer(MemifType::kConnect).done();
}

MemifType memif_type(const MemifMessage& message) {
  uint16_t type = 0;
  std::memcpy(&type, message.data(), sizeof type);
  return static_cast<MemifType>(type);
}

std::string memif_reason(const MemifMessage& message) {
  const char* const text = reinterpret_cast<const char*>(&message[kReasonAt]);
  return {text, strnlen(text, kReasonBytes)};
}

}  // namespace synfluid::bench
