#!/usr/bin/env bash
# Before each commit: format, lints, and the fast tests of the crates that changed.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_build
cd "$repo"
changed=$({ git diff --name-only HEAD; git ls-files --others --exclude-standard; } | sort -u)
packages=() targets=(--bins)
if grep -qE '^(Cargo|engine/|benches/|\.cargo|clippy)' <<<"$changed"; then
    packages=(--workspace) targets=(--lib --bins)
else
    ! grep -q '^cli/' <<<"$changed" || packages+=(-p portway-cli)
    ! grep -q '^bench/' <<<"$changed" || packages+=(-p portway-bench)
    ! grep -q '^python/src/' <<<"$changed" || packages+=(-p portway-python)
fi

cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
if [ ${#packages[@]} = 0 ]; then
    say "no crate changed"
    exit 0
fi
cargo clippy --locked "${packages[@]}" --all-targets -- -D warnings
cargo test --locked "${packages[@]}" "${targets[@]}"
