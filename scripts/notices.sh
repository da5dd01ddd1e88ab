#!/usr/bin/env bash
# Writes THIRD-PARTY-NOTICES: every crate that is linked in, its licence, and the licence texts.
# To be run after a change of dependencies; `--check` only says whether the list is up to date.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_build
cd "$repo"
export LC_ALL=C
list=$(cargo tree --locked --workspace --edges normal --prefix none --format '{p}|{l}' |
    sed -e 's/ (\*)$//' -e 's/ (proc-macro)//' | grep -v -e '(/' -e '^$' | sort -u |
    awk -F'|' '{ split($1, p, " v"); printf "%-32s %-14s %s\n", p[1], p[2], $2 == "" ? known[p[1]] : $2 }
        BEGIN { known["rdma-sys"] = "MIT" }')

if [ "${1:-}" = --check ]; then
    while IFS= read -r line; do
        grep -qxF -- "$line" THIRD-PARTY-NOTICES ||
            die "THIRD-PARTY-NOTICES lacks: $line" "run scripts/notices.sh"
    done <<<"$list"
    exit 0
fi

texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT
while read -r name version _; do
    for file in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-$version"/{LICEN[CS]E,COPYING,NOTICE,COPYRIGHT}*; do
        [ -f "$file" ] || continue
        # Texts that differ in line ends and trailing blanks only are one.
        sed -e 's/\r$//' -e 's/[ \t]*$//' "$file" >"$texts/one"
        sum=$(sha256sum <"$texts/one" | cut -c1-16)
        [ -e "$texts/$sum.text" ] || cp "$texts/one" "$texts/$sum.text"
        echo "$name" >>"$texts/$sum.names"
    done
done <<<"$list"
{
    printf 'Portway is built with the crates below, under the licences named.\n'
    printf 'Their licence texts follow, each once, with the crates that carry it.\n\n%s\n' "$list"
    for names in "$texts"/*.names; do
        printf '\n%s\n' "$(printf '=%.0s' {1..80})"
        sort -u "$names" | paste -sd, - | sed 's/,/, /g' | fold -s -w 80
        printf '%s\n\n' "$(printf -- '-%.0s' {1..80})"
        cat "${names%.names}.text"
    done
    # What is built in without being a crate.
    printf '\n%s\n' "$(printf '=%.0s' {1..80})"
    cat scripts/notices-rdma-core.txt
} >THIRD-PARTY-NOTICES
say "wrote THIRD-PARTY-NOTICES: $(wc -l <<<"$list") crates"
