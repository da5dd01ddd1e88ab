# Measures a transfer and ib_read_bw beside it. The caller sets `work`, where logs go.
# shellcheck shell=bash disable=SC2154

# summary NAME FIELD: what the closing summary of the transfer in NAME.jsonl says.
summary() { "$bench" field "$2" --event summary <"$work/$1.jsonl"; }

# moving_rate NAME: MB/s from the first content to the end, verified and published.
moving_rate() {
    awk -v sent="$(summary "$1" bytes_sent)" -v end="$(summary "$1" elapsed_s)" '
        function number(name) {
            if (!match($0, "\"" name "\":[0-9.]+")) return -1
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0
        }
        /"event":"progress"/ && number("bytes_sent") == 0 { began = number("elapsed_s") }
        END { printf "%.1f\n", sent / (end - began) / 1e6 }' "$work/$1.jsonl"
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
ratio() { awk -v one="$1" -v other="$2" 'BEGIN { printf "%.3f\n", one / other }'; }

# read_bw_flags BYTES QUEUE_PAIRS GID_INDEX PORT [TOTAL]: sets `read_bw_flags` for both ends; TOTAL
# bytes are read.
read_bw_flags() {
    local count=$((${5:-$((32 << 20))} / $1 / $2))
    read_bw_flags=(-F -s "$1" -q "$2" -n "$((count < 8 ? 8 : count))" -p "$4")
    [ -z "$3" ] || read_bw_flags+=(-x "$3")
    # The default bound on an answer, 67 ms, is too short where processors are busy.
    read_bw_flags+=(-u 18)
}

# read_bw_client DEVICE HOST: MB/s that ib_read_bw reads from there; its words are in read_bw.log.
read_bw_client() {
    timeout "${READ_BW_TIME_LIMIT:-60}" ib_read_bw -d "$1" "${read_bw_flags[@]}" "$2" \
        >"$work/read_bw.log" 2>&1 || die "ib_read_bw failed" "$(tail -n 1 "$work/read_bw.log")"
    # Bytes, iterations, peak and average in MiB/s, messages.
    awk -v bytes="${read_bw_flags[2]}" '
        $1 == bytes { printf "%.1f\n", $4 * 1.048576; found = 1 } END { exit !found }' \
        "$work/read_bw.log" || die "ib_read_bw printed no figure"
}

# tcp_listens PORT: whether something of this machine does.
tcp_listens() { grep -qi "$(printf ':%04X .* 0A ' "$1")" /proc/net/tcp /proc/net/tcp6; }
