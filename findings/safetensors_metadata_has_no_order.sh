#!/usr/bin/env bash
# safetensors 0.8.0: with two keys or more in the metadata, the same tensors are written to different bytes from call to
# call, as the keys of the header have no order; with one key, or none, the bytes are always the same. Hashes of files tell
# equal weights apart, and "byte for byte the same" fails at random.
#
# Seen: 40 calls with one key give 1 file, 40 calls with two keys give 2
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.3.5
"$python" - << 'PY'
import numpy as np
import safetensors
from safetensors.numpy import save

tensors, counts = {"w": np.arange(3.0)}, []
for metadata in ({"format": "pt"}, {"format": "pt", "epoch": "3"}):
    counts.append(len({save(tensors, metadata) for _ in range(40)}))
    print(f"safetensors {safetensors.__version__}: 40 calls with {metadata} give {counts[-1]} different files")
assert counts == [1, 2]
PY
