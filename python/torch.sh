#!/usr/bin/env bash
# Puts torch for the tests into a folder of the user's cache, once per machine, and shows it to the Python of a venv.
# Usage: torch.sh PYTHON REQUIREMENTS
set -euo pipefail

python=$1 requirements=$2
version=$(sed -n 's/^torch==//p' "$requirements")
sum=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(b"".join(open(one, "rb").read() for one in sys.argv[1:])).hexdigest()[:8])' "$requirements" "$0")
tag=$("$python" -c 'import sys; print(sys.implementation.cache_tag)')
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bowstring
folder=$cache/torch-$version-$tag-$sum

if [ ! -d "$folder" ]; then
    mkdir -p "$cache"
    # Renamed when it is whole: who is interrupted leaves nothing that looks like torch.
    making=$(mktemp -d "$cache/torch-making-XXXXXX")
    trap 'rm -rf "$making"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --no-compile \
        --target "$making/torch" -r "$requirements"
    if [ -d "$making/torch/nvidia" ]; then
        # Of CUDA's libraries only those that torch is linked to: the others, which it loads on a GPU, are a gigabyte.
        # A file that is there twice (by another name) is found by its inode.
        linked=$(find "$making/torch/torch" -name '*.so' -exec ldd {} + 2>/dev/null | sed -n 's/.*=> \(.*nvidia.*\) (0x.*/\1/p' \
            | xargs -r realpath | sort -u)
        find "$making/torch/nvidia" -type f -path '*/lib/*' | while read -r file; do
            grep -qxF "$(realpath "$file")" <<< "$linked" || rm "$file"
        done
        rm -rf "$making"/torch/nvidia/*/include "$making/torch/torch/include"
    fi
    PYTHONPATH=$making/torch "$python" -c 'import torch, torch.distributed, torch.utils.data; torch.optim.SGD([torch.zeros(1)])'
    # Somebody else may have been faster; then this one goes.
    mv -T "$making/torch" "$folder" 2>/dev/null || [ -d "$folder" ]
fi

# After the venv's own packages: what both have, it takes from there.
printf '%s\n' "$folder" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bowstring-torch.pth"
