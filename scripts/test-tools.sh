#!/usr/bin/env bash
# What the tests need besides Python packages: other people's Kafka producers, and certificates.
# Installs what is missing where it may (root on Debian or Ubuntu), or says what to install.
set -euo pipefail

missing=()
need() {
    command -v "$1" >/dev/null || missing+=("$2")
}
need kcat kcat
need openssl openssl
need javac default-jdk-headless # its java compiles a source file before it runs it
[ "${#missing[@]}" = 0 ] && exit

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need: ${missing[*]}; on Debian or Ubuntu: sudo apt-get install ${missing[*]}" >&2
    exit 1
fi
echo "apt-get install ${missing[*]}" >&2
apt-get update -qq >/dev/null
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
