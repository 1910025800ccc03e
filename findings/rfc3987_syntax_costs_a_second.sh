#!/usr/bin/env bash
# rfc3987-syntax 1.1.0, which JupyterLab brings along (jsonschema[format-nongpl]), compiles a grammar of web addresses whenever
# jsonschema is imported: about a second, before every `import nbformat`, `papermill` or `jupyter nbconvert`, whether or not an
# address is checked. jsonschema does without it where it is missing.
#
# Seen (Python 3.11, jsonschema 4.26.0, lark 1.3.1): import jsonschema takes 1.0 s with it, 0.1 s without.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check jsonschema==4.26.0 rfc3987-syntax==1.1.0 lark==1.3.1
seconds() { "$python" -c "import sys, time; $1 began = time.perf_counter(); import jsonschema; print(time.perf_counter() - began)"; }
seconds "" > "$place/warm" # compiles the bytecode
with=$(seconds "") without=$(seconds "sys.modules['rfc3987_syntax'] = None;")
echo "import jsonschema: $with s, without rfc3987_syntax $without s"
"$python" -c "import sys; sys.exit(not $with > 3 * $without)"
