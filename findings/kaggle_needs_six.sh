#!/usr/bin/env bash
# kaggle 2.2.4 imports `six` and does not declare it. python-dateutil, which it does ask for, used to bring six along; since
# its newer releases do not, an environment with the client and what it asks for cannot import the client.
#
# Seen (Python 3.11, python-dateutil as pip chose it, without six): ModuleNotFoundError: No module named 'six'
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check kaggle==2.2.4
"$python" -c 'from importlib.metadata import requires; print("asks for six:", any(r.startswith("six") for r in requires("kaggle")))'
"$python" -m pip freeze --disable-pip-version-check | grep -i '^python-dateutil=='
export KAGGLE_USERNAME=nobody KAGGLE_KEY=nothing
seen=$("$python" -c 'import kaggle.api.kaggle_api_extended' 2>&1 | tail -1) || true
echo "$seen"
[ "$seen" = "ModuleNotFoundError: No module named 'six'" ]
"$python" -m pip install --quiet --disable-pip-version-check six==1.17.0
"$python" -c 'import kaggle.api.kaggle_api_extended; print("with six it is imported")'
