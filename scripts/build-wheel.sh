#!/usr/bin/env bash
# Builds the Python wheel (CPython 3.10 and newer) and prints where it lies.
#
# Tools come from PyPI into a virtual environment below the target directory.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_build
need_python maturin
cd "$repo"
wheels=$target/wheels/$profile
rm -rf "$wheels"
say "building the wheel (profile $profile)"
"$venv/bin/maturin" build --locked --profile "$profile" --manifest-path python/Cargo.toml \
    --target-dir "$target" --out "$wheels" --interpreter "$venv/bin/python" >&2
ls "$wheels"/*.whl
