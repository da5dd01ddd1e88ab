#!/usr/bin/env bash
# What the guest does: brings the rails up, then the scenarios, one command, or a shell.
set -euo pipefail
export HOME=/tmp TMPDIR=/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# shellcheck source=/dev/null
source /mnt/out/job
: "${mode:?}" "${directory:?}"
# shellcheck disable=SC2154
words=("${words[@]}")
export PROFILE=$profile CARGO_TARGET_DIR=/mnt/target SKIP_BUILD=1
# shellcheck source=lib.sh
source /mnt/repo/scripts/lib.sh
here=$repo/scripts/rdma-guest
# shellcheck source=network.sh
source "$here/network.sh"
export NO_COLOR=1

uptime_s() { cut -d' ' -f1 /proc/uptime; }
ulimit -l unlimited -n 4096
setting core/rmem_max 4194304
setting core/wmem_max 4194304
make_rails
say "guest: $(uname -r), two rails, $(uptime_s) s since its start"
PATH=$bin:$PATH
cd "$directory" 2>/dev/null || cd "$repo"
case $mode in
shell)
    say "guest: rails: $here/network.sh, portway: $bin; exit ends the guest"
    exec bash --rcfile <(printf 'source %q; source %q; PS1="guest:\\w# "' \
        "$repo/scripts/lib.sh" "$here/network.sh") -i
    ;;
run)
    status=0
    "${words[@]}" || status=$?
    say "guest: exit status $status, $(uptime_s) s since its start"
    exit "$status"
    ;;
esac

failed=()
for one in "${words[@]}"; do
    begun=$(uptime_s)
    say "" "== $one"
    # A scenario is a process of its own: it may end at any line, and cleans up after itself.
    if bash "$here"/scenario/[0-9]-"$one".sh; then
        verdict=ok
    else
        verdict=FAILED
        failed+=("$one")
    fi
    mend_rails
    printf '== %s: %s, %.0f s\n' "$one" "$verdict" "$(awk "BEGIN { print $(uptime_s) - $begun }")"
done
say "guest: ${#words[@]} scenario(s), ${#failed[@]} failed, $(uptime_s) s since its start"
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
