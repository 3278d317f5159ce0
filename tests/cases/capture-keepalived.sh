#!/bin/bash
# Captures what a real keepalived puts on the wire, as `keepalived.frames` holds it. Root; keepalived, tcpdump, iproute2.
#
#   tests/cases/capture-keepalived.sh > tests/cases/keepalived.frames
#
# Per case two network namespaces joined by a cable: keepalived in one, tcpdump in the other, which sees whole Ethernet
# frames as a peer receives them. Cases run side by side. A second run gives the same bytes.
set -euo pipefail

folder=$(mktemp -d)
# Not `hh-`: the lab would take them for what one of its own left behind.
prefix="capture$$"
trap clean EXIT
clean() {
    for name in $(ip netns list | awk -v prefix="$prefix-" 'index($1, prefix) == 1 { print $1 }'); do
        ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null || true
        ip netns del "$name"
    done
    rm -rf "$folder"
}

# capture NAME WHICH SECONDS GLOBAL INSTANCE VIPS [FILTER]: WHICH of the frames is kept (`first` or `last`), after SECONDS
# of running and a SIGTERM.
capture() {
    local name=$1 which=$2 seconds=$3 global=$4 instance=$5 vips=$6 filter=${7:-ip proto 112}
    local ours="$prefix-$name-k" peer="$prefix-$name-p" dir="$folder/$name"
    mkdir "$dir"
    ip netns add "$ours"
    ip netns add "$peer"
    ip link add eth0 netns "$ours" address 02:77:00:00:00:fd type veth peer name eth0 netns "$peer" \
        address 02:77:00:00:00:fe
    ip -n "$ours" address add 172.19.48.253/24 dev eth0
    ip -n "$peer" address add 172.19.48.254/24 dev eth0
    ip -n "$ours" link set eth0 up
    ip -n "$peer" link set eth0 up
    cat > "$dir/keepalived.conf" <<CONF
global_defs {
    router_id LVS_DEVEL
    vrrp_skip_check_adv_addr
    $global
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 100
    $instance
    unicast_src_ip 172.19.48.253
    unicast_peer {
        172.19.48.254
    }
    virtual_ipaddress {
        $vips
    }
}
CONF
    : > "$dir/tcpdump.log"
    ip netns exec "$peer" tcpdump -i eth0 -U -w "$dir/pcap" "$filter" 2>"$dir/tcpdump.log" &
    until grep -q listening "$dir/tcpdump.log"; do sleep 0.1; done
    # -l -G: to a file, never to the console, which would slow it down.
    ip netns exec "$ours" keepalived -n -P -l -G -D -f "$dir/keepalived.conf" -p "$dir/pid" -r "$dir/vrrp.pid" \
        >"$dir/log" 2>&1 &
    sleep "$seconds"
    kill -TERM "$(cat "$dir/pid")"
    sleep 1
    local frames
    frames=$(tcpdump -r "$dir/pcap" -xx 2>/dev/null | awk '
        /^\t0x/ { for (i = 2; i <= NF; i++) printf "%s", $i; next }
        NR > 1 { print "" }
        END { print "" }')
    {
        echo
        [ -z "$global" ] || echo "# $global"
        echo "# $instance; VIPs $vips" | tr '\n' ' ' | sed 's/  */ /g; s/ $//'
        echo
        if [ "$which" = first ]; then echo "$name $(head -1 <<<"$frames")"; else echo "$name $(tail -1 <<<"$frames")"; fi
    } > "$dir/out"
}

pass() {
    echo "version 2 advert_int 1 authentication { auth_type PASS auth_pass $1 }" |
        sed 's/ authentication { /\nauthentication {\n/; s/version 2 /version 2\n/; s/PASS /PASS\n/; s/ }$/\n}/'
}

run() {
    names+=("$1")
    capture "$@" &
}

names=()
one=172.19.48.188
three=$'172.19.48.188\n172.19.48.189\n172.19.48.190'
run v2-pass first 6 "" "$(pass 111111)" "$one"
run v2-pass-stop last 6 "" "$(pass 111111)" "$one"
run v2-open first 6 "" $'version 2\nadvert_int 1' "$one"
run v2-pass-1 first 6 "" "$(pass x)" "$one"
run v2-pass-8 first 6 "" "$(pass 12345678)" "$one"
run v2-pass-9 first 6 "" "$(pass 123456789)" "$one"
run v3-1s first 6 "" $'version 3\nadvert_int 1' "$one"
run v3-1s-stop last 6 "" $'version 3\nadvert_int 1' "$one"
run v3-100ms first 3 "" $'version 3\nadvert_int 0.1' "$one"
run v3-three-vips first 6 "" $'version 3\nadvert_int 1' "$three"
run v3-old-checksum first 6 "" $'version 3\nadvert_int 1\nold_unicast_checksum' "$one"
run garp first 6 "" $'version 3\nadvert_int 1' "$one" "arp src host $one"
sleep 15

keepalived --version 2>&1 | sed -n '1s/^/# /p'
cat <<'HEAD'
#
# Whole Ethernet frames, captured by capture-keepalived.sh: 172.19.48.253 (02:77:00:00:00:fd) to 172.19.48.254
# (02:77:00:00:00:fe), router id 51, priority 100. Each frame: a name, then its bytes. `v3_checksum_as_v2` is not among
# the cases: 2.2.7 does not know it (2.2.8 does).
HEAD
for name in "${names[@]}"; do
    if [ -s "$folder/$name/out" ]; then cat "$folder/$name/out"; else
        echo "no frame of $name:" >&2
        cat "$folder/$name/log" >&2
    fi
done
