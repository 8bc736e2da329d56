// Where frames go that the guest writes itself.
#pragma once

#include <cstddef>
#include <cstdint>

namespace synfluid::guest::net {

class FrameSink {
 public:
  /// A page to write a frame into; nullptr: none now, try again after the next transmission is done. Ends in
  /// send() or drop() of the same page before the next take().
  virtual std::byte* take() = 0;
  virtual void send(std::byte* page, uint32_t bytes) = 0;
  virtual void drop(std::byte* page) = 0;

 protected:
  ~FrameSink() = default;
};

}  // namespace synfluid::guest::net
