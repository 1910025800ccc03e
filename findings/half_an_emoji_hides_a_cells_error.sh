#!/usr/bin/env bash
# jupyter_client 8.10.0: a kernel cannot send a message with a lone surrogate in it (half an emoji, as a text has that was cut after
# so many UTF-16 units). So a cell that raises ValueError("\ud83d") has no error in the executed notebook: nbclient reports a
# UnicodeEncodeError that the cell never raised, and with allow_errors=True the cell looks as if it had succeeded.
#
# Seen: with "a" in place of it ValueError and one output; with it UnicodeEncodeError and no output; allowed: no output, and no word
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check nbclient==0.11.0 nbformat==5.11.1 ipykernel==7.4.0 jupyter_client==8.10.0
cd "$place"
"$python" - << 'PY'
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


def run(code, allow_errors=False):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    try:
        NotebookClient(book, kernel_name="python3", timeout=60, allow_errors=allow_errors).execute()
        end = "ended"
    except CellExecutionError as error:
        end = error.ename
    return end, [output.output_type for output in book.cells[0].outputs]


for code, allowed, seen in (
    ("raise ValueError('a')", False, ("ValueError", ["error"])),
    ("raise ValueError('a')", True, ("ended", ["error"])),
    (r"raise ValueError('\ud83d')", False, ("UnicodeEncodeError", [])),
    (r"raise ValueError('\ud83d')", True, ("ended", [])),
):
    found = run(code, allowed)
    print(code, "allowed" if allowed else "", found)
    assert found == seen
PY
