#!/usr/bin/env bash
# Runs a measurement many times, and counts how often the median of one lies within the spread that
# another printed.
#
#   scripts/bench-repeat.sh TIMES COMMAND...     as scripts/bench-repeat.sh 10 local --stages digest,cut
#
# A line for each row of the result: the lowest and the highest of the medians, and in how many of all
# pairs of two runs the one's median was from `low` to `high` of the other. Exit status 1 below 90 %.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 2 ] && [ "$1" -ge 2 ] 2>/dev/null ||
    die "how often, and what?" "scripts/bench-repeat.sh TIMES COMMAND..."
times=$1
shift
need jq=jq
[ -n "${SKIP_BUILD:-}" ] || build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for ((i = 0; i < times; i++)); do
    say "run $((i + 1)) of $times"
    "$bench" "$@" -o "$work/$i.json" >"$work/log" 2>&1 || die "$* failed" "$(tail -n 1 "$work/log")"
done
# Only what has runs of its own: a single value has no spread.
jq -rs '
    [.[].results] as $all | range($all[0] | length) as $row
    | [$all[] | .[$row]] as $of | select($of[0].runs | length > 1)
    | [range($of | length) as $i | range($of | length) as $j | select($i != $j)
       | if $of[$j].median >= $of[$i].low and $of[$j].median <= $of[$i].high then 1 else 0 end] as $in
    | ($of | map(.median) | sort) as $medians
    | [($of[0].stage + ", " + $of[0].case), $medians[0], $medians[-1], ($in | add), ($in | length)]
    | @tsv' "$work"/*.json | awk -F '\t' '
    {
        printf "%-52s %12.4g %12.4g %5.1f %%\n", $1, $2, $3, 100 * $4 / $5
        within += $4; pairs += $5
    }
    END {
        printf "%.1f %% of %d pairs: a median within the spread of another run\n", 100 * within / pairs, pairs
        exit !(within >= 0.9 * pairs)
    }'
