#!/usr/bin/env bash
# transformers 5.23.0: AutoTokenizer makes a tokenizer of a folder that has none. A model that was saved without its tokenizer (only
# model.save_pretrained) is loaded with one that knows its special tokens alone, without a warning: every word of BERT is unknown, and
# every text of Qwen, GPT-2 and RoBERTa is empty. Training goes on, on nothing. Llama, Mistral and ModernBERT say that they cannot.
#
# Seen: bert [CLS] [UNK] [UNK] [UNK] [SEP]; roberta <s> </s>; qwen3 and gpt2 no token at all; llama a ValueError
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0
cd "$place"
"$python" - << 'PY'
import json
from pathlib import Path

import transformers
from transformers import AutoTokenizer

print("transformers", transformers.__version__)
found = {}
for family in ("bert", "roberta", "qwen3", "gpt2"):
    Path(family).mkdir()
    Path(family, "config.json").write_text(json.dumps({"model_type": family}))
    tokenizer = AutoTokenizer.from_pretrained(family)
    found[family] = tokenizer.convert_ids_to_tokens(tokenizer("the good film")["input_ids"])
    print(family, type(tokenizer).__name__, len(tokenizer), "tokens:", *found[family])
assert found["bert"][1:-1] == ["[UNK]"] * 3 and len(found["roberta"]) == 2 and found["qwen3"] == found["gpt2"] == []
Path("llama").mkdir()
Path("llama", "config.json").write_text(json.dumps({"model_type": "llama"}))
try:
    AutoTokenizer.from_pretrained("llama")
except ValueError as error:
    print("llama", str(error).splitlines()[0])
else:
    raise AssertionError("llama has a tokenizer of nothing too")
PY
