"""New tokens: a newline, words of the domain; each starts as the mean of the pieces it was split into before.

The tokenizer lists the words that `add_tokens` added, and the configuration of a model those that it has rows for. Both
lists are saved, so that a later phase keeps the rows that an earlier one has trained.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from tokenizers import AddedToken
from torch import nn
from transformers import PreTrainedModel

from kagglekit.competition.text_columns import split_columns
from kagglekit.device import random_state_kept

LIST = "new_tokens"  # in tokenizer_config.json, and in the config.json of a model
JOINED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")  # no spaces
WORD = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")


def add_tokens(tokenizer, words: Iterable[str]) -> int:
    """Add words to a tokenizer as whole tokens; returns how many are new.

    words: "\\n", "covid", ":-)"; in scripts with spaces between words only whole words are matched. A tokenizer that
    lower-cases matches any case. Words that its normalizer drops, such as a newline in BERT's, are matched before it. A
    word that is one token already stays that one. A model that reads the new tokens needs `resize_embeddings`.
    Raises ValueError for an empty word, and one that begins or ends with a space.
    """
    known, before = set(tokenizer.get_vocab()), tokenizer.init_kwargs.get(LIST, [])
    seen, added = {_normalize(tokenizer, word) for word in before}, []
    for word in dict.fromkeys(words):
        if not word or word != word.strip(" "):
            raise ValueError(f"new_tokens: {word!r} must be a word, without spaces around it")
        plain = _normalize(tokenizer, word)
        if word in known or (plain.strip() and plain in seen) or _is_one_token(tokenizer, word):
            continue  # "Covid" and "covid" are one token after lower-casing
        seen.add(plain)
        added.append(word)
    tokenizer.add_tokens([_added_token(tokenizer, word) for word in added])
    if added:
        tokenizer.init_kwargs[LIST] = [*before, *added]
    return len(added)


def _added_token(tokenizer, word: str) -> AddedToken:
    plain, joined = _normalize(tokenizer, word), bool(JOINED.search(word))
    return AddedToken(
        word,
        single_word=word[0].isalnum() and word[-1].isalnum() and not joined,
        lstrip=True,  # else the space before it becomes a token of its own, where spaces are written as ▁ or Ġ
        normalized=bool(plain.strip()) and "▁" not in plain and not joined,  # else it is matched in the raw
        # text, before the normalizer drops it or puts spaces around each character
    )


def _normalize(tokenizer, text: str) -> str:
    normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    return normalizer.normalize_str(text) if normalizer else text


def split_word(tokenizer, word: str) -> list[int]:
    """The ids of a word as if it had not been added; none where the tokenizer drops it or knows no part of it."""
    if not tokenizer.is_fast:
        ids = tokenizer.convert_tokens_to_ids(tokenizer._tokenize(word))
    else:
        backend = tokenizer.backend_tokenizer
        plain = _normalize(tokenizer, word)
        parts = backend.pre_tokenizer.pre_tokenize_str(plain) if backend.pre_tokenizer else [(plain, None)]
        ids = [token.id for part, _ in parts for token in backend.model.tokenize(part)]
    return [] if set(ids) <= {tokenizer.unk_token_id} else ids


def _is_one_token(tokenizer, word: str) -> bool:
    plain, ids = _normalize(tokenizer, word), split_word(tokenizer, word)
    return len(ids) == 1 and tokenizer.decode(ids).strip(" ") == (plain.strip(" ") if plain.strip() else word)


def resize_embeddings(model: PreTrainedModel, tokenizer) -> int:
    """Add a row to a model's embeddings for each new token of `add_tokens`; returns how many.

    model: an encoder, or one with a language-model head, whose output layer stays tied to the embeddings where it was,
    and grows with them where it was not. A new row is the mean of the rows of the word's pieces, or of all rows where
    it had none; so is its bias in the output layer. Spare rows, as DeBERTa-v3 has, are used first. All other rows and
    the random state are kept. Called again, also after saving and loading, it adds nothing. To be called before the
    optimizer is made.
    """
    embeddings = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    vocabulary, known = tokenizer.get_vocab(), set(getattr(model.config, LIST, None) or ())
    new = {word: vocabulary[word] for word in tokenizer.init_kwargs.get(LIST, []) if word not in known}
    new |= {word: number for word, number in tokenizer.get_added_vocab().items() if number >= rows}
    if len(tokenizer) > rows:
        _grow(model, len(tokenizer))
    if new:
        pieces = [[piece for piece in split_word(tokenizer, word) if piece not in new.values()] for word in new]
        head = model.get_output_embeddings()
        for layer in [model.get_input_embeddings(), *([head] if head is not None else [])]:
            _fill(layer, list(new.values()), pieces, min(rows, len(tokenizer)))
        setattr(model.config, LIST, [*(getattr(model.config, LIST, None) or []), *new])
    return len(new)


def _grow(model: PreTrainedModel, size: int) -> None:
    """Enlarge the embeddings and the output layer; tied weights stay tied."""
    head, tied = model.get_output_embeddings(), model.config.tie_word_embeddings
    holder = next((module for module in model.modules() if head is not None and head in module.children()), None)
    with random_state_kept():
        model.resize_token_embeddings(size, mean_resizing=False)
    head = model.get_output_embeddings()
    # Some models hold the bias of the output layer twice. Resizing one leaves the other short (RoBERTa) or makes both
    # one (BERT), of which only one is saved: right where weights are tied, otherwise the bias would be lost.
    if not tied and isinstance(getattr(holder, "bias", None), nn.Parameter) and head.bias is not None:
        holder.bias = nn.Parameter(head.bias.detach().clone(), head.bias.requires_grad)


@torch.no_grad()
def _fill(layer: nn.Module, new: Sequence[int], pieces: Sequence[Sequence[int]], rows: int) -> None:
    old = np.setdiff1d(np.arange(rows), new)
    for tensor in (layer.weight, getattr(layer, "bias", None)):
        if tensor is not None:
            overall = tensor[old].float().mean(dim=0)
            for number, parts in zip(new, pieces, strict=True):
                tensor[number] = tensor[parts].float().mean(dim=0) if len(parts) else overall


def suggest_tokens(
    texts: Sequence[str], tokenizer, n: int = 30, min_texts: int = 5, most: int = 20_000
) -> pd.DataFrame:
    """Suggest tokens to add: words of many texts that are split into many pieces, and a newline that is dropped.

    Columns token, texts (that have it), pieces (that it is split into; 0: dropped or unknown) and saved (how many
    tokens shorter the texts become, counting a word once a text). Sorted by saved, the newline first, at most `n` rows,
    without words of fewer than `min_texts` texts. Counts are of at most `most` texts, evenly spaced. Scripts without
    spaces between words are skipped: name such words yourself.
    """
    counts = Counter()
    for text in texts[:: -(-len(texts) // most) or 1]:
        words = {word for part in split_columns(text) for word in WORD.findall(_normalize(tokenizer, part))}
        counts.update(words | ({"\n"} & set(text)))
    newlines = counts.pop("\n", 0)
    words = [word for word, count in counts.most_common() if count >= min_texts and not JOINED.search(word)]
    known = set(tokenizer.get_vocab())
    rows = [(word, counts[word], len(split_word(tokenizer, word))) for word in words if word not in known]
    found = pd.DataFrame(rows, columns=["token", "texts", "pieces"])
    found["saved"] = found["texts"] * (found["pieces"] - 1).clip(lower=0)
    found = found[found["pieces"] != 1].sort_values(["saved", "texts"], ascending=False, kind="stable")
    if newlines >= min_texts and "\n" not in known and not _is_one_token(tokenizer, "\n"):
        found = pd.concat([pd.DataFrame([("\n", newlines, 0, 0)], columns=found.columns), found])
    return found.head(n).reset_index(drop=True)
