#!/usr/bin/env bash
# A flame graph of one server under one load: benches/flamegraph.sh [SVG] [SECONDS] [SERVICE [BENCH_OPTION]...]
#
#   benches/flamegraph.sh                                                 echo, 50 connections
#   benches/flamegraph.sh target/http.svg 3 http --connections 1000 --pipeline 16
#
# Needs perf(1), and inferno for the drawing: cargo install inferno. docs/profiling.md explains the options and the picture.
set -euo pipefail
cd "$(dirname "$0")/.."

svg=${1:-target/flamegraph.svg}
seconds=${2:-3}
service=${3:-echo}
shift $(($# < 3 ? $# : 3))

for tool in perf inferno-collapse-perf inferno-flamegraph; do
    if ! command -v "$tool" >/dev/null; then
        echo "error: $tool is not on the PATH (perf: package linux-perf; inferno: cargo install inferno)" >&2
        exit 1
    fi
done

cargo build --release
dir=$(mktemp -d)
server='' load=''
# Only the processes of this script, by their ids.
trap '[ -z "$load" ] || kill "$load" 2>/dev/null || true; [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT

: >"$dir/started"
target/release/reactor serve "$service=0" --ledger none >"$dir/started" 2>/dev/null &
server=$!
until grep -q '^ready$' "$dir/started"; do
    kill -0 "$server" || { echo "error: the server did not start" >&2; exit 1; }
    sleep 0.05
done
address=$(awk '$1 == "listening" { print $4; exit }' "$dir/started")

target/release/reactor bench "$service" "$address" --duration "$((seconds + 2))s" "$@" &
load=$!
sleep 1
# cpu-clock is a timer of the kernel: it also works in virtual machines, which often have no hardware counters.
# DWARF call graphs: the C library keeps no frame pointers, so the stacks of system calls would break without them.
perf record --quiet -e cpu-clock -F 499 --call-graph dwarf,16384 -o "$dir/data" -p "$server" -- sleep "$seconds"
wait "$load" && load=''
# --no-inline: with inlined frames, one error check of rustix becomes a tower of five frames above every system call.
perf script --no-inline -i "$dir/data" 2>/dev/null | inferno-collapse-perf --kernel |
    # From the loop upwards, and without the paths of modules.
    sed -E 's/reactor::reactor::[a-z_]+::<impl reactor::reactor::Reactor>::/Reactor::/g
            s/reactor::reactor::Reactor::/Reactor::/g
            s/^reactor;.*;Reactor::run;/reactor;Reactor::run;/' >"$dir/stacks"
inferno-flamegraph --factor 0.000001 --countname ms --title "reactor serve $service, $seconds s under load" --subtitle "$(perf --version), cpu-clock at 499 Hz" \
    --colors java --minwidth 0.2 "$dir/stacks" >"$svg"
awk -v svg="$svg" '{ n += $NF } END { printf "%s: %.2f s of processor time\n", svg, n / 1e9 }' "$dir/stacks"
