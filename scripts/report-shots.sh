#!/usr/bin/env bash
# Pictures of a report for people to look at: light, dark, phone, and print, by headless Chromium.
#
#   scripts/report-shots.sh REPORT.html [OUTDIR]
#
# CHROMIUM=COMMAND names the browser; without one it prints SKIPPED.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 1 ] || die "no report" "scripts/report-shots.sh REPORT.html [OUTDIR]"
page=$(realpath "$1")
out=${2:-$(dirname "$page")/shots}
chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [ -z "$chromium" ]; then
    say "SKIPPED: no Chromium; install the package chromium, or set CHROMIUM"
    exit 0
fi
mkdir -p "$out"
profile_dir=$(mktemp -d)
trap 'rm -rf "$profile_dir"' EXIT

# shot NAME WIDTH HEIGHT OPTION... : the page from its top.
shot() {
    local name=$1 width=$2 height=$3
    shift 3
    "$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
        --user-data-dir="$profile_dir/$name" --window-size="$width,$height" "$@" \
        --screenshot="$out/$name.png" "file://$page" >"$out/$name.log" 2>&1 ||
        die "no picture: $(tail -n 3 "$out/$name.log")"
    say "$out/$name.png"
}
shot light 1280 2600 --blink-settings=preferredColorScheme=1
shot dark 1280 2600 --blink-settings=preferredColorScheme=0
# A window of Chromium is at least 500 wide; a frame of a phone's width is not.
printf '<body style="margin:0"><iframe src="file://%s" style="border:0;width:390px;height:3600px"></iframe>' \
    "$page" >"$profile_dir/phone.html"
page=$profile_dir/phone.html shot phone 500 3600 --allow-file-access-from-files
"$chromium" --headless=new --no-sandbox --disable-gpu --user-data-dir="$profile_dir/print" \
    --no-pdf-header-footer --print-to-pdf="$out/print.pdf" "file://$page" >"$out/print.log" 2>&1 ||
    die "no print: $(tail -n 3 "$out/print.log")"
say "$out/print.pdf"
if command -v pdftoppm >/dev/null; then
    pdftoppm -r 70 -png "$out/print.pdf" "$out/print"
else
    say "SKIPPED: pages of the print as pictures; install poppler-utils"
fi
