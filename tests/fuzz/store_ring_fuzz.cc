// A domain's store ring is the fuzzer's input: whatever a guest writes into its page, the store stays sane.
//
// The input is a program of small steps: set a word of the page, move an index, put bytes in as requests,
// take responses, ring. At the end the guest asks for a reconnection, after which a request must be answered.
// A second domain, which behaves, must be answered all along. No threads.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>

#include <spdlog/spdlog.h>

#include "base/clock.h"
#include "spawner/store/map_storage.h"
#include "spawner/store/ring_transport.h"
#include "spawner/store/switchboard.h"
#include "tests/unit/store_daemon/guest_end.h"

namespace {

using namespace synfluid;                  // NOLINT: a test program
using namespace synfluid::spawner::store;  // NOLINT
using namespace std::string_literals;      // NOLINT

constexpr int kMaxSteps = 512;
constexpr uint32_t kWords = 7;  // behind the two rings

void require(bool condition) {
  if (!condition) std::abort();
}

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  template <class T>
  T take() {
    T value{};
    const size_t n = bytes_.size() < sizeof(T) ? bytes_.size() : sizeof(T);
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }
  std::string take_bytes(size_t n) {
    n = bytes_.size() < n ? bytes_.size() : n;
    std::string text(reinterpret_cast<const char*>(bytes_.data()), n);
    bytes_ = bytes_.subspan(n);
    return text;
  }

 private:
  std::span<const uint8_t> bytes_;
};

class Session final : public Domains {
 public:
  Session() : board_(clock_) {
    spdlog::set_level(spdlog::level::off);
    engine_ = std::make_unique<Engine>(EngineConfig{.quotas = {}, .clock = &clock_}, storage_, board_, *this);
    board_.set_engine(*engine_);
    const ConnectionId control = engine_->connect({.domid = DomId(0), .privilege = Privilege::kControl});
    for (const char* payload : {"1\0005\0007", "2\0005\0007"}) {
      const std::string bytes(payload, 6);
      engine_->handle(control, {MessageType::kIntroduce, 1, 0, 6}, bytes);
    }
    board_.end_turn();
  }
  ~Session() override { board_.clear(); }

  void run(Input input) {
    for (int i = 0; i < kMaxSteps && !input.empty(); ++i) step(input);
    guest(1).page().connection = 1;
    turn(1);
    guest(1).take();
    require(answers(1));
    require(answers(2));
  }

  Fault introduce(DomId domid, uint64_t, EventPort, ConnectionId connection) override {
    auto stream = std::make_unique<RingStream>(
        board_, connection, std::make_unique<FakePort>(guests_[domid.value()].page(), bells_));
    streams_[domid.value()] = stream.get();
    board_.add(std::move(stream));
    streams_[domid.value()]->begin_anew(nullptr);
    return Fault::kNone;
  }
  Fault reintroduce(DomId, uint64_t, EventPort, ConnectionId) override { return Fault::kEinval; }
  void release(DomId, ConnectionId connection) override { board_.drop(connection); }

 private:
  GuestEnd& guest(uint16_t domid) { return guests_[domid]; }

  void turn(uint16_t domid) {
    streams_[domid]->on_event();
    board_.end_turn();
  }

  bool answers(uint16_t domid) {
    guest(domid).put(GuestEnd::request(MessageType::kGetDomainPath, std::to_string(domid) + "\0"s, 77));
    turn(domid);
    for (int i = 0; i < 1'000; ++i) {
      const auto message = guest(domid).message();
      if (message && message->header.request_id == 77) return true;
      turn(domid);
    }
    return false;
  }

  void set_word(Input& input) {
    const size_t at = 2 * kRingBytes + (input.take<uint8_t>() % kWords) * sizeof(uint32_t);
    const uint32_t value = input.take<uint32_t>();
    std::memcpy(reinterpret_cast<char*>(&guest(1).page()) + at, &value, sizeof value);
  }

  void step(Input& input) {
    switch (input.take<uint8_t>() % 7) {
      case 0:
        return set_word(input);
      case 1:
        guest(1).page().request_producer += input.take<uint16_t>() % 1'100;
        return;
      case 2:
        return guest(1).put(input.take_bytes(input.take<uint8_t>()));
      case 3: {
        const auto type = static_cast<MessageType>(input.take<uint8_t>() % 24);
        const uint32_t transaction = input.take<uint8_t>() % 3;
        return guest(1).put(GuestEnd::request(type, input.take_bytes(input.take<uint8_t>()), 5, transaction));
      }
      case 4:
        guest(1).take(input.take<uint16_t>() % kRingBytes);
        return;
      case 5:
        return require(answers(2));
      default:
        return turn(1);
    }
  }

  ManualClock clock_;
  MapStorage storage_;
  std::map<uint16_t, GuestEnd> guests_;
  std::map<uint16_t, RingStream*> streams_;
  Switchboard board_;
  std::unique_ptr<Engine> engine_;
  uint32_t bells_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Session().run(Input({data, size}));
  return 0;
}
