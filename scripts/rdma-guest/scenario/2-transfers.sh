#!/usr/bin/env bash
# Push and pull of large files, many small ones, links and holes; a second push sends nothing.
set -euo pipefail
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

tree=$work/a/data/tree
mkdir -p "$tree"
data ckpt "$tree/ckpt" --bytes "$bytes"
data small "$tree/small" --files "${FILES:-500}"
data tree "$tree/odd"
rm "$tree/odd/fifo"
enrol

before=(0 0)
for rail in "${rails[@]}"; do before[rail]=$(rail_bytes "$rail"); done
transfer push a push "$tree" b:tree
same "$tree" tree
for rail in "${rails[@]}"; do
    crossed=$(($(rail_bytes "$rail") - before[rail]))
    step "rail $rail carried $(mb $crossed) MB"
    [ "$TRANSPORT" != rdma ] || [ $crossed -gt 1000000 ] || die "rail $rail was not used"
done

transfer again a push "$tree" b:tree
[ "$(sum again bytes_sent)" = 0 ] || die "the second push sent content"

data ckpt "$work/b/data/other" --bytes "$bytes" --seed 2
transfer pull a pull b:other "$work/a/data/other"
"$bench" compare --meta "$work/b/data/other" "$work/a/data/other"
diff -r "$work/b/data/other" "$work/a/data/other"
step "what was pulled is equal to its source"
