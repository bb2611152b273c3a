#!/bin/sh
# Download what a GPU machine that reaches no package registry lacks, and this project's own wheel.
#
#   scripts/gpu-wheels.sh FOLDER [PIP_INDEX_OPTIONS...]
#
# The wheels come in two parts, FOLDER/1 and FOLDER/2, that each stay under 50 MB, for machines to
# which files can only be sent in small batches. There: scripts/gpu-install.sh FOLDER/1, then 2.
set -eu

folder=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
list=$here/tests/benchmarks/gpu/wheels.txt
platforms=""
for glibc in 34 31 28 27 24 17 5; do
    platforms="$platforms --platform manylinux_2_${glibc}_x86_64"
done
platforms="$platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64"

fetch() {
    # Word splitting of the platforms is wanted.
    # shellcheck disable=SC2086
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp $platforms --dest "$@"
}

mkdir -p "$folder/1" "$folder/2"
grep '^sglang==' "$list" | fetch "$folder/1" --requirement /dev/stdin "$@"
grep -v -e '^sglang==' -e '^#' "$list" | fetch "$folder/2" --requirement /dev/stdin "$@"
python3 -m pip wheel --quiet --no-deps --wheel-dir "$folder/2" "$@" "$here"
du -sh "$folder/1" "$folder/2"
