#!/usr/bin/env bash
# Tests of the Python package against real nodes: the wheel is built, installed and used.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ -n "${SKIP_BUILD:-}" ] || build
need_python pytest tqdm numpy fsspec ml_dtypes
wheel=$("$repo/scripts/build-wheel.sh")
"$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
cd "$repo"
export PORTWAY_BIN=$portway
# Not `python -m`: that would import the package from here, without its native part.
"$venv/bin/pytest" -c python/pyproject.toml python/tests "$@"
