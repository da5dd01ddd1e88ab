#!/usr/bin/env bash
# Tests of portway.torch against real nodes with several ranks. PyTorch comes from PyPI, several GB
# with what it brings, so no other script runs this.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
need_python pytest numpy torch
wheel=$("$repo/scripts/build-wheel.sh")
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
cd "$repo"
export PORTWAY_BIN=$portway
"$venv/bin/pytest" -c python/pyproject.toml -rP python/tests/torch_dcp.py "$@"
