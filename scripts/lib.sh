# Shared by the scripts beside it: where things are, what must be installed, how to build.
# shellcheck shell=bash

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-$repo/target}
case $profile in
dev) bin=$target/debug ;;
*) bin=$target/$profile ;;
esac
# Used by the scripts that read this file.
# shellcheck disable=SC2034
portway=$bin/portway bench=$bin/portway-bench

say() { printf '%s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

# need COMMAND=PACKAGE... : installs the packages of the commands that are missing.
need() {
    local pair packages=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null ||
        die "missing: ${packages[*]}" "install them with the package manager of this system"
    local sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "missing: ${packages[*]}" "install them as root"
        sudo=(sudo)
    fi
    say "installing ${packages[*]}"
    "${sudo[@]}" apt-get update -qq >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

# find_libclang: sets LIBCLANG_PATH to a libclang that bindgen 0.59 knows: version 15 or older.
find_libclang() {
    local version
    for version in 14 15 13 11; do
        # Not libclang-cpp.so, which other packages bring and bindgen cannot use.
        if compgen -G "/usr/lib/llvm-$version/lib/libclang.so*" >/dev/null; then
            export LIBCLANG_PATH=/usr/lib/llvm-$version/lib
            return
        fi
    done
    return 1
}

# need_rdma: what the feature `rdma` needs to be built: headers, and libclang to read them.
need_rdma() {
    local header version wanted=14 missing=()
    for header in infiniband/verbs.h=libibverbs-dev rdma/rdma_cma.h=librdmacm-dev; do
        [ -e "/usr/include/${header%%=*}" ] || missing+=("no-${header#*=}=${header#*=}")
    done
    need pkg-config=pkg-config "${missing[@]}"
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    find_libclang && return
    for version in 15 14; do
        ! apt-cache show "libclang-$version-dev" >/dev/null 2>&1 || wanted=$version
    done
    need "no-libclang=libclang-$wanted-dev"
    find_libclang ||
        die "no libclang of version 15 or older" "install one, LIBCLANG_PATH=its directory"
}

# What a build needs: a linker and C compiler (for ring), what RDMA takes, and Rust.
need_build() {
    need cc=build-essential
    need_rdma
    if ! command -v cargo >/dev/null && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        die "cargo is not installed" "install Rust as https://rustup.rs says, then try again"
}

# Builds the commands, all of the workspace at once so that dependencies are built only once.
build() {
    need_build
    say "building (profile $profile)"
    (cd "$repo" && cargo build --locked --profile "$profile" --workspace --bins)
}

# test_binary NAME TEST CARGO_FLAGS...: sets `test` to the newest test binary NAME of the build that
# has a test of this name; the flags are those that cargo builds it with.
test_binary() {
    local candidate tests name=$1 wanted=$2
    shift 2
    while read -r _ candidate; do
        test=$candidate
        # All of it first: a list longer than a pipe holds fails where its reader has seen enough.
        tests=$("$test" --list 2>/dev/null </dev/null) || continue
        [[ $tests != *"$wanted"* ]] || return 0
    done < <(find "$bin/deps" -name "$name-*" ! -name '*.*' -type f -perm -100 -printf '%T@ %p\n' | sort -rn)
    die "the tests $name are not built" "cargo test --profile $profile --workspace $* --no-run"
}

# Runs a command in a network namespace of its own, where its bytes alone are on loopback.
# Without the right to make one it runs the command as it is and says so.
own_network() {
    local flags
    for flags in --net "--user --map-root-user --net"; do
        # shellcheck disable=SC2086
        if command -v ip >/dev/null && unshare $flags ip link set lo up 2>/dev/null; then
            # shellcheck disable=SC2016,SC2086
            unshare $flags sh -c 'ip link set lo up && exec "$@"' sh "$@"
            return
        fi
    done
    say "no network namespace of our own: bytes on the wire will include those of others"
    "$@"
}

# need_python PACKAGE... : sets `venv` to a virtual environment that has these packages of PyPI.
need_python() {
    need python3=python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need no-venv=python3-venv
    # Used by the scripts that read this file.
    # shellcheck disable=SC2034
    venv=$target/python-venv
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" >&2
}
