#!/usr/bin/env bash
# Makes .venv with the exact versions of constraints.txt. Needs Python 3.11 or newer and nothing
# else: uv, which does the work, is taken from PyPI into the user's cache when it is missing.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."

UV_VERSION=0.13.8
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/niyama"

fail() {
    echo "install: $*" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "no Python 3.11, 3.12 or 3.13 found; on Debian or Ubuntu: sudo apt-get install python3"
}

# Debian's python3 comes without venv and pip: root gets the missing package installed, other users
# are shown the command.
need_venv() {
    if "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        return
    fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        fail "$1 has no venv module; on Debian or Ubuntu: sudo apt-get install python3-venv"
    fi
    echo "install: $1 has no venv module: apt-get install python3-venv" >&2
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
}

find_uv() {
    local python=$1 home="$CACHE/uv-$UV_VERSION"
    if [ "$(uv --version 2>/dev/null | cut -d' ' -f2)" = "$UV_VERSION" ]; then
        command -v uv
        return
    fi
    if [ ! -x "$home/bin/uv" ]; then
        need_venv "$python"
        mkdir -p "$CACHE" || fail "cannot write $CACHE (XDG_CACHE_HOME chooses another folder)"
        rm -rf "$home"
        "$python" -m venv "$home" >&2
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION" >&2
    fi
    echo "$home/bin/uv"
}

python=$(find_python)
uv=$(find_uv "$python")
if [ "${1:-}" = --print-uv ]; then
    echo "$uv"
    exit
fi
# Another interpreter, or a copy from another folder, would not work: start over.
if ! .venv/bin/python -c 'import sys; sys.exit(sys.prefix != sys.argv[1])' "$PWD/.venv" 2>/dev/null; then
    "$uv" venv --quiet --clear --python "$python" .venv
fi
export VIRTUAL_ENV="$PWD/.venv"
"$uv" pip sync --quiet --require-hashes constraints.txt
"$uv" pip install --quiet --no-deps --editable .
# Importing SGLang compiles about a thousand modules. They are compiled here once, even where the
# environment disables bytecode, so that no process of the stack waits for it at every start.
env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -W ignore -c \
    'import sglang.launch_server, sglang.srt.entrypoints.http_server, workers.runtime.engine.sglang_engine'
echo "install: ready in .venv" >&2
