#!/usr/bin/env bash
# One rail loses 1 % and delays by 2 ms, both ways: the transfer ends well.
set -euo pipefail
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

data ckpt "$work/a/data/lossy" --bytes "$bytes"
enrol
shape 0 loss 1% delay 2ms
transfer lossy a push "$work/a/data/lossy" b:lossy
tc -s qdisc show dev vb0 | grep -E 'netem|dropped'
same "$work/a/data/lossy" lossy
