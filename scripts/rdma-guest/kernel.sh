# The guest's kernel and initramfs. Part of rdma-guest.sh.
# shellcheck shell=bash disable=SC2154

# Loaded in this order, after what they depend on. rdma_rxe asks the kernel for crc32 by name, which
# modprobe does not know of.
modules=(virtio_pci 9pnet_virtio 9p crc32_generic crc32-pclmul crc32c_generic ib_uverbs rdma_ucm
    rdma_rxe veth bridge sch_netem)
# Those without which there is nothing to try.
modules_needed=(9pnet_virtio 9p rdma_rxe ib_uverbs veth bridge)

# kernel_package: the package behind linux-image-amd64. The cloud flavour has neither rxe nor 9p.
kernel_package() {
    apt-cache depends linux-image-amd64 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9][^ ]*-amd64\)$/\1/p' || true
}

# kernel_cached: sets `kernel` to a directory with vmlinuz, the modules and their order. One that
# was got before serves where the package lists cannot be had.
kernel_cached() {
    local package version key cache=$target/rdma-guest
    command -v apt-cache >/dev/null || die "the guest's kernel is Debian's, and there is no apt"
    package=$(kernel_package)
    if [ -z "$package" ]; then
        say "the package lists know no linux-image-amd64"
        [ "$(id -u)" != 0 ] || apt-get update -qq >&2 || true
        package=$(kernel_package)
    fi
    if [ -z "$package" ]; then
        kernel=$(find "$cache" -maxdepth 1 -name 'kernel-*' -printf '%T@ %p\n' | sort -n | sed -n '$s/^[^ ]* //p')
        [ -n "$kernel" ] ||
            die "apt knows no linux-image-amd64" "run apt-get update; only Debian's kernels are tried"
        return
    fi
    version=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p')
    key=$(printf '%s\n' "${modules[@]}" | cksum | cut -d' ' -f1)
    kernel=$cache/kernel-${package#linux-image-}_${version}_$key
    [ -e "$kernel/vmlinuz" ] || fetch_kernel "$package" "$version"
}

# fetch_kernel PACKAGE VERSION: keeps of the package what the guest needs, in $kernel.
fetch_kernel() {
    local got=$work/kernel release file module root
    say "getting $1 $2"
    mkdir -p "$got/deb" "$got/root" "$got/kept/modules"
    (cd "$got/deb" && apt-get download -qq "$1=$2") >&2 ||
        { [ "$(id -u)" = 0 ] && apt-get update -qq && cd "$got/deb" && apt-get download -qq "$1=$2"; } >&2 ||
        die "cannot download $1" "the package lists may be old: apt-get update"
    dpkg -x "$got"/deb/*.deb "$got/root"
    root=$got/root
    [ -d "$root/lib/modules" ] || root=$got/root/usr
    release=$(basename "$root"/lib/modules/*)
    cp "$got/root/boot/vmlinuz-$release" "$got/kept/vmlinuz.part"
    depmod -b "$root" "$release"
    for module in "${modules[@]}"; do
        modprobe -d "$root" -S "$release" --show-depends "$module" 2>/dev/null || true
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$got/files"
    while read -r file; do
        module=$(basename "$file" .xz)
        case $file in
        *.xz) xz -dc "$file" >"$got/kept/modules/$module" ;;
        *) cp "$file" "$got/kept/modules/$module" ;;
        esac
        echo "$module" >>"$got/kept/modules/order"
    done <"$got/files"
    for module in "${modules_needed[@]}"; do
        grep -q "^$module.ko" "$got/kept/modules/order" || die "$1 has no module $module"
    done
    mv "$got/kept/vmlinuz.part" "$got/kept/vmlinuz"
    rm -rf "$kernel"
    mv "$got/kept" "$kernel"
    rm -rf "$got"
}

# initramfs DIR FILE: busybox, the modules and the first process; the rest is this machine's.
initramfs() {
    local busybox
    busybox=$(command -v busybox)
    if ldd "$busybox" >/dev/null 2>&1; then
        die "$busybox is not static" "install the package busybox-static"
    fi
    mkdir -p "$1"/{bin,proc,dev,host,paths}
    cp "$busybox" "$1/bin/busybox"
    cp -r "$kernel/modules" "$1/modules"
    printf '%s' "$repo" >"$1/paths/repo"
    printf '%s' "$target" >"$1/paths/target"
    cp "$guest/init" "$1/init"
    chmod 755 "$1/init"
    (cd "$1" && find . | cpio --create --format=newc --owner=0:0 --quiet) >"$2"
}
