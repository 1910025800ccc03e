#!/usr/bin/env bash
# pandas 3.1.1, pyarrow 26.0.1, numpy 2.4.6: lists come out of parquet as arrays, and to_csv writes these as numpy prints them:
# no commas, line breaks in long ones, and "..." from 1,001 items on. ast.literal_eval, the usual way back, reads ['a' 'b'] as one label,
# "ab", as Python joins strings that stand side by side; there is no error or warning.
#
# Seen: to_csv of lists gives ['joy', 'fear'], the same after a way through parquet ['joy' 'fear'], which is read as ['joyfear']
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6
cd "$place"
"$python" - << 'PY'
import ast

import pandas as pd

table = pd.DataFrame({"id": [1, 2], "labels": [["joy", "fear"], ["joy"]]})
table.to_csv("before.csv", index=False)
table.to_parquet("table.parquet")
pd.read_parquet("table.parquet").to_csv("after.csv", index=False)
cells = {name: pd.read_csv(f"{name}.csv")["labels"][0] for name in ("before", "after")}
found = {name: ast.literal_eval(cell) for name, cell in cells.items()}
print(pd.__version__, cells, found)
assert found == {"before": ["joy", "fear"], "after": ["joyfear"]}
table = pd.DataFrame({"labels": [[str(n) for n in range(1001)]]})
table.to_parquet("table.parquet")
cell = pd.read_parquet("table.parquet").to_csv(index=False)
print(len(cell), "characters for 1,001 labels:", cell.split("\n")[1])
assert "..." in cell and "'500'" not in cell
PY
