# shellcheck shell=bash
# What a user can see of Synfluid, one function a promise; the same bodies on Xen and on `process`.
# See lib.sh for the wire they stand on and for who calls them.

scenario_a_page_comes_from_a_vm_that_did_not_exist_before_its_syn() {
  start_gateway
  no_vms || fail "there were VMs before the first SYN"
  in_client tcpdump -i wire -U -w "$WORK/syn.pcap" --immediate-mode 'tcp port 80' 2>"$WORK/tcpdump.log" &
  local tcpdump_pid=$!
  within 10 grep -q listening "$WORK/tcpdump.log"
  portal 1 >"$WORK/page"
  sleep 1
  kill "$tcpdump_pid"
  wait "$tcpdump_pid" || true
  local domain syns
  domain=$(field domain <"$WORK/page")
  [ -n "$domain" ] || fail "the page names no domain: $(cat "$WORK/page")"
  [ -n "$(field since_syn_us <"$WORK/page")" ] || fail "the page does not say how long ago its SYN was"
  syns=$(tcpdump -r "$WORK/syn.pcap" 'tcp[13] & 0x12 = 2' 2>/dev/null | wc -l)
  [ "$syns" -eq 1 ] || fail "$syns SYNs on the wire for one connection"
  within 20 no_vms || fail "the VM is still there after its flow"
}

scenario_a_page_comes_over_ipv6() {
  start_gateway
  get 1 portal.example.net 80 "$PORTAL6" / | field domain | grep -q . || fail "no page over IPv6"
}

scenario_what_no_rule_matches_passes_untouched() {
  start_gateway
  [ "$(get 1 shop.example.net 9000 "$WEB4" / | sha256sum)" = "$(sha256sum <"$WORK/www/shop/index.html")" ] ||
    fail "the page through the bypass differs"
  in_client ping -c 3 -i 0.2 -W 5 "$WEB4" >/dev/null || fail "ping does not pass"
  in_client ping -c 3 -i 0.2 -W 5 "$WEB6" >/dev/null || fail "IPv6 ping does not pass"
  no_vms || fail "a flow without a service got a VM"
}

scenario_fragments_and_tags_pass_byte_for_byte() {
  start_gateway
  watch_both_ends
  # Four fragments of 1,500 bytes at most, of a ping and of a datagram.
  in_client ping -c 2 -i 0.2 -s 4000 -W 5 "$WEB4" >/dev/null || fail "a fragmented ping does not pass"
  in_client ping -c 2 -i 0.2 -s 4000 -W 5 "$WEB6" >/dev/null || fail "a fragmented IPv6 ping does not pass"
  # A tag, two tags, a priority without a VLAN.
  send_tagged 8100:2064 && send_tagged 88a8:0064,8100:a007 && send_tagged 8100:e000
  in_client bash -c "head -c 4000 /dev/zero >/dev/udp/$WEB4/7777"
  compare_both_ends || fail "what arrived is not what was sent: $(diff "$WORK/sent.txt" "$WORK/arrived.txt" | head -6)"
  [ "$(grep -cE 'flags \[\+\]|frag \(' "$WORK/kinds.txt")" -ge 16 ] ||
    fail "there were no fragments to see: $(cat "$WORK/kinds.txt")"
  [ -e "$WORK/no-tags" ] || [ "$(grep -c 'vlan' "$WORK/kinds.txt")" -eq 3 ] || fail "there were no tags to see"
}

scenario_a_port_that_cannot_be_opened_is_one_clear_line() {
  local run=("$SYNFLUID" run --policy "$WORK/cold.yaml" --hypervisor "$HYPERVISOR" --control "$CONTROL" --access iface:access)
  ! in_gateway "${run[@]}" --core iface:nowhere >"$WORK/port.out" 2>&1 || fail "a port that does not exist was opened"
  grep -q "no network interface 'nowhere'" "$WORK/port.out" || fail "it is not named: $(cat "$WORK/port.out")"
  [ "$(wc -l <"$WORK/port.out")" -eq 1 ] || fail "more than one line: $(cat "$WORK/port.out")"
  command -v setpriv >/dev/null || return 0
  ! in_gateway setpriv --bounding-set -net_raw --inh-caps -net_raw "${run[@]}" --core iface:core >"$WORK/port.out" 2>&1 ||
    fail "a port was opened without the right to"
  grep -q CAP_NET_RAW "$WORK/port.out" || fail "the missing right is not named: $(cat "$WORK/port.out")"
}

scenario_a_pooled_vm_serves_the_flow() {
  start_gateway policies/examples/demo.yaml
  within 20 some_vm || fail "the pool stays empty"
  local domain
  domain=$(portal 1 | field domain)
  [ -n "$domain" ] || fail "no page"
  [ "$(status_value vms.pooled)" -ge 1 ] || fail "the flow was not served from the pool"
}

scenario_20_flows_get_20_different_domains() {
  start_gateway
  local i
  for i in $(seq 1 20); do portal "$i" -o "$WORK/page.$i" & done
  wait_for_clients
  [ "$(distinct_vms "$WORK"/page.*)" -eq 20 ] || fail "20 flows were served by $(distinct_vms "$WORK"/page.*) VMs"
}

scenario_200_flows_at_once_all_get_theirs() {
  start_gateway "$(policy_without_spawn_limits)"
  in_client curl -sS --no-progress-meter -Z --parallel-immediate --parallel-max 200 --max-time 120 --interface 10.20.1.1 \
    -o "$WORK/many.#1" "http://$PORTAL4/[1-200]" || fail "curl failed"
  [ "$(distinct_vms "$WORK"/many.*)" -eq 200 ] || fail "200 flows were served by $(distinct_vms "$WORK"/many.*) VMs"
  rm -f "$WORK"/many.*
}

scenario_5_mb_through_passthrough_arrive_whole() {
  start_gateway
  download_and_compare
}

scenario_5_mb_arrive_whole_with_offloads_on() {
  trap 'offloads_everywhere off; stop_gateway' EXIT
  offloads_everywhere on
  start_gateway
  watch_both_ends
  download_and_compare
  download_and_compare 9000
  stop_watching
  local side long
  for side in access core; do
    [ "$(status_value ports.$side.lost.too_long)" -eq 0 ] || fail "frames were too long for the $side port"
  done
  long=$(tcpdump -r "$WORK/$SERVER.pcap" -nn 'src port 9000 and greater 3000' 2>/dev/null | wc -l)
  [ "$long" -gt 0 ] || fail "there were no long frames to see"
}

scenario_5_mb_through_passthrough_arrive_whole_with_1_percent_loss() {
  ip netns exec "$CLIENT" tc qdisc add dev wire root netem loss 1% 2>/dev/null ||
    skip "this kernel has no netem to lose packets with"
  in_server tc qdisc add dev wire root netem loss 1%
  trap 'in_client tc qdisc del dev wire root; in_server tc qdisc del dev wire root; stop_gateway' EXIT
  start_gateway
  download_and_compare
}

scenario_the_firewall_blocks_one_host_and_passes_another() {
  start_gateway
  local port status
  for port in 80 443; do
    get 2 news.example.net "$port" "$WEB4" / | cmp -s - "$WORK/www/news/index.html" ||
      fail "port $port: a host that is not blocked does not come through whole"
    status=0
    get 2 ads.example.net "$port" "$WEB4" / -o /dev/null 2>"$WORK/curl.err" || status=$?
    # 56: receive failure, 35: TLS connect error; both are what curl makes of a reset.
    case $status in 56 | 35) ;; *) fail "port $port: the blocked host gave curl status $status, not a reset" ;; esac
  done
  get 3 news.example.net 80 "$WEB6" / | cmp -s - "$WORK/www/news/index.html" || fail "IPv6: news does not come through"
  ! get 3 ads.example.net 80 "$WEB6" / -o /dev/null 2>/dev/null || fail "IPv6: the blocked host came through"
}

scenario_the_firewall_looks_at_every_request_of_a_connection() {
  start_gateway
  one_connection news.example.net shop.example.net >"$WORK/pages" || fail "two good requests: $(cat "$WORK/one.err")"
  cat "$WORK/www/news/index.html" "$WORK/www/shop/index.html" | cmp -s - "$WORK/pages" ||
    fail "two good requests on one connection do not both get their pages"
  ! one_connection news.example.net ads.example.net >"$WORK/pages" || fail "the second request's host is not blocked"
  cmp -s "$WORK/www/news/index.html" "$WORK/pages" || fail "the first request's page does not arrive whole"
  grep -qi 'reset by peer' "$WORK/one.err" || fail "no reset, but: $(cat "$WORK/one.err")"
}

scenario_a_flood_of_syns_leaves_vms_for_a_client_that_is_there() {
  command -v python3 >/dev/null || skip "no python to flood with"
  sed 's/^  max_vms: .*/  max_vms: 40/' "$WORK/cold.yaml" >"$WORK/few.yaml"
  start_gateway "$WORK/few.yaml"
  flood_with_syns 300 &
  local flood=$!
  within 20 vms_run_short || fail "the flood takes no VMs: $(vm_count)"
  sleep 1
  portal 1 >"$WORK/page" || fail "no page during the flood: $(ctl status | grep -E '^(syns|drops|vms)')"
  grep -q '^domain: ' "$WORK/page" || fail "the page names no domain: $(cat "$WORK/page")"
  [ "$(status_value syns.proven)" -ge 1 ] || fail "the client was not asked: $(ctl status | grep -E '^(syns|drops|vms)')"
  kill "$flood"
  wait "$flood" 2>/dev/null || true
  within 20 no_vms || fail "VMs are left after the flood: $(vm_count)"
}

scenario_a_killed_gateway_leaves_nothing_after_its_restart() {
  start_gateway
  # A connection that stays open holds its VM.
  in_client timeout 60 bash -c "exec 3<>/dev/tcp/$PORTAL4/80; sleep 60" &
  within 20 some_vm || fail "no VM for the open connection"
  kill -KILL "$(gateway_pid)"
  within 10 process_is_gone "$(gateway_pid)" || fail "the gateway survived SIGKILL"
  start_gateway
  within 20 nothing_of_ours_is_left || fail "left behind by the killed gateway: $(what_is_left)"
  portal 1 | field domain | grep -q . || fail "no page after the restart"
}

scenario_what_a_vm_says_can_be_read() {
  start_gateway
  in_client timeout 60 bash -c "exec 3<>/dev/tcp/$PORTAL4/80; sleep 60" &
  within 20 some_vm || fail "no VM for the open connection"
  local domid
  domid=$(ctl vms | awk 'NR == 2 { print $1 }')
  ctl console "$domid" >"$WORK/console" || fail "ctl console failed"
  grep -q "^responder in domain $domid: " "$WORK/console" || fail "the console has: $(cat "$WORK/console")"
  ! ctl console 7 2>"$WORK/console.err" || fail "a VM that is not there has a console"
  grep -q "no VM with domain id 7" "$WORK/console.err" || fail "no clear word: $(cat "$WORK/console.err")"
}

scenario_after_idle_time_everything_is_given_back() {
  start_gateway
  local before
  before=$(free_memory)
  local i
  for i in $(seq 1 10); do portal "$i" -o /dev/null & done
  wait_for_clients
  get 1 news.example.net 80 "$WEB4" / -o /dev/null
  within 60 no_vms || fail "VMs are left after the idle time: $(ctl vms)"
  within 20 nothing_of_ours_is_left || fail "left behind: $(what_is_left)"
  within 20 memory_is_back "$before" || fail "free memory was $before and is $(free_memory)"
}

scenario_a_policy_reload_takes_effect_and_a_bad_one_does_not() {
  cp "$WORK/cold.yaml" "$WORK/live.yaml"
  start_gateway "$WORK/live.yaml"
  portal 1 | field domain | grep -q . || fail "no page before the reload"
  echo 'version: [' >"$WORK/live.yaml"
  ! ctl reload >"$WORK/reload.out" 2>&1 || fail "a broken policy was accepted"
  portal 1 | field domain | grep -q . || fail "no page after a refused reload"
  printf 'version: 1\nservices: {}\nrules: []\ndefault: bypass\n' >"$WORK/live.yaml"
  ctl reload >/dev/null || fail "a good policy was refused"
  [ -z "$(portal 1 -o - 2>/dev/null | field domain)" ] || fail "the old policy is still at work"
}

scenario_a_syn_summons_a_linux_that_serves_a_page() {
  [ "$HYPERVISOR" = xen ] || skip "a Linux kernel needs a real hypervisor"
  [ -e "$LINUX_GUEST/vmlinuz" ] || skip "no kernel in $LINUX_GUEST: ./dev lab --with linux-guest"
  local address=198.51.100.90
  linux_policy "$address" >"$WORK/linux.yaml"
  start_gateway "$WORK/linux.yaml"
  # Nobody owns the address, so nobody would say where it is.
  ip -n "$CLIENT" neigh replace "$address" lladdr 02:00:00:00:00:90 dev wire
  no_vms || fail "there were VMs before the first SYN"
  in_client curl -sS --max-time 120 --interface 10.20.1.1 "http://$address/" >"$WORK/linux.page"
  grep -q 'served by Linux .* behind netfront' "$WORK/linux.page" || fail "not Linux' page: $(cat "$WORK/linux.page")"
  in_client curl -sS --max-time 120 --interface 10.20.1.2 "http://$address/numbers" | cmp -s - <(seq 1 150000) ||
    fail "a megabyte from Linux does not arrive whole"
  [ "$(vm_count)" -eq 1 ] || fail "one service, and $(vm_count) VMs"
  stop_gateway
  within 20 nothing_of_ours_is_left || fail "left behind: $(what_is_left)"
}

# --- parts of scenarios --------------------------------------------------------------------------------------------

download_and_compare() { # [PORT]: 8080 is served by passthrough, 9000 by nobody
  get 1 shop.example.net "${1:-8080}" "$WEB4" /5mb.bin --max-time 300 -o "$WORK/5mb.out"
  cmp -s "$WORK/5mb.out" "$WORK/www/shop/5mb.bin" || fail "what arrived is not what was sent"
  rm -f "$WORK/5mb.out"
}

# send_tagged TPID:TCI[,TPID:TCI]: a frame with these tags, from the client's side.
send_tagged() {
  command -v python3 >/dev/null || { touch "$WORK/no-tags" && return; }
  in_client python3 - "$1" <<'END'
import socket, sys
tags = b"".join(bytes.fromhex(tag.replace(":", "")) for tag in sys.argv[1].split(","))
udp = bytes.fromhex("04d2162e001400000102030405060708090a0b0c")
ip = bytes.fromhex("450000280001000040110000") + bytes([10, 20, 1, 1, 198, 51, 100, 10]) + udp
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("wire", 0))
wire.send(b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01" + tags + b"\x08\0" + ip)
END
}

# flood_with_syns PER-SECOND: to the portal, each from another subscriber, none of whom is there. In the background, until
# it is killed.
flood_with_syns() {
  exec ip netns exec "$CLIENT" python3 - "$1" <<'END'
import itertools, socket, struct, sys, time
def fold(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("wire", 0))
for n in itertools.count():
    ends = bytes([10, 20, 2 + n // 250 % 250, 1 + n % 250, 198, 51, 100, 80])
    ip = struct.pack("!BBHHHBB", 0x45, 0, 40, n & 0xffff, 0, 64, 6)
    ip += struct.pack("!H", fold(ip + b"\0\0" + ends)) + ends
    tcp = struct.pack("!HHIIBBH", 1024 + n % 50000, 80, n, 0, 0x50, 2, 65535)
    tcp += struct.pack("!HH", fold(ends + struct.pack("!HH", 6, 20) + tcp + bytes(4)), 0)
    wire.send(b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + ip + tcp)
    time.sleep(1 / int(sys.argv[1]))
END
}
vms_run_short() { [ "$(vm_count)" -ge 30 ]; }

# Both ends of the wire, from now until compare_both_ends: what a client's frames become on the server's side.
watch_both_ends() {
  local ns
  for ns in "$CLIENT" "$SERVER"; do
    ip netns exec "$ns" tcpdump -i wire -U -w "$WORK/$ns.pcap" --immediate-mode -s 0 'not arp and not icmp6[0] > 132' \
      2>"$WORK/$ns.log" &
    echo $! >"$WORK/$ns.pid"
    within 10 grep -q listening "$WORK/$ns.log"
  done
}

compare_both_ends() {
  stop_watching
  tcpdump -r "$WORK/$CLIENT.pcap" -nn -e -v 2>/dev/null >"$WORK/kinds.txt"
  tcpdump -r "$WORK/$CLIENT.pcap" -nn -t -XX 2>/dev/null >"$WORK/sent.txt"
  tcpdump -r "$WORK/$SERVER.pcap" -nn -t -XX 2>/dev/null >"$WORK/arrived.txt"
  [ -s "$WORK/sent.txt" ] && sort "$WORK/sent.txt" | cmp -s - <(sort "$WORK/arrived.txt")
}

stop_watching() {
  local ns
  sleep 1
  for ns in "$CLIENT" "$SERVER"; do
    kill "$(cat "$WORK/$ns.pid")"
    within 10 process_is_gone "$(cat "$WORK/$ns.pid")" || true
  done
}

# one_connection HOST...: asks for them one behind the other on one TCP connection, and prints their pages.
one_connection() {
  cat >"$WORK/one.sh" <<'END'
set -e
exec 3<>"/dev/tcp/$1/80"
shift
for host; do
  printf 'GET / HTTP/1.1\r\nHost: %s\r\n\r\n' "$host" >&3
  line=
  until [ "$line" = $'\r' ]; do
    IFS= read -r -u 3 line
    case $line in Content-Length:*) length=$(tr -cd 0-9 <<<"$line") ;; esac
  done
  head -c "$length" <&3
done
END
  in_client timeout 20 bash "$WORK/one.sh" "$WEB4" "$@" 2>"$WORK/one.err"
}

some_vm() { [ "$(vm_count)" -gt 0 ]; }

LINUX_GUEST=/lab/guest-linux
linux_policy() { # ADDRESS
  cat <<END
version: 1
services:
  linux:
    image: $LINUX_GUEST/vmlinuz
    mode: terminate
    per: service
    memory: 256MiB
    answer_timeout: 60s
    on_failure: drop
    config: { ramdisk: $LINUX_GUEST/initramfs, cmdline: console=hvc0 addr4=$1/32 }
rules:
  - { name: linux, match: { dst: [$1], dst_ports: [80] }, service: linux }
limits: { hold_time: 120s }
default: bypass
END
}

policy_without_spawn_limits() {
  sed 's/per_subscriber: .*/per_subscriber: { spawn_rate: 1000\/s, max_vms: 1000 }/' "$WORK/cold.yaml" \
    >"$WORK/unlimited.yaml"
  echo "$WORK/unlimited.yaml"
}
