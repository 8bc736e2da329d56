#include "guest/services/firewall/firewall.h"

#include "guest/net/checksum.h"
#include "guest/services/config.h"
#include "guest/services/text.h"

namespace synfluid::guest {
namespace {

constexpr uint16_t kNoSniffer = 0xffff;
constexpr size_t kMostFlows = 16384;
constexpr size_t kMostChunks = 8192;
constexpr size_t kMostSniffers = 1024;

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
      rules_(parts.card, parts.arena) {
  ConfigReader config(parts.card);
  for (ConfigLine line; config.next(line);) {
    if (line.key == "undecided" && line.value == "pass") undecided_ = FlowState::kPassed;
    if (line.key == "unknown_flows" && line.value == "pass") unknown_ = Verdict::kForward;
  }
}

bool Firewall::take_tables(net::Arena& arena, const net::HashKey& key) {
  flows_ = nullptr;
  const size_t left = arena.left() - arena.left() / 16;
  const size_t flows = left / 2 / FirewallFlows::bytes_per_flow();
  const size_t chunks = left * 3 / 8 / HeadStore::bytes_per_chunk();
  const size_t sniffers = left / 8 / (sizeof(HostSniffer) + sizeof(uint16_t));
  flows_ = arena.make<FirewallFlows>(arena, flows < kMostFlows ? flows : kMostFlows, key);
  heads_ = arena.make<HeadStore>(arena, chunks < kMostChunks ? chunks : kMostChunks);
  sniffers_ = arena.reserve<HostSniffer>(sniffers < kMostSniffers ? sniffers : kMostSniffers);
  free_sniffers_ = arena.array<uint16_t>(sniffers_.size());
  for (const HostSniffer& sniffer : sniffers_)
    free_sniffers_[free_sniffer_count_++] = static_cast<uint16_t>(&sniffer - sniffers_.data());
  return flows_ != nullptr && heads_ != nullptr && flows >= 16 && chunks >= 16 && free_sniffers_.size() >= 4;
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
  } else if (is_pure_syn(in.segment) && in.segment.seq + 1 != found.flow->head_seq) {
    return on_known_syn(found, in);
  }
  FirewallFlow& flow = *found.flow;
  flows_->touch(flow, now_ns);
  const bool from_client = found.sender == FirewallFlows::Sender::kClient;
  const bool accepts =
      !from_client && (in.segment.flags & (net::kSyn | net::kAck)) == (net::kSyn | net::kAck);
  if (accepts && flow.syn_pending && in.segment.ack == flow.pending_head_seq && in.checksum_good())
    start_over(flow, flow.pending_head_seq);
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
  const auto forget = [this](FirewallFlow& old) {
    decide(old, FlowState::kPassed);
    heads_->clear(old.head);
  };
  FirewallFlow* flow = flows_->add(key, now_ns, forget);
  if (flow == nullptr) return Verdict::kDrop;
  flow->head_seq = in.segment.seq + 1;
  return Verdict::kForward;
}

/// A SYN of a flow we know, with another sequence number: it means something only if the server agrees. Data
/// in it would go uninspected.
Firewall::Verdict Firewall::on_known_syn(FirewallFlows::Found found, const Input& in) {
  if (!in.segment.payload.empty()) return Verdict::kDrop;
  if (found.sender == FirewallFlows::Sender::kServer) return Verdict::kForward;
  found.flow->syn_pending = true;
  found.flow->pending_head_seq = in.segment.seq + 1;
  return Verdict::kForward;
}

void Firewall::start_over(FirewallFlow& flow, uint32_t head_seq) {
  decide(flow, FlowState::kUndecided);
  heads_->clear(flow.head);
  flow.guarded = true;
  flow.client_fin = flow.server_fin = flow.over = flow.syn_pending = false;
  flow.head_seq = head_seq;
}

/// The verdict, and the end of the sniffing.
void Firewall::decide(FirewallFlow& flow, FlowState state) {
  flow.state = state;
  if (flow.sniffer != kNoSniffer) free_sniffers_[free_sniffer_count_++] = flow.sniffer;
  flow.sniffer = kNoSniffer;
}

void Firewall::note_end(FirewallFlow& flow, FirewallFlows::Sender sender, const net::Segment& segment) {
  const bool from_client = sender == FirewallFlows::Sender::kClient;
  if (segment.has(net::kFin)) (from_client ? flow.client_fin : flow.server_fin) = true;
  // Not forgotten before its place is needed: an end may be a pretence.
  if (segment.has(net::kRst) || (flow.client_fin && flow.server_fin)) flow.over = true;
}

Firewall::Verdict Firewall::on_server(FirewallFlow& flow, const Input& in) {
  if (!flow.guarded || flow.state != FlowState::kPassed || !in.segment.has(net::kAck))
    return Verdict::kForward;
  if (net::seq_before(in.segment.ack, flow.head_seq + flow.head.bytes) || !in.checksum_good())
    return Verdict::kForward;
  // The server has the head: nobody can change it any more.
  flow.guarded = false;
  heads_->clear(flow.head);
  return Verdict::kForward;
}

Firewall::Verdict Firewall::on_client(FirewallFlow& flow, const Input& in) {
  if (!flow.guarded) return Verdict::kForward;
  const uint32_t first = in.segment.seq + (in.segment.has(net::kSyn) ? 1 : 0);
  const auto offset = static_cast<int32_t>(first - flow.head_seq);
  if (!in.segment.payload.empty()) return on_client_bytes(flow, in, offset);
  // A FIN ahead of what was inspected would end the stream before its head.
  const bool early = flow.state == FlowState::kUndecided && offset > int32_t{flow.head.bytes};
  return in.segment.has(net::kFin) && early ? Verdict::kDrop : Verdict::kForward;
}

Firewall::Verdict Firewall::on_client_bytes(FirewallFlow& flow, const Input& in, int32_t offset) {
  // Before the stream: for a server that sees the stream elsewhere it would be uninspected.
  if (offset < 0 || !in.checksum_good()) return Verdict::kDrop;
  const auto at = static_cast<uint32_t>(offset);
  const uint32_t known = flow.head.bytes;
  if (at > known) return flow.state == FlowState::kUndecided ? Verdict::kDrop : Verdict::kForward;
  const auto bytes = in.segment.payload;
  const size_t compared = known - at < bytes.size() ? known - at : bytes.size();
  if (!heads_->matches(flow.head, at, bytes.first(compared))) return Verdict::kDrop;
  const auto fresh = bytes.subspan(compared);
  if (fresh.empty() || flow.state == FlowState::kPassed) return Verdict::kForward;
  return inspect(flow, in, fresh);
}

HostSniffer* Firewall::sniffer_of(FirewallFlow& flow) {
  if (flow.sniffer == kNoSniffer) {
    if (free_sniffer_count_ == 0) return nullptr;
    flow.sniffer = free_sniffers_[--free_sniffer_count_];
    sniffers_[flow.sniffer] = HostSniffer{};
  }
  return &sniffers_[flow.sniffer];
}

/// Feeds bytes until a verdict; `used` says how many it took.
SniffVerdict Firewall::sniff(FirewallFlow& flow, std::span<const std::byte> bytes, size_t& used) {
  HostSniffer& sniffer = sniffers_[flow.sniffer];
  for (used = 0; used < bytes.size();) {
    if (flow.head.bytes + used == kMaxSniffedBytes) return sniffer.at_limit();
    const SniffVerdict verdict = sniffer.feed(net::load_u8(&bytes[used++]), rules_);
    if (verdict != SniffVerdict::kMore) return verdict;
  }
  return SniffVerdict::kMore;
}

/// Bytes that nobody has seen yet, next in order.
Firewall::Verdict Firewall::inspect(FirewallFlow& flow, const Input& in, std::span<const std::byte> fresh) {
  // Without room the segment is as good as lost: it will come again.
  if (!heads_->has_room(flow.head, fresh.size()) || sniffer_of(flow) == nullptr) return Verdict::kDrop;
  size_t used = 0;
  SniffVerdict verdict = sniff(flow, fresh, used);
  if (verdict == SniffVerdict::kSuspicious)
    verdict = undecided_ == FlowState::kPassed ? SniffVerdict::kPass : SniffVerdict::kBlock;
  if (verdict == SniffVerdict::kBlock) {
    ++counters_.flows_blocked;
    log_block(flow);
    decide(flow, FlowState::kBlocked);
    reset_client(in);
    reset_server(flow, in);
    return Verdict::kDrop;
  }
  heads_->append(flow.head, fresh.first(used));
  if (verdict == SniffVerdict::kPass) decide(flow, FlowState::kPassed);
  return Verdict::kForward;
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

/// As from the client: the server has got the head as far as it was forwarded.
void Firewall::reset_server(const FirewallFlow& flow, const Input& in) {
  send_reset(in.packet.link, flow.client, flow.server, flow.head_seq + flow.head.bytes, in.segment.ack);
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
