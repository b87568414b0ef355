#!/usr/bin/env bash
# Everything that CI runs, cheapest first. Called by `make test`, which has installed the tools.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=${TRUEUP_LOCAL:-$PWD/.local}/tools
export PATH="$tools/bin:$PATH"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
if [ -n "${CI:-}" ]; then export CARGO_INCREMENTAL=0; fi

step() { printf '\n→ %s (%s s so far)\n' "$*" "$SECONDS"; }

step 'format'
cargo fmt --all --check

step 'contracts: format, lint, no breaking change against the committed baseline'
buf format -d --exit-code proto
buf lint proto
buf breaking proto --against proto/baseline.binpb

step 'alerts: rules, and their cases'
deploy/alerts/check.sh

if [ ! -x "$tools/bin/cargo-deny" ]; then
  step 'cargo-deny (built once, about 4 minutes)'
  cargo install cargo-deny --version 0.20.2 --locked --quiet --root "$tools"
fi
step 'bans, licences, sources'
cargo deny --log-level error check bans licenses sources

step 'clippy'
cargo clippy --workspace --all-targets --quiet -- -D warnings

failpoints=(-p coupon-gateway -p issue-consumer -p reconciler -p payment-reconciler
  --features coupon-gateway/failpoints,issue-consumer/failpoints,reconciler/failpoints,payment-reconciler/failpoints)
step 'clippy, with failpoints'
cargo clippy "${failpoints[@]}" --all-targets --quiet -- -D warnings

step 'documentation'
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet

step 'failpoints, in builds that have them'
cargo test "${failpoints[@]}" --test it --quiet -- failpoints
cargo test -p service-kit --features failpoints --lib --quiet -- failpoint

step 'fault drill: the short selection'
cargo build -p faults "${failpoints[@]}" --quiet
target/debug/trueup-faults --selection ci

# The binaries of tests are built again without failpoints, behind the line above.
step 'binaries that tests start'
cargo build --workspace --bins --quiet

step 'tests'
cargo test --workspace
