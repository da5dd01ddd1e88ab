#!/usr/bin/env bash
# Real verbs without an adapter: a Debian kernel with soft-RoCE under QEMU runs what is built here.
#
#   scripts/rdma-guest.sh [SCENARIO...]      scenarios, all by default; exit status 1 if one fails
#   scripts/rdma-guest.sh run COMMAND...     one command in the guest; its exit status
#   scripts/rdma-guest.sh shell              a shell in the guest
#
# The guest sees the file system of this machine, read-only. It has two rails, each with a device of
# node a and one of node b: rxe_a0 - rxe_b0 and rxe_a1 - rxe_b1. Needs no root once everything is
# installed, no KVM and no modules of this machine's kernel.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

guest=$repo/scripts/rdma-guest
mapfile -t scenarios < <(cd "$guest/scenario" && printf '%s\n' *.sh | sed -n 's/^[0-9]-\(.*\)\.sh$/\1/p')

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    cat <<END
Scenarios: ${scenarios[*]}

PROFILE=release     which build is tried             SKIP_BUILD=1        use what is built
TRANSPORT=rdma      rdma, auto, or quic for none     TIME_LIMIT=900      seconds for the guest
BYTES=              content of one transfer          CPUS=2 MEMORY=2048  processors, MiB
ACCEL=tcg           tcg, or kvm where it is usable   KEEP=1              keep the guest's logs
END
}

mode=scenarios
case ${1:-} in
-h | --help) usage && exit 0 ;;
run | shell) mode=$1 && shift ;;
esac
chosen=("$@")
[ "$mode" != run ] || [ $# -gt 0 ] || die "run what?" "scripts/rdma-guest.sh run COMMAND..."
if [ "$mode" = scenarios ]; then
    [ $# -gt 0 ] || chosen=("${scenarios[@]}")
    for one in "${chosen[@]}"; do
        [ -n "$(find "$guest/scenario" -name "[0-9]-$one.sh")" ] ||
            die "there is no scenario $one" "one of: ${scenarios[*]}"
    done
fi
case ${ACCEL:=tcg} in tcg | kvm) ;; *) die "there is no accelerator $ACCEL" "tcg or kvm" ;; esac
case ${TRANSPORT:=rdma} in rdma | auto | quic) ;; *) die "there is no transport $TRANSPORT" ;; esac
if [ "$mode" = shell ]; then limit=${TIME_LIMIT:-3600}; else limit=${TIME_LIMIT:-900}; fi

need qemu-system-x86_64=qemu-system-x86 busybox=busybox-static cpio=cpio modprobe=kmod \
    ip=iproute2 rdma=iproute2 ib_read_bw=perftest ibv_devinfo=ibverbs-utils xz=xz-utils
compgen -G '/usr/lib/*/libibverbs/librxe*.so' >/dev/null || need librxe.so=ibverbs-providers
[ "$(uname -m)" = x86_64 ] || die "the guest is of x86_64, this machine of $(uname -m)"
if [ "$mode" = scenarios ] && [ -z "${SKIP_BUILD:-}" ]; then
    build
    (cd "$repo" && cargo test --locked --profile "$profile" --workspace --lib --test verbs --no-run)
fi
[ "$mode" != scenarios ] || [ -x "$portway" ] || die "there is no $portway" "build it, without SKIP_BUILD"

mkdir -p "$target/rdma-guest"
work=$(mktemp -d "$target/rdma-guest/run.XXXXXX")
qemu_pid=''
# shellcheck disable=SC2317
cleanup() {
    local status=$?
    trap - EXIT
    if [ -n "$qemu_pid" ] && kill -TERM "$qemu_pid" 2>/dev/null; then
        wait "$qemu_pid" || true
    fi
    rm -f "$work/out/status" "$work/out/job"
    rm -rf "$work"/initramfs* "$work/kernel"
    if [ -n "${KEEP:-}" ] || { [ "$status" != 0 ] && [ -n "$(ls "$work/out" 2>/dev/null)" ]; }; then
        say "the guest's logs are in $work/out"
    else
        rm -rf "$work"
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# shellcheck source=rdma-guest/kernel.sh
source "$guest/kernel.sh"
kernel_cached
mkdir "$work/out" "$work/initramfs"
# What the guest has to know; its repository and build are at paths of its own.
{
    for name in mode profile TRANSPORT; do printf 'export %s=%q\n' "$name" "${!name}"; done
    for name in BYTES FILES RUNS QUEUE_PAIRS MESSAGE_BYTES STALL_S_MAX; do
        [ -z "${!name:-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
    done
    printf 'directory=%q\n' "$PWD"
    printf 'words=(%s)\n' "${chosen[*]@Q}"
} >"$work/out/job"
initramfs "$work/initramfs" "$work/initramfs.cpio"

# shellcheck disable=SC2054
machine=(-accel "$ACCEL" -cpu max -smp "${CPUS:-2}" -m "${MEMORY:-2048}"
    -nodefaults -no-user-config -display none -no-reboot
    -chardev stdio,id=console,signal=off -serial chardev:console
    -kernel "$kernel/vmlinuz" -initrd "$work/initramfs.cpio"
    -append "console=ttyS0 loglevel=2 panic=-1 mitigations=off nokaslr tsc=reliable random.trust_cpu=on audit=0"
    -fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
    -device virtio-9p-pci,fsdev=host,mount_tag=host
    -fsdev "local,id=out,path=$work/out,security_model=none"
    -device virtio-9p-pci,fsdev=out,mount_tag=out)
[ "$ACCEL" != tcg ] || machine[1]=tcg,thread=multi
bounded=(timeout --foreground --kill-after=5 "$limit" qemu-system-x86_64 "${machine[@]}")
status=0
if [ "$mode" = shell ]; then
    "${bounded[@]}" || status=$?
else
    "${bounded[@]}" </dev/null &
    qemu_pid=$!
    wait "$qemu_pid" || status=$?
    qemu_pid=''
fi
case $status in
124 | 137) die "the guest was not done in $limit s and was stopped" "TIME_LIMIT=SECONDS gives it more" ;;
esac
[ "$status" = 0 ] || die "QEMU ended with exit status $status"
[ -s "$work/out/status" ] || die "the guest ended without an exit status" "its last lines say why"
status=$(cat "$work/out/status")
exit "$status"
