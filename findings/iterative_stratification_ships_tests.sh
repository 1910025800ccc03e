#!/usr/bin/env bash
# iterative-stratification 0.1.9: the wheel installs a top-level package `tests` beside its own module `iterstrat`.
# A project that keeps its tests in a folder `tests` without __init__.py, and imports `tests.something`, gets this package once
# it is installed, for a regular package wins over a namespace package wherever it stands on the path.
#
# Seen (Python 3.11, pip 23.2): top_level.txt says: iterstrat tests; `import tests` is site-packages/tests/__init__.py
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target site iterative-stratification==0.1.9
mkdir -p project/tests
echo 'ours = True' > project/tests/support.py
cd project
seen=$(PYTHONPATH="$PWD:$place/site" python3 -c 'import tests; print(tests.__file__)')
echo "import tests -> ${seen#"$place"/}"
[ "${seen#"$place"/}" = site/tests/__init__.py ]
if PYTHONPATH="$PWD:$place/site" python3 -c 'import tests.support' 2> /dev/null; then echo "tests.support is found again"; exit 1; fi
echo "tests.support of the project is hidden"
