"""Unknown tokens: how much of the texts a backbone cannot read, which characters or words, and what would help."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kagglekit.competition.guess import UNSPACED
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.clean import CLEANERS, is_installed
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.model.catalogue import BACKBONES
from kagglekit.model.suggest import name_readers, profile_texts
from kagglekit.progress import command

MUCH, SOME = 0.01, 0.2  # of all tokens
ENOUGH = 1_000  # texts
UNTOLD = ("none", "unknown")  # what a language is called where there is no telling


def unknown_share(tokens: Tokens, tokenizer) -> float:
    """The share of tokens that are the tokenizer's unknown token; 0 for tokenizers that know all bytes."""
    if tokenizer.unk_token_id is None or not len(tokens.flat):
        return 0.0
    return float((tokens.flat == tokenizer.unk_token_id).mean())


def show_unknown(texts: Sequence[str], tokens: Tokens, tokenizer, n: int = 12) -> pd.DataFrame:
    """What is lost where more than `MUCH` of the tokens are unknown: characters, or words of known characters.

    tokens: of `texts`, in their order. Columns texts (that have it), name (of a character, many cannot be seen), word
    (one that it is in), clean (the first cleaner after which it is known; "" for none), in the order of texts, at most
    `n` rows; none where little is unknown. Costs a second pass over the texts with unknown tokens; of texts
    in another language, more than a fifth of whose tokens are unknown, the first 1,000 are enough.
    """
    columns = ["lost", "texts", "name", "word", "clean"]
    if (share := unknown_share(tokens, tokenizer)) <= MUCH:
        return pd.DataFrame(columns=columns).set_index("lost")
    if share > SOME:
        texts, tokens = texts[:ENOUGH], tokens[np.arange(min(ENOUGH, len(tokens)))]
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


def describe_reading(
    texts: Sequence[str],
    tokenizer,
    backbone: str,
    work: str,
    tokens: Tokens | None = None,
    lost: pd.DataFrame | None = None,
) -> str:
    """Whether a backbone can read the texts, and what to do where it cannot, for the terminal; empty where it can.

    It cannot where much is unknown, where words fall into single letters, as in a tokenizer of another language or of
    bytes, and where the catalogue says that it is for another language. backbone, work: the parameters. tokens:
    of `texts`; None: the beginnings of some are read. lost: from `show_unknown`.
    """
    if tokens is None:
        texts = [text[:1000] for text in texts[:: max(1, len(texts) // 300)]]
        tokens = tokenize(texts, tokenizer, WHOLE)
    share, some = unknown_share(tokens, tokenizer), texts[:: max(1, len(texts) // 300)]
    profile = profile_texts([text[:500] for text in some])
    own = next((one.language for one in BACKBONES if one.name == backbone), "")
    pieces, foreign = _count_pieces(texts, tokens), own not in ("", "multilingual", profile.language)
    helps = [] if lost is None else [name for name in CLEANERS if name in set(lost["clean"])]
    unknown = f"{share:.0%} of the tokens are unknown to {backbone}"
    if lost is not None and len(lost):
        unknown += f" ({tokenizer.unk_token} in place of {', '.join(map(repr, lost.index[:5]))})"
    if share > SOME or (share > MUCH and not pieces):
        what = unknown
    elif pieces:
        what = f"{backbone} reads words in pieces, {pieces}" + f", and {share:.0%} are unknown" * (share > MUCH)
    elif foreign and profile.name not in UNTOLD:
        what = f"{backbone} was not made for {profile.name}, the language of the texts"
    else:
        return ""
    if profile.name in UNTOLD or not (foreign or pieces):
        return f"{what}: " + (f"clean={helps} would help" if helps else "new_tokens of 2_pretrain would help")
    names = name_readers(profile.language, backbone)
    step = command("3_train", work=work, run=names[0], backbone=names[0])
    return f"{what}; {' or '.join(names)} would read {profile.name}: {step}"


def _count_pieces(texts: Sequence[str], tokens: Tokens) -> str:
    """Into how many tokens words or characters fall, in words; empty where they are about as many as in a language that
    a tokenizer was made for, or where the tokens are of longer texts than these."""
    rows = range(0, len(texts), max(1, len(texts) // 500))
    words = [texts[row].replace(SEPARATOR, " ").split() for row in rows]
    letters, count = sum(len(word) for row in words for word in row), int(tokens.lengths[list(rows)].sum())
    count -= 2 * len(rows)  # special tokens
    if not letters:
        return ""
    unspaced = sum(len(UNSPACED.findall(word)) for row in words for word in row) / letters
    if unspaced > 0.3:
        return f"{count / letters:.1f} tokens a character, where 1 is usual" if count / letters > 1.4 else ""
    each = count / sum(map(len, words))
    if count / letters <= 0.6 or each <= 2.5:
        return ""
    return f"{each:.1f} tokens a word, where about 1.4 are usual"


def _unknown_among(parts: list[str], tokenizer) -> list[str]:
    """Those that the tokenizer cannot read whole."""
    if not parts:
        return []
    rows = tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"]  # none is read by a model
    return [part for part, ids in zip(parts, rows, strict=True) if tokenizer.unk_token_id in ids]


def _find_cleaner(part: str, tokenizer) -> str:
    for name, change in CLEANERS.items():
        after = change(part) if is_installed(name) else part
        if after != part and not _unknown_among([after], tokenizer):
            return name
    return ""
