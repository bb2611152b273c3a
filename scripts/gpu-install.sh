#!/bin/sh
# Install wheels from a folder, without a package registry, beside what a machine's Python has.
#
#   scripts/gpu-install.sh FOLDER [TARGET]      then: . TARGET/activate
set -eu

target=${2:-/tmp/niyama-site}
here=$(cd "$(dirname "$0")/.." && pwd)
python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$target" "$1"/*.whl
cat >"$target/activate" <<END
# This checkout's code; the entry points come from the wheel.
export PYTHONPATH="$here:$target"
# SGLang's Rust radix tree is built for a newer torch than such a machine has.
export SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND=python
END
echo ". $target/activate"
