#!/usr/bin/env bash
# Fuzzes the decoders with libFuzzer: scripts/fuzz.sh [TARGET|all] [SECONDS | INPUT...]
#
# Each target runs for SECONDS (60), one after the other; with files it only tries these inputs.
# What was found interesting lies below target/fuzz/corpus/TARGET and is where the next run begins;
# an input that breaks a promise, below target/fuzz/artifacts/TARGET. Any Rust compiler will do.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_build
need c++=g++
[ $# = 0 ] || { name=$1 && shift; }
name=${name:-all} seconds=60 inputs=()
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    seconds=$1
elif [ $# -gt 0 ]; then
    mapfile -t inputs < <(realpath -e -- "$@")
    [ ${#inputs[@]} = $# ] || die "there is no such input"
fi
[ "$name" != all ] || [ ${#inputs[@]} = 0 ] || die "inputs are those of one target"

cd "$repo/fuzz"
mapfile -t names < <(cd fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
if [ "$name" != all ]; then
    [ -f "fuzz_targets/$name.rs" ] || die "there is no target $name" "one of: ${names[*]}"
    names=("$name")
fi

host=$(rustc -vV | sed -n 's/^host: //p')
out=$target/fuzz
# What cargo-fuzz sets. The address sanitizer is not stable; RUSTC_BOOTSTRAP lets it through.
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Zsanitizer=address -Ccodegen-units=1)
bins=(--bin seeds)
for one in "${names[@]}"; do bins+=(--bin "$one"); done
say "building ${#names[@]} target(s)"
RUSTC_BOOTSTRAP=1 RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$out \
    cargo build --locked --release --target "$host" "${bins[@]}"
bin=$out/$host/release
export ASAN_OPTIONS=detect_leaks=0
"$bin/seeds" "$out/corpus"

failed=()
for one in "${names[@]}"; do
    artifacts=$out/artifacts/$one log=$out/$one.log
    mkdir -p "$artifacts"
    args=(-artifact_prefix="$artifacts/" -timeout=10 -rss_limit_mb=1024)
    if [ ${#inputs[@]} -gt 0 ]; then
        "$bin/$one" "${args[@]}" "${inputs[@]}"
        continue
    fi
    args+=(-max_total_time="$seconds" -print_final_stats=1)
    if "$bin/$one" "${args[@]}" "$out/corpus/$one" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        found=$(find "$out/corpus/$one" -type f | wc -l)
        printf '%-20s %12d executions  %6d inputs\n' "$one" "$runs" "$found"
    else
        failed+=("$one")
        tail -n 60 "$log" >&2
        say "$one: a promise is broken; the input is in $artifacts"
    fi
done
[ ${#failed[@]} = 0 ] || die "${#failed[@]} target(s) failed: ${failed[*]}"
