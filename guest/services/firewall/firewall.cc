#include "guest/services/firewall/firewall.h"

#include "guest/net/checksum.h"
#include "guest/services/config.h"
#include "guest/services/text.h"

namespace synfluid::guest {
namespace {

constexpr size_t kMostFlows = 16384;

FlowKey key_of(const net::Packet& packet, const net::Segment& segment) {
  FlowKey key{segment.from, segment.to, {0, 0}};
  constexpr uint32_t kFirstTag = 14;
  for (uint32_t i = 0; kFirstTag + 4 * i < packet.link.length; ++i)
    key.vlan[i] = static_cast<uint16_t>(packet.link.bytes[kFirstTag + 4 * i] << 8 |
                                        packet.link.bytes[kFirstTag + 4 * i + 1]) &
                  0x0fff;
  return key;
}

bool is_pure_syn(const net::Segment& segment) {
  return (segment.flags & (net::kSyn | net::kAck | net::kRst | net::kFin)) == net::kSyn;
}

}  // namespace

Firewall::Firewall(const ServiceParts& parts)
    : netfront_(parts.netfront),
      console_(parts.console),
      sink_(parts.netfront),
      rules_(parts.card, parts.arena),
      watcher_(rules_) {
  ConfigReader config(parts.card);
  for (ConfigLine line; config.next(line);) {
    if (line.key == "undecided" && line.value == "pass") undecided_ = FlowState::kOpaque;
    if (line.key == "unknown_flows" && line.value == "pass") unknown_ = Verdict::kForward;
  }
}

bool Firewall::take_tables(net::Arena& arena, const net::HashKey& key) {
  flows_ = nullptr;
  const size_t left = arena.left() - arena.left() / 16;
  const size_t flows = left / 2 / FirewallFlows::bytes_per_flow();
  flows_ = arena.make<FirewallFlows>(arena, flows < kMostFlows ? flows : kMostFlows, key);
  return flows_ != nullptr && flows >= 16 && watcher_.take_tables(arena, left * 3 / 8, left / 8);
}

void Firewall::on_frame(const net::RxFrame& frame, uint64_t now_ns) {
  if (judge(frame, now_ns) == Verdict::kForward && netfront_.forward(frame)) return;
  ++counters_.dropped;
  netfront_.recycle(frame);
}

std::span<const std::byte> Firewall::in_one_piece(const net::RxFrame& frame) {
  if (frame.count == 1) return frame.first();
  size_t used = 0;
  for (uint32_t i = 0; i < frame.count; ++i) {
    net::copy_bytes(&joined_[used], frame.fragments[i].data, frame.fragments[i].length);
    used += frame.fragments[i].length;
  }
  return {joined_, used};
}

bool Firewall::Input::checksum_good() const {
  if (checksum_trusted) return true;
  const uint64_t pseudo =
      net::sum_pseudo_header(packet.source, packet.destination, net::kProtocolTcp, packet.l4_length);
  return net::finish_sum(net::sum_bytes(frame.subspan(packet.l4_offset, packet.l4_length), pseudo)) == 0;
}

Firewall::Verdict Firewall::judge(const net::RxFrame& frame, uint64_t now_ns) {
  Input in;
  in.frame = in_one_piece(frame);
  in.packet = net::parse_packet(in.frame);
  in.checksum_trusted = frame.checksum_trusted;
  const net::PacketKind kind = in.packet.kind;
  if (kind == net::PacketKind::kArp || kind == net::PacketKind::kOther) return Verdict::kForward;
  // A fragment cannot be inspected, and what contradicts itself may be read differently by the server.
  if (kind != net::PacketKind::kIp) return Verdict::kDrop;
  if (in.packet.protocol != net::kProtocolTcp) return Verdict::kForward;
  // The checksum is looked at where a decision hangs on it; elsewhere even a bad one goes through untouched.
  const auto parsed = net::parse_segment(in.frame, in.packet, net::ChecksumCheck::kTrusted, in.segment);
  return parsed == net::SegmentVerdict::kGood ? judge_segment(in, now_ns) : Verdict::kDrop;
}

Firewall::Verdict Firewall::judge_segment(const Input& in, uint64_t now_ns) {
  const FlowKey key = key_of(in.packet, in.segment);
  FirewallFlows::Found found = flows_->find(key);
  if (found.flow == nullptr) {
    if (!is_pure_syn(in.segment)) return unknown_;
    if (on_new_syn(key, in, now_ns) == Verdict::kDrop) return Verdict::kDrop;
    found = flows_->find(key);
  } else if (is_pure_syn(in.segment) && in.segment.seq + 1 != found.flow->begin_seq) {
    return on_known_syn(found, in);
  }
  FirewallFlow& flow = *found.flow;
  flows_->touch(flow, now_ns);
  const bool from_client = found.sender == FirewallFlows::Sender::kClient;
  const bool accepts =
      !from_client && (in.segment.flags & (net::kSyn | net::kAck)) == (net::kSyn | net::kAck);
  if (accepts) on_accept(flow, in);
  if (flow.state == FlowState::kBlocked) {
    on_blocked(flow, found.sender, in);
    return Verdict::kDrop;
  }
  const Verdict verdict = from_client ? on_client(flow, in) : on_server(flow, in);
  if (verdict == Verdict::kForward) note_end(flow, found.sender, in.segment);
  return verdict;
}

Firewall::Verdict Firewall::on_new_syn(const FlowKey& key, const Input& in, uint64_t now_ns) {
  if (!in.checksum_good()) return Verdict::kDrop;
  FirewallFlow* flow = flows_->add(key, now_ns, [this](FirewallFlow& old) { watcher_.forget(old.watch); });
  if (flow == nullptr) return Verdict::kDrop;
  flow->begin_seq = flow->passed_seq = flow->watch.next_seq = in.segment.seq + 1;
  return Verdict::kForward;
}

/// A SYN of a flow we know, with another sequence number: it means something only if the server agrees. Data
/// in it would go unread.
Firewall::Verdict Firewall::on_known_syn(FirewallFlows::Found found, const Input& in) {
  if (!in.segment.payload.empty()) return Verdict::kDrop;
  if (found.sender == FirewallFlows::Sender::kServer) return Verdict::kForward;
  found.flow->syn_pending = true;
  found.flow->pending_begin_seq = in.segment.seq + 1;
  return Verdict::kForward;
}

/// The server's answer to a SYN; it may cover data that came with the SYN.
void Firewall::on_accept(FirewallFlow& flow, const Input& in) {
  if (!in.checksum_good()) return;
  const uint32_t ack = in.segment.ack;
  if (flow.syn_pending && ack == flow.pending_begin_seq) start_over(flow, ack);
  if (net::seq_at_or_before(flow.begin_seq, ack) && net::seq_at_or_before(ack, flow.passed_seq))
    flow.agreed = true;
}

void Firewall::start_over(FirewallFlow& flow, uint32_t begin_seq) {
  watcher_.forget(flow.watch);
  flow.watch = {};
  flow.state = FlowState::kWatched;
  flow.client_fin = flow.server_fin = flow.over = flow.syn_pending = false;
  flow.begin_seq = flow.passed_seq = flow.watch.next_seq = begin_seq;
}

void Firewall::note_end(FirewallFlow& flow, FirewallFlows::Sender sender, const net::Segment& segment) {
  const bool from_client = sender == FirewallFlows::Sender::kClient;
  if (segment.has(net::kFin)) (from_client ? flow.client_fin : flow.server_fin) = true;
  // Not forgotten before its place is needed: an end may be a pretence.
  if (segment.has(net::kRst) || (flow.client_fin && flow.server_fin)) flow.over = true;
}

Firewall::Verdict Firewall::on_server(FirewallFlow& flow, const Input& in) {
  if (!flow.watch.awaits_ack() || !in.segment.has(net::kAck)) return Verdict::kForward;
  if (watcher_.is_news(flow.watch, in.segment.ack) && in.checksum_good())
    watcher_.on_ack(flow.watch, in.segment.ack);
  return Verdict::kForward;
}

Firewall::Verdict Firewall::on_client(FirewallFlow& flow, const Input& in) {
  const net::Segment& segment = in.segment;
  const bool is_watched = flow.state == FlowState::kWatched;
  if (!is_watched && flow.watch.guards.empty()) return Verdict::kForward;
  // A server takes an urgent byte out of the stream, so that it reads another one than we do.
  if (segment.has(net::kUrg))
    return in.checksum_good() ? settle(flow, in, Finding::kSuspicious) : Verdict::kDrop;
  const uint32_t first = segment.seq + (segment.has(net::kSyn) ? 1 : 0);
  if (!segment.payload.empty()) return on_client_bytes(flow, in, first);
  // A FIN ahead of what was read would end the stream inside a head.
  const bool is_early = is_watched && net::seq_before(flow.watch.next_seq, first);
  return segment.has(net::kFin) && is_early ? Verdict::kDrop : Verdict::kForward;
}

Firewall::Verdict Firewall::on_client_bytes(FirewallFlow& flow, const Input& in, uint32_t first) {
  // Until the server agrees it may know another stream on these ports, which goes on elsewhere.
  if (!flow.agreed && !in.segment.has(net::kSyn)) return Verdict::kDrop;
  const bool is_watched = flow.state == FlowState::kWatched;
  StreamWatch& watch = flow.watch;
  if (is_watched && net::seq_before(watch.next_seq, first)) return Verdict::kDrop;
  const auto bytes = in.segment.payload;
  const uint32_t end = first + static_cast<uint32_t>(bytes.size());
  if (!RequestWatcher::is_free(watch, first, bytes.size())) {
    if (!in.checksum_good() || !watcher_.matches(watch, first, bytes)) return Verdict::kDrop;
    if (is_watched && net::seq_before(watch.next_seq, end)) {
      const Finding finding = watcher_.read(watch, bytes.subspan(watch.next_seq - first));
      if (settle(flow, in, finding) == Verdict::kDrop) return Verdict::kDrop;
    }
  }
  if (net::seq_before(flow.passed_seq, end)) flow.passed_seq = end;
  return Verdict::kForward;
}

Firewall::Verdict Firewall::settle(FirewallFlow& flow, const Input& in, Finding finding) {
  if (finding == Finding::kNothing) return Verdict::kForward;
  if (finding == Finding::kNoRoom) return Verdict::kDrop;
  const bool passes = finding == Finding::kSuspicious && undecided_ == FlowState::kOpaque;
  if (finding != Finding::kOpaque && !passes) return block(flow, in);
  flow.state = FlowState::kOpaque;
  watcher_.stop_reading(flow.watch);
  return Verdict::kForward;
}

Firewall::Verdict Firewall::block(FirewallFlow& flow, const Input& in) {
  ++counters_.flows_blocked;
  log_block(flow);
  flow.state = FlowState::kBlocked;
  watcher_.forget(flow.watch);
  reset_client(in);
  reset_server(flow, in);
  return Verdict::kDrop;
}

void Firewall::log_block(const FirewallFlow& flow) {
  char room[kLineBytes];
  TextWriter line(room);
  line.text("blocked ").endpoint(flow.client).text(" to ").endpoint(flow.server);
  console_.line(line.view());
}

/// Whoever still talks has not got its RST.
void Firewall::on_blocked(FirewallFlow& flow, FirewallFlows::Sender sender, const Input& in) {
  const net::Segment& segment = in.segment;
  if (segment.has(net::kRst) || !segment.has(net::kAck)) return;
  if (sender == FirewallFlows::Sender::kClient) {
    reset_client(in);
    reset_server(flow, in);
  } else {
    const uint32_t behind = segment.seq + segment.length();
    send_reset(in.packet.link.swapped(), flow.client, flow.server, segment.ack, behind);
  }
}

/// As from the server: the next byte that the client awaits is the one it acknowledged last.
void Firewall::reset_client(const Input& in) {
  const net::Segment& segment = in.segment;
  send_reset(in.packet.link.swapped(), segment.to, segment.from, segment.ack, segment.seq + segment.length());
}

/// As from the client: the server has got what was let through. If some of that was lost on the way, it
/// answers with an ACK of what it awaits, and that is answered with the right RST.
void Firewall::reset_server(const FirewallFlow& flow, const Input& in) {
  send_reset(in.packet.link, flow.client, flow.server, flow.passed_seq, in.segment.ack);
}

void Firewall::send_reset(const net::LinkHeader& link, const net::Endpoint& from, const net::Endpoint& to,
                          uint32_t seq, uint32_t ack) {
  std::byte* page = sink_.take();
  if (page == nullptr) return;  // the next segment of the flow gives another chance
  std::byte* tcp =
      net::write_ip_header(page, link, from.address, to.address, net::kProtocolTcp, net::kTcpHeaderBytes);
  net::zero_bytes(tcp, net::kTcpHeaderBytes);
  net::store_be16(tcp, from.port);
  net::store_be16(tcp + 2, to.port);
  net::store_be32(tcp + 4, seq);
  net::store_be32(tcp + 8, ack);
  net::store_u8(tcp + 12, net::kTcpHeaderBytes / 4 << 4);
  net::store_u8(tcp + 13, net::kRst | net::kAck);
  const uint64_t pseudo =
      net::sum_pseudo_header(from.address, to.address, net::kProtocolTcp, net::kTcpHeaderBytes);
  net::store_checksum(tcp + 16, net::finish_sum(net::sum_bytes({tcp, net::kTcpHeaderBytes}, pseudo)));
  sink_.send(page, static_cast<uint32_t>(tcp - page) + net::kTcpHeaderBytes);
}

Service* make_firewall(const ServiceParts& parts) {
  Firewall* firewall = parts.arena.make<Firewall>(parts);
  if (firewall == nullptr) return nullptr;
  const net::HashKey key = {parts.card.fixed.entropy[2], parts.card.fixed.entropy[3]};
  return firewall->take_tables(parts.arena, key) ? firewall : nullptr;
}

}  // namespace synfluid::guest
