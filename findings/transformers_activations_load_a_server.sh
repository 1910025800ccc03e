#!/usr/bin/env bash
# `import transformers.activations`, a file of functions such as GELU, loads the server of continuous batching, and by it
# torch.distributed.tensor, torch._dynamo and sympy: activations -> integrations.hub_kernels -> conversion_mapping ->
# core_model_loading -> integrations.flash_attention -> generation.continuous_batching -> distributed.sharding_utils. Every
# model imports them, so that its first import costs as much again as that of torch, also where nothing is compiled or generated.
#
# Seen (Python 3.11, transformers 5.23.0, torch 2.13.0 for CPUs): after torch and transformers 1.2 s of CPU and 870 modules;
# transformers.configuration_utils beside it 0.0 s and 12.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy transformers==5.23.0
cat > "$place/seen.py" <<'PYTHON'
import importlib
import sys
import time

import torch
import transformers.utils

before, began = set(sys.modules), time.process_time()
importlib.import_module(sys.argv[1])
new = set(sys.modules) - before
heavy = [name for name in ("transformers.generation.continuous_batching", "torch._dynamo", "sympy") if name in new]
print(f"{sys.argv[1]}: {time.process_time() - began:.1f} s of CPU, {len(new):,} modules, among them {heavy}")
sys.exit(len(heavy) != int(sys.argv[2]))
PYTHON
"$python" "$place/seen.py" transformers.activations 3 > "$place/warm" # compiles the bytecode
"$python" "$place/seen.py" transformers.configuration_utils 0
"$python" "$place/seen.py" transformers.activations 3
