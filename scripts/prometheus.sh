#!/usr/bin/env bash
# Prints the folder that has prometheus and promtool: from PATH, or unpacked from Debian's package,
# which installs nothing and needs no root.
set -euo pipefail
shopt -s inherit_errexit

if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    dirname "$(command -v promtool)"
    exit
fi
HOME_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/niyama/prometheus"
if [ -x "$HOME_DIR/usr/bin/promtool" ]; then
    echo "$HOME_DIR/usr/bin"
    exit
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "put prometheus and promtool on PATH: https://prometheus.io/download" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"
if ! apt-get download -qq prometheus >&2; then
    echo "apt-get has no package prometheus: sudo apt-get update" >&2
    exit 1
fi
dpkg -x prometheus_*.deb unpacked
mkdir -p "$(dirname "$HOME_DIR")"
rm -rf "$HOME_DIR"
mv unpacked "$HOME_DIR"
echo "$HOME_DIR/usr/bin"
