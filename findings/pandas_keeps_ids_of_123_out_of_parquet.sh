#!/usr/bin/env bash
# pandas 3.1.1 with pyarrow 26.0.1: set_index of a column 1, 2, 3, ... makes a RangeIndex, and to_parquet writes that into the metadata of pandas
# alone. Every other reader of the file, pyarrow.parquet.read_table among them, finds no ids, without an error. A column 1, 2, 4 is there.
#
# Seen: "columns for ids 1, 2, 3: ['x']", and "columns for ids 1, 2, 4: ['x', 'id']"
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check pandas==3.1.1 pyarrow==26.0.1
cd "$place"
"$python" - << 'PY'
import pandas as pd
import pyarrow.parquet

found = {}
for ids in ([1, 2, 3], [1, 2, 4]):
    pd.DataFrame({"id": ids, "x": [0.1, 0.2, 0.3]}).set_index("id").to_parquet("t.parquet")
    found[ids[-1]] = pyarrow.parquet.read_table("t.parquet").column_names
    print(f"columns for ids {', '.join(map(str, ids))}: {found[ids[-1]]}")
assert found == {3: ["x"], 4: ["x", "id"]}
PY
