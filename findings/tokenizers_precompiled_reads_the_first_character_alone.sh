#!/usr/bin/env bash
# tokenizers 0.23.3: the normalizer `Precompiled`, which holds the rules of a SentencePiece model, looks up the first character of a
# letter with its marks, and of long ones each character by itself; SentencePiece 0.2.3 takes the longest sequence that it knows. So
# text in decomposed Unicode (NFD: file names and copied text of macOS) loses marks in Vietnamese and falls apart in Korean, in every
# fast tokenizer that rests on `Precompiled` alone, such as XLM-RoBERTa's.
#
# Seen: "ệ" in NFD is "ệ" in SentencePiece and "ẹ" in Precompiled; "한" is "한" and three letters; after NFC both are right
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check tokenizers==0.23.3 sentencepiece==0.2.3 protobuf==7.36.2
cd "$place"
"$python" - << 'PY'
import unicodedata

import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2
from tokenizers import normalizers

open("text.txt", "w").write("\n".join(["the film was good", "a b c d e f g h i"] * 50))
options = dict(vocab_size=40, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc", minloglevel=2)
spm.SentencePieceTrainer.train(input="text.txt", model_prefix="spm", **options)
own = spm.SentencePieceProcessor(model_file="spm.model")
proto = sentencepiece_model_pb2.ModelProto.FromString(open("spm.model", "rb").read())
rules = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
composed = normalizers.Sequence([normalizers.NFC(), rules])
for letter, seen in (("ệ", "ẹ"), ("한", "\u1112\u1161\u11ab")):
    text = unicodedata.normalize("NFD", letter)
    right, found = own.normalize(text).strip("▁"), rules.normalize_str(text)
    print(ascii(text), "SentencePiece:", ascii(right), "Precompiled:", ascii(found), "after NFC:", ascii(composed.normalize_str(text)))
    assert right == letter and found == seen and composed.normalize_str(text) == letter
PY
