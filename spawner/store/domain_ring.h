// The page a domain shares with the store: two rings of bytes and a few words of state.
//
// The guest may write any byte of the page at any time. Its two indices are read once a call and checked;
// ours are kept here and only published, so nothing it does to them matters. A request stays in the ring,
// though it was read, until consume(): what a store that was killed had read and not answered, its successor
// reads again.
//
// Threads: one; the other end is the guest. Ownership: the page is the transport's. Units: bytes. Errors: an
// empty optional, when the guest's indices are out of range; then fail() and read no more.
//
// Protocol: Xen's docs/misc/xenstore-ring.txt.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace synfluid::spawner::store {

inline constexpr uint32_t kRingBytes = 1024;

/// The layout of the page; domain_ring.cc holds it to Xen's header.
struct RingPage {
  std::array<char, kRingBytes> requests;
  std::array<char, kRingBytes> responses;
  uint32_t request_consumer;
  uint32_t request_producer;
  uint32_t response_consumer;
  uint32_t response_producer;
  uint32_t server_features;
  uint32_t connection;
  uint32_t error;
};

enum class RingError : uint32_t { kNone = 0, kCommunication = 1, kIndices = 2, kProtocol = 3 };

class DomainRing {
 public:
  /// Goes on from where the page's indices stand.
  explicit DomainRing(RingPage& page);

  /// Says what this server can do, and that nothing is wrong.
  void advertise();
  /// Both queues empty, from index 0; a reconnection that was asked for is done.
  void reset();
  bool reconnection_asked() const;

  /// Copies what is there and was not read yet.
  std::optional<size_t> read(std::span<char> into);
  /// True when read() would give something.
  bool has_input() const;
  /// Gives the ring back all that was read. True: there was something, and the guest should be told.
  bool consume();

  /// How many bytes fit.
  std::optional<uint32_t> room() const;
  /// `bytes` fit. The guest should be told.
  void write(std::span<const char> bytes);

  void fail(RingError error);

  /// Up to where requests were read, and up to where responses were written.
  uint32_t read_index() const { return read_; }
  uint32_t written_index() const { return written_; }

 private:
  RingPage* page_;
  uint32_t read_ = 0;      ///< up to where requests were read
  uint32_t consumed_ = 0;  ///< and given back
  uint32_t written_ = 0;   ///< up to where responses were written
};

}  // namespace synfluid::spawner::store
