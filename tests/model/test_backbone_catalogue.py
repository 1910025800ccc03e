import re

import pytest
import torch
from transformers import AutoConfig, AutoModel

from kagglekit.model.backbones import count_positions, without_pooler
from kagglekit.model.catalogue import BACKBONES, SOURCES, backbone_table

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1, "vocab_size": 50265}
XLM = {**ROBERTA, "vocab_size": 250002}
DEBERTA = {"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True}
DEBERTA |= {"pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0, "position_biased_input": False, "vocab_size": 128100}
MODERN = {"max_position_embeddings": 8192, "num_hidden_layers": 22, "num_attention_heads": 12, "hidden_size": 768}
MODERN |= {"intermediate_size": 1152, "vocab_size": 50368, "pad_token_id": 50283}
MODERN_LARGE = {**MODERN, "num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16}
MMBERT = {**MODERN, "vocab_size": 256000, "pad_token_id": 0}
SMALL = {"hidden_size": 384, "intermediate_size": 1536}


def decoder(vocabulary, width, layers, heads, key_heads, inner, positions, **options):
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    sizes = (vocabulary, width, layers, heads, key_heads)
    inside = {"intermediate_size": inner, "max_position_embeddings": positions}
    return dict(zip(names, sizes, strict=True)) | inside | options


LLAMAS = {
    "smollm2-135m": decoder(49152, 576, 30, 9, 3, 1536, 8192),
    "smollm2-360m": decoder(49152, 960, 32, 15, 5, 2560, 8192),
    "smollm2-1.7b": decoder(49152, 2048, 24, 32, 32, 8192, 8192),
    "llama-3.2-1b": decoder(128256, 2048, 16, 32, 8, 8192, 131072, head_dim=64),
    "llama-3.2-3b": decoder(128256, 3072, 28, 24, 8, 8192, 131072, head_dim=128),
}
QWEN2 = {
    "qwen2.5-0.5b": decoder(151936, 896, 24, 14, 2, 4864, 32768),
    "qwen2.5-1.5b": decoder(151936, 1536, 28, 12, 2, 8960, 32768),
    "qwen2.5-7b": decoder(152064, 3584, 28, 28, 4, 18944, 32768),
    "qwen2.5-14b": decoder(152064, 5120, 48, 40, 8, 13824, 32768),
    "qwen2.5-32b": decoder(152064, 5120, 64, 40, 8, 27648, 32768),
}
EIGHT = {"head_dim": 128}
QWEN3 = {
    "qwen3-0.6b": decoder(151936, 1024, 28, 16, 8, 3072, 40960, **EIGHT),
    "qwen3-1.7b": decoder(151936, 2048, 28, 16, 8, 6144, 40960, **EIGHT),
    "qwen3-4b": decoder(151936, 2560, 36, 32, 8, 9728, 40960, **EIGHT),
    "qwen3-8b": decoder(151936, 4096, 36, 32, 8, 12288, 40960, **EIGHT),
    "qwen3-14b": decoder(151936, 5120, 40, 40, 8, 17408, 40960, **EIGHT),
}
QWEN3 |= {
    "qwen3-embedding-0.6b": QWEN3["qwen3-0.6b"] | {"vocab_size": 151669, "max_position_embeddings": 32768},
    "qwen3-embedding-4b": QWEN3["qwen3-4b"] | {"vocab_size": 151665},
    "qwen3-embedding-8b": QWEN3["qwen3-8b"] | {"vocab_size": 151665},
    "qwen3-reranker-0.6b": QWEN3["qwen3-0.6b"] | {"vocab_size": 151669},
    "qwen3-reranker-4b": QWEN3["qwen3-4b"] | {"vocab_size": 151669},
    "qwen3-reranker-8b": QWEN3["qwen3-8b"] | {"vocab_size": 151669},
}
GEMMAS = {
    "gemma3-270m": decoder(262144, 640, 18, 4, 1, 2048, 32768, head_dim=256),
    "gemma3-1b": decoder(262144, 1152, 26, 4, 1, 6912, 32768, head_dim=256),
}
PUBLISHED = {  # what the config.json on the hub says of each
    "deberta-v3-base": ("deberta-v2", BASE | DEBERTA),
    "deberta-v3-large": ("deberta-v2", LARGE | DEBERTA),
    "deberta-v3-small": ("deberta-v2", BASE | DEBERTA | {"num_hidden_layers": 6}),
    "deberta-v3-xsmall": ("deberta-v2", BASE | DEBERTA | SMALL | {"num_attention_heads": 6}),
    "mdeberta-v3-base": ("deberta-v2", BASE | DEBERTA | {"vocab_size": 251000}),
    "modernbert-base": ("modernbert", MODERN),
    "modernbert-large": ("modernbert", MODERN_LARGE | {"intermediate_size": 2624}),
    "mmbert-base": ("modernbert", MMBERT),
    "mmbert-small": ("modernbert", MMBERT | {"hidden_size": 384, "num_attention_heads": 6}),
    "roberta-base": ("roberta", BASE | ROBERTA),
    "roberta-large": ("roberta", LARGE | ROBERTA),
    "distilroberta": ("roberta", BASE | ROBERTA | {"num_hidden_layers": 6}),
    "twitter-roberta-base": ("roberta", BASE | ROBERTA),
    "xlm-roberta-base": ("xlm-roberta", BASE | XLM),
    "xlm-roberta-large": ("xlm-roberta", LARGE | XLM),
    "longformer-base-4096": ("longformer", BASE | ROBERTA | {"max_position_embeddings": 4098}),
    "bigbird-roberta-base": ("big_bird", BASE | {"max_position_embeddings": 4096, "vocab_size": 50358}),
    "electra-base": ("electra", BASE | {"embedding_size": 768, "vocab_size": 30522}),
    "minilm": ("bert", BASE | SMALL | {"num_hidden_layers": 6, "vocab_size": 30522}),
    **dict.fromkeys(["bert-base", "finbert", "legal-bert", "biomedbert"], ("bert", BASE | {"vocab_size": 30522})),
    "biobert": ("bert", BASE | {"vocab_size": 28996}),
    "scibert": ("bert", BASE | {"vocab_size": 31090}),
    **dict.fromkeys(["chinese-macbert-base", "chinese-roberta-wwm-ext"], ("bert", BASE | {"vocab_size": 21128})),
    **dict.fromkeys(
        ["chinese-macbert-large", "chinese-roberta-wwm-ext-large"], ("bert", LARGE | {"vocab_size": 21128})
    ),
    "bge-small-zh": (
        "bert",
        {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "intermediate_size": 2048}
        | {"vocab_size": 21128},
    ),
    **{name: ("llama", options) for name, options in LLAMAS.items()},
    **{name: ("qwen2", options) for name, options in QWEN2.items()},
    **{name: ("qwen3", options) for name, options in QWEN3.items()},
    **{name: ("gemma3_text", options) for name, options in GEMMAS.items()},
    "phi4-mini": ("phi3", decoder(200064, 3072, 32, 24, 8, 8192, 131072, pad_token_id=199999)),
    "rbt3": ("bert", BASE | {"vocab_size": 21128, "num_hidden_layers": 3}),
}


def count_parameters(config):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in without_pooler(AutoModel.from_config(config)).parameters())


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: backbone.name)
def test_sizes_and_lengths_are_those_of_the_published_configurations(backbone):
    kind, options = PUBLISHED[backbone.name]
    one, two = (count_parameters(AutoConfig.for_model(kind, **options | {"num_hidden_layers": n})) for n in (1, 2))
    size = one + (options["num_hidden_layers"] - 1) * (two - one)  # all layers above the first have the same
    assert abs(backbone.size - size / 1e6) <= 1
    positions = count_positions(AutoConfig.for_model(kind, **options | {"num_hidden_layers": 1}))
    assert backbone.max_length == (positions or 512)  # DeBERTa-v3 was trained on 512


def test_names_are_unique_and_sources_are_names_on_the_hub():
    assert len({backbone.name for backbone in BACKBONES}) == len(SOURCES) == len(BACKBONES)
    assert len(set(SOURCES.values())) == len(BACKBONES)
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", source) for source in SOURCES.values())
    assert not any("/" in name for name in SOURCES)


def test_the_table_has_a_row_for_each_with_a_reason():
    table = backbone_table()
    names = ["name", "source", "language", "domain", "size", "max length", "licence", "reason", "kind"]
    assert list(table) == [*names, "T4", "two T4s", "L4", "H100"]
    assert ((table["T4"] != "") == (table["kind"] == "decoder")).all()
    assert len(table) == len(BACKBONES)
    assert table["reason"].str.len().min() > 15
    assert set(table["language"]) == {"en", "zh", "multilingual"}
