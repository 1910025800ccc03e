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
    "smollm2-135m": (
        "llama",
        {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}
        | {"intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 8192},
    ),
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
    assert list(table) == ["name", "source", "language", "domain", "size", "max length", "licence", "reason", "kind"]
    assert len(table) == len(BACKBONES)
    assert table["reason"].str.len().min() > 15
    assert set(table["language"]) == {"en", "zh", "multilingual"}
