// Terminates every TCP connection, on any address and port, and answers HTTP; and answers ARP, neighbour
// discovery and echo requests.
#include "guest/net/control.h"
#include "guest/net/tcp/engine.h"
#include "guest/services/http_response.h"
#include "guest/services/netfront_sink.h"
#include "guest/services/service.h"
#include "guest/services/text.h"

namespace synfluid::guest {
namespace {

/// Answers of one connection that are not wholly acknowledged; more requests wait.
constexpr size_t kPipeline = 4;

struct Session {
  HttpRequestParser parser;
  uint64_t body_left = 0;  ///< of the request whose head was answered
  uint64_t written = 0;    ///< stream bytes of all answers so far
  uint64_t syn_at_ns = 0;  ///< when the SYN would have been sent, by our clock, for all the host knows
  uint32_t requests = 0;
  uint8_t first = 0;
  uint8_t pending = 0;
  bool closing = false;
  HttpResponse responses[kPipeline];

  HttpResponse& response(size_t i) { return responses[(first + i) % kPipeline]; }
};

class Responder final : public Service, public net::TcpApplication {
 public:
  Responder(const ServiceParts& parts, size_t connections, size_t chunks)
      : card_(parts.card),
        netfront_(parts.netfront),
        console_(parts.console),
        sink_(parts.netfront),
        writer_(parts.card),
        sessions_(parts.arena.reserve<Session>(connections)),
        engine_(*this, sink_, parts.arena, connections, chunks,
                {.key = {parts.card.fixed.entropy[0], parts.card.fixed.entropy[1]}}) {}

  void on_frame(const net::RxFrame& frame, uint64_t now_ns) override {
    now_ns_ = now_ns;
    if (!handle(frame)) ++dropped_;
    netfront_.recycle(frame);
  }
  void on_buffers(uint64_t now_ns) override {
    now_ns_ = now_ns;
    engine_.on_buffers(now_ns);
  }
  bool wants_buffers() const override { return engine_.is_blocked(); }
  void run_timers(uint64_t now_ns) override {
    now_ns_ = now_ns;
    engine_.run_timers(now_ns);
  }
  uint64_t next_deadline_ns() const override { return engine_.next_deadline_ns(); }
  ServiceCounters counters() const override {
    const net::TcpCounters& tcp = engine_.counters();
    return {.dropped = dropped_ + tcp.malformed + tcp.bad_checksum + tcp.table_full};
  }

  void on_syn(net::ConnectionId id) override {
    sessions_[id] = Session{};
    sessions_[id].syn_at_ns = now_ns_ - card_.assignment.syn_age_ns;
  }
  void on_open(net::ConnectionId) override {}
  uint32_t on_data(net::ConnectionId id, std::span<const std::byte> bytes) override;
  void on_peer_closed(net::ConnectionId id) override { engine_.close(id); }
  void on_acknowledged(net::ConnectionId id, uint64_t offset) override;
  void read(net::ConnectionId id, uint64_t offset, std::span<std::byte> into) override;
  void on_gone(net::ConnectionId) override {}

 private:
  bool handle(const net::RxFrame& frame);
  void answer(net::ConnectionId id, Session& session);
  void log_request(const HttpRequest& request, const net::Connection& c, uint64_t since_syn_us);

  const abi::Card& card_;
  net::Netfront& netfront_;
  Console console_;
  NetfrontSink sink_;
  ResponseWriter writer_;
  std::span<Session> sessions_;
  net::TcpEngine engine_;
  uint64_t now_ns_ = 0;
  uint64_t dropped_ = 0;
};

bool Responder::handle(const net::RxFrame& frame) {
  if (frame.count != 1) return false;  // longer than anything we invite by our MSS
  const net::Packet packet = net::parse_packet(frame.first());
  if (packet.kind == net::PacketKind::kIp && packet.protocol == net::kProtocolTcp) {
    const auto check = frame.checksum_trusted ? net::ChecksumCheck::kTrusted : net::ChecksumCheck::kVerify;
    engine_.input(frame.first(), packet, check, now_ns_);
    return true;
  }
  return net::answer_control(frame.first(), packet, card_.fixed.mac, sink_) == net::ControlVerdict::kAnswered;
}

uint32_t Responder::on_data(net::ConnectionId id, std::span<const std::byte> bytes) {
  Session& session = sessions_[id];
  size_t taken = 0;
  while (taken < bytes.size() && !session.closing && session.pending < kPipeline) {
    const auto rest = bytes.subspan(taken);
    if (session.body_left != 0) {
      const size_t skip = session.body_left < rest.size() ? session.body_left : rest.size();
      session.body_left -= skip;
      taken += skip;
      continue;
    }
    taken += session.parser.feed(rest);
    if (session.parser.done()) answer(id, session);
  }
  // After the last answer nothing more is read, but all is taken, so that the client is not reset.
  return static_cast<uint32_t>(session.closing ? bytes.size() : taken);
}

void Responder::answer(net::ConnectionId id, Session& session) {
  const HttpRequest& request = session.parser.request();
  const net::Connection& c = engine_.connection(id);
  const uint64_t since_syn_us = (now_ns_ - session.syn_at_ns) / 1000;
  HttpResponse& response = session.response(session.pending++);
  response = writer_.answer(request, session.written, ++session.requests, since_syn_us, c.client, c.server);
  log_request(request, c, since_syn_us);
  session.body_left = request.body_bytes;
  session.written = response.end();
  session.closing = !request.keep_alive;
  session.parser.reset();
  engine_.write(id, response.end() - response.start);
  if (session.closing) engine_.close(id);
}

void Responder::log_request(const HttpRequest& request, const net::Connection& c, uint64_t since_syn_us) {
  char room[kLineBytes];
  TextWriter line(room);
  line.endpoint(c.client).text(" asked ").endpoint(c.server).text(", ");
  line.number(since_syn_us).text(" us after its SYN");
  if (request.error != 0) line.text(": error ").number(request.error);
  console_.line(line.view());
}

void Responder::on_acknowledged(net::ConnectionId id, uint64_t offset) {
  Session& session = sessions_[id];
  const bool was_full = session.pending == kPipeline;
  while (session.pending != 0 && session.response(0).end() <= offset) {
    session.first = static_cast<uint8_t>((session.first + 1) % kPipeline);
    --session.pending;
  }
  if (was_full && session.pending < kPipeline) engine_.resume(id);
}

void Responder::read(net::ConnectionId id, uint64_t offset, std::span<std::byte> into) {
  Session& session = sessions_[id];
  const net::Connection& c = engine_.connection(id);
  for (size_t i = 0; i < session.pending && !into.empty(); ++i) {
    const HttpResponse& response = session.response(i);
    if (offset >= response.end()) continue;
    const uint64_t left = response.end() - offset;
    const auto piece = into.first(left < into.size() ? left : into.size());
    writer_.write(response, c.client, c.server, offset - response.start, piece);
    offset += piece.size();
    into = into.subspan(piece.size());
  }
}

}  // namespace

Service* make_responder(const ServiceParts& parts) {
  // A quarter for what comes out of order, the rest for connections.
  constexpr size_t kMostConnections = 8192;
  constexpr size_t kMostChunks = 256;
  constexpr size_t kPerConnection = net::TcpEngine::bytes_per_connection() + sizeof(Session);
  const size_t own = sizeof(Responder) + 256;
  if (parts.arena.left() < own + 8 * (sizeof(net::HeldChunk) + kPerConnection)) return nullptr;
  const size_t left = parts.arena.left() - own;
  const size_t chunks = left / 4 / sizeof(net::HeldChunk);
  const size_t connections = left * 3 / 4 / kPerConnection;
  return parts.arena.make<Responder>(parts, connections < kMostConnections ? connections : kMostConnections,
                                     chunks < kMostChunks ? chunks : kMostChunks);
}

}  // namespace synfluid::guest
