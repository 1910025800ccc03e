#!/usr/bin/env bash
# transformers 5.23.0: an empty second text counts as none where one pair is tokenised, and as a text where a batch of pairs is. Whoever
# checks single rows sees other tokens than training does; a model of pairs then reads a row with an empty cell as one text.
#
# Seen: tokenizer("good", "") gives [CLS] good [SEP]; tokenizer(["good"], [""]) and tokenizer([("good", "")]) give [CLS] good [SEP] [SEP]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0
cd "$place"
"$python" - << 'PY'
import transformers
from transformers import BertTokenizer

open("vocab.txt", "w").write("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good"]))
tokenizer = BertTokenizer("vocab.txt")
found = {
    'tokenizer("good", "")': tokenizer("good", "")["input_ids"],
    'tokenizer(["good"], [""])': tokenizer(["good"], [""])["input_ids"][0],
    'tokenizer([("good", "")])': tokenizer([("good", "")])["input_ids"][0],
}
print("transformers", transformers.__version__)
for call, ids in found.items():
    print(call, tokenizer.convert_ids_to_tokens(ids))
one, *batches = found.values()
assert len(one) == 3 and all(len(ids) == 4 for ids in batches)
PY
