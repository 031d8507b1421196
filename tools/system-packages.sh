# Sourced by ./test: the Debian packages that the suites use. As root they are installed, otherwise named; a suite whose
# tools are missing skips with that reason.

# command:package
wanted='
  as:binutils
  gcc:gcc
  qemu-system-x86_64:qemu-system-x86
  busybox:busybox-static
  cpio:cpio
'
missing=
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -e /usr/include/linux/kvm.h ] || missing="$missing linux-libc-dev"

if [ -n "$missing" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian packages (once):$missing"
    log=$(mktemp)
    # shellcheck disable=SC2086 # a list of words is meant
    if apt-get update >"$log" 2>&1 &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >>"$log" 2>&1; then
      rm -f "$log"
    else
      cat "$log" >&2
      rm -f "$log"
      say 'apt-get failed; its message is above'
      exit 1
    fi
  else
    say "not installed, so some suites will skip:$missing"
  fi
fi
