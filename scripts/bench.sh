#!/usr/bin/env bash
# Compares the micro-benchmarks of two commits: builds and runs both, and prints what changed.
#
#   scripts/bench.sh A B [BENCH...] [-- CRITERION-OPTIONS...]
#
# BENCH is chunk, encode or index (criterion's); all by default. Each commit has a checkout of its
# own below target/bench, and its results are a baseline of criterion under its abbreviated hash:
# target/bench/results. Exit status 1 if one got slower by more than the noise, and 5 %.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] || die "two commits are needed" "scripts/bench.sh A B [BENCH...] [-- OPTIONS...]"
commits=("$1" "$2")
shift 2
names=() options=()
while [ $# -gt 0 ]; do
    case $1 in
    --) shift && options=("$@") && break ;;
    chunk | encode | index) names+=("$1") ;;
    *) die "there is no benchmark $1" "chunk, encode or index" ;;
    esac
    shift
done
[ ${#names[@]} -gt 0 ] || names=(chunk encode index)
need git=git jq=jq
need_build
place=$target/bench
mkdir -p "$place/results"
hashes=()
for commit in "${commits[@]}"; do
    hash=$(git -C "$repo" rev-parse --verify --quiet --short=12 "$commit^{commit}") ||
        die "there is no commit $commit" "a hash, a branch or a tag"
    hashes+=("$hash")
done
for hash in "${hashes[@]}"; do
    tree=$place/$hash
    [ -d "$tree" ] || git -C "$repo" worktree add --quiet --detach "$tree" "$hash"
    for name in "${names[@]}"; do
        say "running $name of $hash"
        (cd "$tree" && CARGO_TARGET_DIR=$place/build CRITERION_HOME=$place/results cargo bench --locked \
            --quiet -p portway-benches --bench "$name" -- --save-baseline "$hash" "${options[@]}" >&2)
    done
    git -C "$repo" worktree remove --force "$tree"
done

# What criterion keeps of a baseline: the mean in nanoseconds and its confidence interval.
numbers() { jq -r '[.mean.point_estimate, .mean.confidence_interval.lower_bound, .mean.confidence_interval.upper_bound] | @tsv' "$1"; }
printf '%-44s %12s %12s %8s\n' benchmark "${hashes[0]}" "${hashes[1]}" change
slower=0
while read -r first; do
    bench_dir=${first%/"${hashes[0]}"/estimates.json}
    second=$bench_dir/${hashes[1]}/estimates.json
    [ -f "$second" ] || continue
    read -r a _ high <<<"$(numbers "$first")"
    read -r b low _ <<<"$(numbers "$second")"
    awk -v name="${bench_dir#"$place/results/"}" -v a="$a" -v b="$b" -v high="$high" -v low="$low" 'BEGIN {
        printf "%-44s %9.3f us %9.3f us %+7.1f %%\n", name, a / 1e3, b / 1e3, (b / a - 1) * 100
        exit low > high && b > 1.05 * a }' || slower=1
done < <(find "$place/results" -path "*/${hashes[0]}/estimates.json" | sort)
exit "$slower"
