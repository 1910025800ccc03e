#!/usr/bin/env bash
# transformers 5.23.0: the classifiers around decoders look for the pad token from the right to find the last token, and not at the attention
# mask. Where pad is eos, as in SmolLM2 and many others, a text that ends in eos is read one token too early, with a mask of ones too: its
# logits are those of the text without its end. Chat templates end in that token.
#
# Seen: Llama, Qwen3 and GPT-2 give logits equal to the text without its last token (difference 0), and other ones where pad is another id
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
python="$place/env/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0
"$python" - << 'PY'
import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification

print("transformers", transformers.__version__)
sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 50}
sizes |= {"intermediate_size": 48, "head_dim": 8, "eos_token_id": 2, "bos_token_id": 1}
small = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "eos_token_id": 2, "bos_token_id": 1}
for family, options in (("llama", sizes), ("qwen3", sizes), ("gpt2", small)):
    difference = {}
    for pad in (2, 0):
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **options, num_labels=3, pad_token_id=pad)
        model = AutoModelForSequenceClassification.from_config(config).eval()
        ids = torch.tensor([[5, 6, 7, 8, 2]])
        with torch.no_grad():
            whole = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            shorter = model(input_ids=ids[:, :-1], attention_mask=torch.ones_like(ids[:, :-1])).logits
        difference[pad] = float((whole - shorter).abs().max())
    print(f"{family}: largest difference to the text without its end: {difference[2]:.2g} where pad is eos, {difference[0]:.2g} else")
    assert difference[2] < 1e-6 < 1e-4 < difference[0]
PY
