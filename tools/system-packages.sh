# shellcheck shell=sh
# shellcheck disable=SC2154 # root and me come from the script that sources this
# Sourced by ./test after setup.sh: the Debian packages that the suites use. As root they are installed, otherwise named;
# a suite whose tools are missing skips with that reason.

# A command, or a file by its path, and the package that has it.
wanted='
  as:binutils
  e2fsck:e2fsprogs
  gcc:gcc
  gdb:gdb
  /usr/include/stdio.h:libc6-dev
  /usr/include/linux/kvm.h:linux-libc-dev
  nbdinfo:libnbd-bin
  qemu-img:qemu-utils
  qemu-system-x86_64:qemu-system-x86
  busybox:busybox-static
  cpio:cpio
  lvm:lvm2
  openssl:openssl
  thin_check:thin-provisioning-tools
  iasl:acpica-tools
  lz4:lz4
  xz:xz-utils
  mmdebstrap:mmdebstrap
  newuidmap:uidmap
  fakeroot:fakeroot
  chromium:chromium
  ip:iproute2
  ping:iputils-ping
  dhclient:isc-dhcp-client
  dig:bind9-dnsutils
  curl:curl
  iperf3:iperf3
  nft:nftables
  dnsmasq:dnsmasq-base
  dpdk-testpmd:dpdk-dev
  tshark:tshark
'
missing_packages() {
  for pair in $wanted; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || [ -f "${pair%%:*}" ] || printf ' %s' "${pair##*:}"
  done
}

install_system_packages() {
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    say "not installed, so some suites will skip:$missing"
    return
  fi
  # apt would refuse the second of two at once.
  exec 9<"$root"
  flock 9
  missing=$(missing_packages)
  [ -z "$missing" ] || {
    say "installing Debian packages (once):$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of words is meant
    if apt-get update >"$log" 2>&1 &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >>"$log" 2>&1; then
      rm -f "$log"
    else
      cat "$log" >&2
      rm -f "$log"
      die 'apt-get failed; its message is above'
    fi
  }
  exec 9<&-
}

install_system_packages
