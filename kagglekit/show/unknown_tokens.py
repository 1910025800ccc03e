"""Unknown tokens: how much of the texts a tokenizer does not know, which characters or words, and what would help."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.clean import CLEANERS, is_installed
from kagglekit.data.tokens import Tokens

MUCH = 0.01  # of all tokens


def unknown_share(tokens: Tokens, tokenizer) -> float:
    """The share of tokens that are the tokenizer's unknown token; 0 for tokenizers that know all bytes."""
    if tokenizer.unk_token_id is None or not len(tokens.flat):
        return 0.0
    return float((tokens.flat == tokenizer.unk_token_id).mean())


def show_unknown(texts: Sequence[str], tokens: Tokens, tokenizer, n: int = 12) -> pd.DataFrame:
    """What is lost where more than `MUCH` of the tokens are unknown: characters, or words of known characters.

    tokens: of `texts`, in their order. Columns texts (that have it), name (of a character, many cannot be seen), word
    (one that it is in), clean (the first cleaner after which it is known; "" for none), in the order of texts, at most
    `n` rows; none where little is unknown. Costs a second pass over the texts with unknown tokens.
    """
    columns = ["lost", "texts", "name", "word", "clean"]
    if unknown_share(tokens, tokenizer) <= MUCH:
        return pd.DataFrame(columns=columns).set_index("lost")
    ends, unknown = tokens.ends, np.append(0, np.cumsum(tokens.flat == tokenizer.unk_token_id))
    has = unknown[ends] > unknown[ends - tokens.lengths]
    words = Counter(
        word
        for text, lost in zip(texts, has, strict=True)
        if lost
        for word in {*text.replace(SEPARATOR, " ").split(), *filter(str.isspace, text)}
    )
    found, inside = Counter(), {}
    for word in _unknown_among(sorted(words), tokenizer):
        for part in _unknown_among(sorted(set(word)), tokenizer) or [word]:
            found[part] += words[word]
            inside.setdefault(part, word)
    rows = []
    for part, count in found.most_common(n):
        name = unicodedata.name(part, "") if len(part) == 1 else ""
        rows.append((part, count, name, inside[part], _find_cleaner(part, tokenizer)))
    return pd.DataFrame(rows, columns=columns).set_index("lost")


def describe_unknown(tokens: Tokens, tokenizer, lost: pd.DataFrame) -> str:
    """One line for the terminal; empty where little is unknown. lost: from `show_unknown`."""
    share = unknown_share(tokens, tokenizer)
    if share <= MUCH:
        return ""
    helps = [name for name in CLEANERS if name in set(lost["clean"])]
    what = f"clean={helps} would help" if helps else "another backbone may know them, or new_tokens of 2_pretrain"
    shown = ", ".join(map(repr, lost.index[:5]))
    return f"{share:.1%} of the tokens are {tokenizer.unk_token}, in place of {shown}: {what}"


def _unknown_among(parts: list[str], tokenizer) -> list[str]:
    """Those that the tokenizer cannot read whole."""
    if not parts:
        return []
    rows = tokenizer(parts, add_special_tokens=False)["input_ids"]
    return [part for part, ids in zip(parts, rows, strict=True) if tokenizer.unk_token_id in ids]


def _find_cleaner(part: str, tokenizer) -> str:
    for name, change in CLEANERS.items():
        after = change(part) if is_installed(name) else part
        if after != part and not _unknown_among([after], tokenizer):
            return name
    return ""
