# The commands of this repository. `just` lists them; each is one line that also works without just (https://just.systems).

# list the commands
default:
    @just --list --unsorted

# what must hold for every change
ci:
    .ci/run

# format the code, and let clippy mend what can be mended
fix:
    cargo clippy --fix --allow-dirty --all-targets
    cargo fmt

# system calls that fail, injected by strace(1): half a minute
faults *ARGS:
    cargo test --release --test faults -- --ignored {{ARGS}}

# every service and every kind of peer at once, for SECONDS
soak SECONDS="60":
    SOAK_SECONDS={{SECONDS}} cargo test --release --test soak -- --ignored --nocapture

# requests, lines or timers for SECONDS; needs cargo-fuzz and a nightly toolchain
fuzz TARGET="requests" SECONDS="300":
    cargo +nightly fuzz run {{TARGET}} -- -max_total_time={{SECONDS}}

# the same echo written five ways: four minutes; target/compare.html
compare *ARGS:
    cargo bench --bench compare -- {{ARGS}}

# the timer wheel beside a map, a heap and a delay queue
timers:
    cargo bench --bench timer

# how late deadlines fire, idle and under load
lateness:
    cargo bench --bench lateness

# instructions per echo, under valgrind(1)
callgrind SECONDS="5":
    benches/callgrind.sh {{SECONDS}}

# a flame graph of `serve echo` under load; needs perf(1) and inferno
flamegraph SVG="target/flamegraph.svg" SECONDS="3":
    benches/flamegraph.sh {{SVG}} {{SECONDS}}

# licences, sources and advisories of the dependencies; needs cargo-deny
deny:
    cargo deny check
