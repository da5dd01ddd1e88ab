#!/usr/bin/env bash
# The quickstart as it is, with both nodes in one private site.
set -euo pipefail
# shellcheck source=nodes.sh
source "$(dirname "${BASH_SOURCE[0]}")/../nodes.sh"

export BYTES=$bytes FILES=${FILES:-200}
[ "$TRANSPORT" != quic ] || unset TRANSPORT
ONPREM_DEVICES=rxe_a0,rxe_a1 CLOUD_DEVICES=rxe_b0,rxe_b1 "$repo/scripts/quickstart.sh"
