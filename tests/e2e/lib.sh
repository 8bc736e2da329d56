# shellcheck shell=bash
# The frame that scenarios stand in: one wire with a gateway in it, the counting, and the cleaning up.
#
#     netns $CLIENT (curl)  ──veth──  netns $GATEWAY (synfluid)  ──veth──  netns $SERVER (nginx)
#
# Who sources this sets HYPERVISOR (process or xen) and SYNFLUID (the program), then defines functions named
# scenario_*; run_scenarios runs them in the order of their definition and prints `N passed, N failed, N skipped`.
# A scenario fails at its first command that does (set -e in a subshell), and says why with `fail`.

: "${HYPERVISOR:?}" "${SYNFLUID:?}"
TAG=sfe2e$$
CLIENT=$TAG-client
GATEWAY=$TAG-gw
SERVER=$TAG-server
WORK=$(mktemp -d "${TMPDIR:-/tmp}/$TAG.XXXXXX")
CONTROL=$WORK/control.sock
export PORTAL4=198.51.100.80 PORTAL6=2001:db8:5::80 WEB4=198.51.100.10 WEB6=2001:db8:5::10

fail() {
  echo "    $*" >&2
  exit 1
}

# skip WHY: ends a scenario that this machine cannot run.
skip() {
  echo "$*" >"$WORK/skip"
  exit 77
}

in_client() { ip netns exec "$CLIENT" "$@"; }
in_gateway() { ip netns exec "$GATEWAY" "$@"; }
in_server() { ip netns exec "$SERVER" "$@"; }

# within SECONDS COMMAND...: tries the command until it succeeds. In the lab sleep costs nothing, and a command much.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep "$POLL_S"
  done
}

# --- the wire ------------------------------------------------------------------------------------------------------

plain_link() { # NETNS DEVICE: frames on it are what a wire would carry
  ip -n "$1" link set "$2" up
  offloads off "$1" "$2"
}

offloads() { # on|off NETNS DEVICE
  ip netns exec "$2" ethtool -K "$3" tx "$1" tso "$1" gso "$1" gro "$1" >/dev/null 2>&1 || true
}

offloads_everywhere() { # on|off
  offloads "$1" "$CLIENT" wire
  offloads "$1" "$GATEWAY" access
  offloads "$1" "$GATEWAY" core
  offloads "$1" "$SERVER" wire
}

make_wire() {
  local ns i
  for ns in "$CLIENT" "$GATEWAY" "$SERVER"; do
    ip netns add "$ns"
    ip -n "$ns" link set lo up
  done
  # Nothing but the gateway may speak on its own two links.
  in_gateway sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
  ip link add access netns "$GATEWAY" type veth peer name wire netns "$CLIENT"
  ip link add core netns "$GATEWAY" type veth peer name wire netns "$SERVER"
  plain_link "$GATEWAY" access
  plain_link "$GATEWAY" core
  plain_link "$CLIENT" wire
  plain_link "$SERVER" wire
  for i in $(seq 1 20); do
    ip -n "$CLIENT" addr add "10.20.1.$i/32" dev wire
    ip -n "$CLIENT" addr add "2001:db8:20::$i/128" dev wire nodad
  done
  for i in 10 80; do
    ip -n "$SERVER" addr add "198.51.100.$i/32" dev wire
    ip -n "$SERVER" addr add "2001:db8:5::$i/128" dev wire nodad
  done
  ip -n "$CLIENT" route add 198.51.100.0/24 dev wire src 10.20.1.1
  ip -n "$CLIENT" route add 2001:db8:5::/48 dev wire src 2001:db8:20::1
  ip -n "$SERVER" route add 10.20.0.0/16 dev wire
  ip -n "$SERVER" route add 2001:db8:20::/48 dev wire
}

make_site() {
  local host
  for host in news shop ads; do
    mkdir -p "$WORK/www/$host"
    seq -f "$host.example.net item %g" 1 200 >"$WORK/www/$host/index.html"
  done
  head -c 5000000 /dev/urandom >"$WORK/www/shop/5mb.bin"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=example.net \
    -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
  {
    echo "user $(id -un); pid $WORK/nginx.pid; error_log $WORK/error.log; worker_processes 1;"
    echo "events { worker_connections 512; } http { access_log off;"
    for dir in client_body proxy fastcgi uwsgi scgi; do echo "${dir}_temp_path $WORK/$dir;"; done
    for host in news shop ads; do
      echo "server { listen 80; listen [::]:80; listen 443 ssl; listen [::]:443 ssl; server_name $host.example.net;"
      echo "  ssl_certificate $WORK/cert.pem; ssl_certificate_key $WORK/key.pem; root $WORK/www/$host; }"
    done
    echo "server { listen 8080; listen [::]:8080; listen 9000; listen [::]:9000; root $WORK/www/shop; }"
    echo "}"
  } >"$WORK/nginx.conf"
  in_server nginx -e "$WORK/error.log" -c "$WORK/nginx.conf"
}

# --- the gateway ---------------------------------------------------------------------------------------------------

# The example policy without its pools, so that every VM is one that a SYN has summoned, and with short idle times.
make_policy() {
  sed -e '/pool:/d' -e '/idle_timeout:/d' -e 's/^\( *\)per: .*/&\n\1idle_timeout: 3s/' policies/examples/demo.yaml \
    >"$WORK/cold.yaml"
}

start_gateway() { # [POLICY]
  local policy=${1:-$WORK/cold.yaml}
  rm -f "$CONTROL"
  # exec, so that the pid is the gateway's own.
  (exec ip netns exec "$GATEWAY" "$SYNFLUID" run --policy "$policy" --hypervisor "$HYPERVISOR" \
    --access iface:access --core iface:core --control "$CONTROL" >>"$WORK/gateway.log" 2>&1) &
  echo $! >"$WORK/gateway.pid"
  within 60 gateway_answers || {
    tail -20 "$WORK/gateway.log" >&2
    fail "the gateway does not answer on its control socket"
  }
}

gateway_answers() { "$SYNFLUID" ctl --control "$CONTROL" status >/dev/null 2>&1; }
ctl() { "$SYNFLUID" ctl --control "$CONTROL" "$@"; }
gateway_pid() { cat "$WORK/gateway.pid" 2>/dev/null; }

stop_gateway() {
  local pid
  pid=$(gateway_pid) || return 0
  rm -f "$WORK/gateway.pid"
  kill -TERM "$pid" 2>/dev/null || return 0
  if ! within 30 process_is_gone "$pid"; then
    kill -KILL "$pid"
    fail "the gateway did not stop within 30 s of SIGTERM"
  fi
  wait "$pid" || fail "the gateway ended with status $?"
}

process_is_gone() { ! kill -0 "$1" 2>/dev/null; }

vm_count() { ctl --json vms | grep -c '"domid"' || true; }
no_vms() { [ "$(vm_count)" -eq 0 ]; }

# status_value NAME: one number of `ctl status`.
status_value() { ctl status | awk -v name="$1" '$1 == name { print $2 }'; }

# What a platform can leave behind, and how much memory it has, each in its own words; and how often to look.
case $HYPERVISOR in
  xen)
    POLL_S=0.5
    what_is_left() { xl list | awk 'NR > 1 && $1 != "Domain-0"' && xenstore_nodes; }
    xenstore_nodes() { xenstore-ls /local/domain 2>/dev/null | grep -E '^[1-9][0-9]* =' || true; }
    free_memory() { xl info free_memory; }
    ;;
  process)
    POLL_S=0.1
    what_is_left() { pgrep -l '^synfluid-vm' || true; }
    free_memory() { echo 0; }
    ;;
esac
nothing_of_ours_is_left() { [ -z "$(what_is_left)" ]; }
memory_is_back() { [ "$(free_memory)" -ge "$1" ]; }

# --- clients -------------------------------------------------------------------------------------------------------

# get SUBSCRIBER-NUMBER HOST PORT ADDRESS PATH [CURL OPTION...]
get() {
  local who=$1 host=$2 port=$3 to=$4 path=$5 scheme=http from
  shift 5
  [ "$port" != 443 ] || scheme=https
  case $to in *:*) from=2001:db8:20::$who to="[$to]" ;; *) from=10.20.1.$who ;; esac
  in_client curl -sS -k --max-time 60 --interface "$from" --resolve "$host:$port:$to" "$@" "$scheme://$host:$port$path"
}

portal() { # SUBSCRIBER-NUMBER [CURL OPTION...]
  local who=$1
  shift
  get "$who" portal.example.net 80 "$PORTAL4" / "$@"
}

# field NAME: the value behind `NAME:` in a portal's page.
field() { sed -n "s/^$1: *//p" | tr -d '\r'; }

# distinct_vms FILE...: how many VMs have served these pages.
distinct_vms() {
  awk -F ': *' 'FNR == 1 { domain = "" } { sub("\r$", "") } $1 == "domain" { domain = $2 }
                $1 == "generation" && domain != "" && !seen[domain "/" $2]++ { vms++ } END { print vms + 0 }' "$@"
}

# Waits for the curls in the background, not for the gateway; fails if one of them did.
wait_for_clients() {
  local pid gateway
  gateway=$(gateway_pid)
  for pid in $(jobs -p); do
    [ "$pid" = "$gateway" ] || wait "$pid" || fail "a client failed with status $?"
  done
}

# --- running -------------------------------------------------------------------------------------------------------

clean_up() {
  set +e
  local pid ns
  pid=$(gateway_pid) && kill -KILL "$pid" 2>/dev/null
  [ ! -s "$WORK/nginx.pid" ] || kill "$(cat "$WORK/nginx.pid")" 2>/dev/null
  for ns in "$CLIENT" "$GATEWAY" "$SERVER"; do
    ip netns pids "$ns" 2>/dev/null | xargs -r kill -KILL 2>/dev/null
    ip netns del "$ns" 2>/dev/null
  done
  wait
  rm -rf "$WORK"
}

run_scenarios() { # [NAME-PART...]: all, or those whose name has one of the parts
  local passed=0 failed=0 skipped=0 name status began wanted part
  trap clean_up EXIT
  make_wire
  make_site
  make_policy
  for name in $(declare -F | sed -n 's/^declare -f scenario_//p' | sort); do
    wanted=$([ $# -eq 0 ] && echo yes || echo no)
    for part in "$@"; do case $name in *"$part"*) wanted=yes ;; esac; done
    [ "$wanted" = yes ] || continue
    began=$SECONDS
    rm -f "$WORK/skip"
    # Not `( ... ) || status=$?`: that would switch errexit off inside.
    set +e
    (
      set -e
      trap stop_gateway EXIT
      "scenario_$name"
    )
    status=$?
    set -e
    local title="${name//_/ } on $HYPERVISOR"
    if [ "$status" -eq 0 ]; then
      passed=$((passed + 1))
      echo "ok      $title ($((SECONDS - began)) s)"
    elif [ -e "$WORK/skip" ]; then
      skipped=$((skipped + 1))
      echo "skipped $title: $(cat "$WORK/skip")"
    else
      failed=$((failed + 1))
      echo "FAILED  $title ($((SECONDS - began)) s)"
      tail -5 "$WORK/gateway.log" 2>/dev/null | sed 's/^/    | /'
    fi
  done
  clean_up 2>/dev/null
  trap - EXIT
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}
