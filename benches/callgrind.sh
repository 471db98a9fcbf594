#!/usr/bin/env bash
# User-space instructions for each echo of 64 bytes: benches/callgrind.sh [SECONDS] [BENCH_OPTION]...
#
# Needs valgrind(1). The count does not depend on how busy the machine is. docs/measurements.md has the figures so far.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-5}
shift $(($# < 1 ? $# : 1))

if ! command -v valgrind >/dev/null; then
    echo "error: valgrind is not on the PATH (package valgrind)" >&2
    exit 1
fi

# In a release build made with lld, callgrind finds no names for functions.
export CARGO_TARGET_DIR=target/callgrind
RUSTFLAGS="${RUSTFLAGS-} -C linker-features=-lld" cargo build --release
reactor=target/callgrind/release/reactor
dir=$(mktemp -d)
server=''
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT

: >"$dir/started"
valgrind --tool=callgrind --callgrind-out-file=target/callgrind/out \
    "$reactor" serve echo=0 --ledger json >"$dir/started" 2>"$dir/log" &
server=$!
until grep -q '^ready$' "$dir/started"; do
    kill -0 "$server" || { cat "$dir/log" >&2; exit 1; }
    sleep 0.2
done
address=$(awk '$1 == "listening" { print $4; exit }' "$dir/started")
"$reactor" bench echo "$address" --duration "${seconds}s" "$@"
kill -INT "$server"
wait "$server" || true
server=''

instructions=$(sed -n 's/.*Collected : //p' "$dir/log")
bytes=$(sed -n 's/.*"bytes_in":\([0-9]*\).*/\1/p' "$dir/log")
echo "$instructions instructions, $((bytes / 64)) messages of 64 bytes: $((instructions * 64 / bytes)) each, start and stop included"
echo "by function: callgrind_annotate target/callgrind/out"
