#!/usr/bin/env bash
# Pictures of a report for people to look at: light, dark, phone, and print, by headless Chromium; and
# a check of what can be checked without eyes: nothing is cut off at either width, and no words of a
# picture lie on others or outside of it.
#
#   scripts/report-shots.sh REPORT.html [OUTDIR]
#
# CHROMIUM=COMMAND names the browser. Without one, and without a package to install, it fails. Exit
# status 1 if the check finds something.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -ge 1 ] || die "no report" "scripts/report-shots.sh REPORT.html [OUTDIR]"
page=$(realpath "$1")
out=${2:-$(dirname "$page")/shots}
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
chromium=${CHROMIUM:-$(find_chromium || true)}
if [ -z "$chromium" ]; then
    say "NO CHROMIUM: the page is not looked at without one"
    need chromium=chromium
    chromium=$(find_chromium) || die "no Chromium" "install the package chromium, or set CHROMIUM"
fi
need pdftoppm=poppler-utils
mkdir -p "$out"
profile_dir=$(mktemp -d)
trap 'rm -rf "$profile_dir"' EXIT

# browse NAME OPTION... : one run of the browser; its words are in NAME.log.
browse() {
    local name=$1
    shift
    timeout 120 "$chromium" --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --force-device-scale-factor=1 --allow-file-access-from-files \
        --user-data-dir="$profile_dir/$name" "$@" 2>"$out/$name.log" ||
        die "the browser failed" "$(tail -n 1 "$out/$name.log")"
}

# frame NAME WIDTH: a page with the report in a frame of this width, which a window of Chromium cannot
# always have, and as high as the report is; what the check finds stands below it.
frame() {
    cat >"$profile_dir/$1.html" <<END
<body style="margin:0"><iframe src="file://$page" style="border:0;width:${2}px;height:900px"></iframe>
<pre id="found" hidden></pre>
<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument, found = [], root = page.documentElement;
  if (root.scrollWidth > $2) found.push("the page is " + root.scrollWidth + " wide, of $2");
  for (const picture of page.querySelectorAll("svg[role=img]")) {
    const title = picture.getAttribute("aria-label"), all = picture.getBoundingClientRect();
    const words = [...picture.querySelectorAll("text")].map(
      text => ({ text: text.textContent, box: text.getBoundingClientRect() }));
    for (const { text, box } of words)
      if (box.left < all.left - 1 || box.right > all.right + 1 || box.top < all.top - 1 || box.bottom > all.bottom + 1)
        found.push(title + ": \`" + text + "\` is outside of the picture");
    for (let i = 0; i < words.length; i++)
      for (let j = i + 1; j < words.length; j++) {
        const a = words[i].box, b = words[j].box;
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 4)
          found.push(title + ": \`" + words[i].text + "\` lies on \`" + words[j].text + "\`");
      }
  }
  frame.style.height = root.scrollHeight + "px";
  document.getElementById("found").textContent =
    "height " + root.scrollHeight + "\\npictures " + page.querySelectorAll("svg[role=img]").length +
    "\\n" + found.map(words => "found " + words + "\\n").join("");
});
</script>
END
}

bad=0
# look NAME WIDTH OPTION... : checks the report at this width and takes its picture, all of its height.
look() {
    local name=$1 width=$2 found height
    shift 2
    frame "$name" "$width"
    found=$(browse "$name-check" --window-size=1400,1000 --virtual-time-budget=4000 "$@" --dump-dom \
        "file://$profile_dir/$name.html")
    found=$(sed -n '/<pre id="found"/,/<\/pre>/p' <<<"$found" | sed 's/<[^>]*>//g')
    height=$(awk '$1 == "height" { print $2 }' <<<"$found")
    [ -n "$height" ] || die "the check of $name did not run" "$out/$name-check.log"
    say "$name: $width wide, $height high, $(awk '$1 == "pictures" { print $2 }' <<<"$found") pictures"
    ! grep '^found' <<<"$found" >&2 || bad=1
    browse "$name" --window-size="$((width < 500 ? 500 : width)),$height" --virtual-time-budget=4000 "$@" \
        --screenshot="$out/$name.png" "file://$profile_dir/$name.html" >/dev/null
    say "$out/$name.png"
}
look light 1280 --blink-settings=preferredColorScheme=1
look dark 1280 --blink-settings=preferredColorScheme=0
look phone 390 --blink-settings=preferredColorScheme=1
browse print --no-pdf-header-footer --print-to-pdf="$out/print.pdf" "file://$page" >/dev/null
pdftoppm -r 70 -png "$out/print.pdf" "$out/print"
say "$out/print.pdf and its pages"
[ "$bad" = 0 ] || die "the page has defects, see above"
