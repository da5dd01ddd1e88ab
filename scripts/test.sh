#!/usr/bin/env bash
# All tests: format, lints, unit and integration tests, simulation, kill loop, quickstart, the Python
# package, and real verbs in a guest.
#
# Everything is built in one profile, `ci`: as fast as release but for link-time optimisation, with
# debug assertions and overflow checks. KILLS and SEEDS change how much is tried.
set -euo pipefail
export PROFILE=${PROFILE:-ci}
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_build
need ip=iproute2 mkfs.xfs=xfsprogs
cd "$repo"
SECONDS=0
step() { printf '\n== %s (%d s since the start)\n' "$1" "$SECONDS"; }

step "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check

step "lints"
cargo clippy --locked --profile "$profile" --workspace --all-targets -- -D warnings
if command -v cargo-deny >/dev/null; then
    cargo deny --offline check bans licenses sources
else
    echo "SKIPPED: licences (cargo-deny is not installed)"
fi

step "a build without RDMA"
cargo check --locked --profile "$profile" -p portway-cli --no-default-features

step "build"
cargo build --locked --profile "$profile" --workspace --bins

step "examples in the documentation, and what must not compile"
cargo test --locked --profile "$profile" -p portway --doc

step "simulation, ${SEEDS:-2000} seeds"
scripts/sim.sh "${SEEDS:-2000}"

step "kill loop, ${KILLS:-25} kills"
SKIP_BUILD=1 scripts/kill-loop.sh "${KILLS:-25}"

step "quickstart, small"
SKIP_BUILD=1 BYTES=${QUICKSTART_BYTES:-256MiB} scripts/quickstart.sh

step "the border: decisions, records, prices"
SKIP_BUILD=1 scripts/demo-border.sh

step "the Python package"
SKIP_BUILD=1 scripts/test-python.sh

step "real verbs in a guest"
cargo test --locked --profile "$profile" --workspace --lib --test verbs --no-run
# Its processors are emulated and shared: only what a loaded machine cannot change is judged hard.
SKIP_BUILD=1 RUNS=${RATIO_RUNS:-1} STALL_S_MAX=${STALL_S_MAX:-20} scripts/rdma-guest.sh

# Last, so that the runner's closing lines end the output.
step "tests"
if command -v cargo-nextest >/dev/null; then
    cargo nextest run --locked --cargo-profile "$profile" --workspace --no-fail-fast
else
    cargo test --locked --profile "$profile" --workspace --lib --bins --tests --no-fail-fast
fi
echo "all done in $SECONDS s"
