// Frames that the guest writes itself, by way of the front end's pages.
#pragma once

#include "guest/net/frame_sink.h"
#include "guest/net/netfront.h"

namespace synfluid::guest {

class NetfrontSink final : public net::FrameSink {
 public:
  explicit NetfrontSink(net::Netfront& netfront) : netfront_(netfront) {}
  std::byte* take() override { return netfront_.take(); }
  void send(std::byte* page, uint32_t bytes) override { netfront_.transmit(page, bytes); }
  void drop(std::byte* page) override { netfront_.release(page); }

 private:
  net::Netfront& netfront_;
};

}  // namespace synfluid::guest
