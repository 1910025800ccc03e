#!/usr/bin/env bash
# transformers 5.23.0: the tokenizer class of DeBERTa-v2 and v3 builds its own normaliser and leaves out the rules that stand in
# spm.model (nmt_nfkc). Full-width letters, "…" and no-break spaces, which SentencePiece itself folds to plain ones, become
# [UNK], without an error or a warning.
#
# Seen: for "ＡＢＣ" (full-width) SentencePiece gives the pieces of "ABC"; the tokenizer gives [UNK]
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0 sentencepiece==0.2.3 protobuf==7.36.2
cd "$place"
"$python" - << 'PY'
import json

import sentencepiece as spm
from transformers import AutoTokenizer

texts = ["ABC and the film was good...", "a b c d e f g", "the plot was bad, the end was fine."] * 50
open("text.txt", "w").write("\n".join(texts))
options = dict(vocab_size=60, character_coverage=1.0, normalization_rule_name="nmt_nfkc", hard_vocab_limit=False)
pieces = dict(pad_id=0, pad_piece="[PAD]", bos_id=1, bos_piece="[CLS]", eos_id=2, eos_piece="[SEP]", unk_id=3, unk_piece="[UNK]")
spm.SentencePieceTrainer.train(input="text.txt", model_prefix="spm", minloglevel=2, **options, **pieces)
model = spm.SentencePieceProcessor(model_file="spm.model")
json.dump({"tokenizer_class": "DebertaV2Tokenizer"}, open("tokenizer_config.json", "w"))
json.dump({"model_type": "deberta-v2", "vocab_size": model.get_piece_size()}, open("config.json", "w"))
tokenizer = AutoTokenizer.from_pretrained(".")  # as a checkpoint is that comes with spm.model alone
print(type(tokenizer).__name__, "of", len(tokenizer), "tokens;", tokenizer.tokenize("ABC"))
for text in ("ＡＢＣ", "the film…", "the\u00a0film"):
    own, ids = model.encode(text, out_type=str), tokenizer(text, add_special_tokens=False)["input_ids"]
    print(repr(text), "SentencePiece:", own, "tokenizer:", tokenizer.convert_ids_to_tokens(ids))
    assert "[UNK]" not in own and tokenizer.unk_token_id in ids
PY
