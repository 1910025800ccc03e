"""Prompts: a pattern around each text with masks, and label words that a masked-language model predicts there.

PET, pattern-exploiting training (Schick and Schütze, 2021, arXiv 2001.07676).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import numpy as np

from kagglekit.data.tokens import Tokens, join_tokens, special_ends, tokenize
from kagglekit.options import check_range, did_you_mean


@dataclass(frozen=True)
class Pattern:
    """The tokens around every text.

    first, last: before and after it, with special tokens, int32 (tokens,). special: how many of each are special.
    masks: positions of the masks in the whole: 0 is its first token, -1 its last. spaced: whether a text begins with a
    space.
    """

    first: np.ndarray
    last: np.ndarray
    special: tuple[int, int]
    masks: list[int]
    spaced: bool


def read_pattern(pattern: str) -> tuple[list[str], list[str]]:
    """The parts of a pattern before and after the text, each split at its masks (one piece more than masks).

    pattern: such as "{text} It was {mask}." or "{mask} news: {text}", with {text} once and any number of {mask}; a
    brace is written {{ or }}. Raises ValueError for anything else in braces.
    """
    sides = [[""]]
    try:
        for literal, name, *more in Formatter().parse(pattern):
            sides[-1][-1] += literal
            if name is not None and (name not in ("text", "mask") or any(more)):
                raise ValueError(f"{{{name}}} is not known")
            if name == "text":
                sides.append([""])
            elif name == "mask":
                sides[-1].append("")
    except ValueError as error:
        raise ValueError(
            f"pattern={pattern!r}: {error}; use {{text}} and {{mask}}, write a brace itself as {{{{, and make a "
            "text of columns by template= in 1_eda"
        ) from None
    if len(sides) != 2:
        raise ValueError(f"pattern={pattern!r} must have {{text}} once, as in '{{text}} It was {{mask}}.'")
    return sides[0], sides[1]


def count_masks(pattern: str) -> int:
    """The number of masks in a pattern; raises ValueError as `read_pattern` does."""
    return sum(len(side) - 1 for side in read_pattern(pattern))


def make_pattern(pattern: str, tokenizer) -> Pattern:
    """A pattern (see `read_pattern`) in the tokens of a tokenizer. Raises ValueError for masks where the tokenizer has
    no mask token, and for a mask token that is written out."""
    before, behind = read_pattern(pattern)
    if count_masks(pattern) and tokenizer.mask_token_id is None:
        raise ValueError(f"pattern={pattern!r} has a mask, and this backbone's tokenizer has no mask token")
    start, end = special_ends(tokenizer)
    first, last = (_encode((tokenizer.mask_token or "").join(side).rstrip(), tokenizer) for side in (before, behind))
    at, at_last = (
        [place for place, token in enumerate(side) if token == tokenizer.mask_token_id] for side in (first, last)
    )
    if len(at) + 1 != len(before) or len(at_last) + 1 != len(behind):
        raise ValueError(f"pattern={pattern!r} has the mask token {tokenizer.mask_token!r} in it: write {{mask}}")
    return Pattern(
        np.array([*start, *first], dtype=np.int32),
        np.array([*last, *end], dtype=np.int32),
        (len(start), len(end)),
        [*(len(start) + place for place in at), *(place - len(last) - len(end) for place in at_last)],
        before[-1] != before[-1].rstrip(),
    )


def fill_pattern(
    texts: Sequence[str],
    tokenizer,
    pattern: Pattern,
    max_length: int,
    cache: Path | None = None,
    cut: str | Sequence[str] = "head",
    head_tokens: int | None = None,
    budget: Sequence[int] = (),
) -> Tokens:
    """Tokenise `texts`, each in the pattern, to `max_length` tokens; only the text is truncated, never the pattern.

    cut, head_tokens, budget, cache: as in `tokenize`; tokens are cached without the pattern, so that another one of the
    same length finds them. Raises ValueError for a `max_length` that leaves no room for text.
    """
    around = len(pattern.first) + len(pattern.last)
    rule = f"above {around}, the number of tokens of the pattern and of special ones"
    check_range("max_length", max_length, max_length > around, rule)
    texts = [f" {text}" for text in texts] if pattern.spaced else texts
    start, end = pattern.special
    tokens = tokenize(texts, tokenizer, max_length - around + start + end, cache, cut, head_tokens, budget)
    sizes = len(pattern.first), len(pattern.last)

    def surround(first: np.ndarray, inner: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.concatenate([first, inner[start : len(inner) - end], last], dtype=inner.dtype)

    found = [surround(pattern.first, ids, pattern.last) for ids in tokens]
    if tokens.columns is None:
        return join_tokens(found)
    ends = ([np.repeat(own[at], size) for at, size in zip((0, -1), sizes, strict=True)] for own in tokens.owners)
    owners = (surround(first, own, last) for (first, last), own in zip(ends, tokens.owners, strict=True))
    return join_tokens(found, owners)


def check_classes(verbalizer: Mapping[str, Sequence[str]], classes: Sequence[str]) -> None:
    """Raise ValueError for a class without words, and for words of an unknown class."""
    for name in verbalizer:
        if name not in classes:
            meant = did_you_mean(name, classes)
            raise ValueError(f"verbalizer: {name!r} is no class of the task: it has {', '.join(classes)}{meant}")
    for name in classes:
        if not verbalizer.get(name):
            raise ValueError(f"verbalizer: class {name!r} has no word; each of {', '.join(classes)} needs one")


def find_words(
    verbalizer: Mapping[str, Sequence[str]], classes: Sequence[str], pattern: str, tokenizer
) -> list[list[list[int]]]:
    """The tokens of each label word of each class, (classes, words, masks): the answers that count at the masks.

    verbalizer: class -> its words, such as {"1": ["great", "good"], "0": ["terrible"]}. A word is tokenised as at the
    first mask: after a space where there is one.
    Raises ValueError for a class without words, words of an unknown class, a word of two classes, a word that is not in
    the vocabulary, and one that is not as many tokens as the pattern has masks.
    """
    check_classes(verbalizer, classes)
    before, behind = read_pattern(pattern)
    context = (before if len(before) > 1 else behind)[0]
    found, owners = [], {}
    for name in classes:
        words = verbalizer[name]
        found.append([_read_word(word, name, context, count_masks(pattern), tokenizer) for word in words])
        for word, ids in zip(words, found[-1], strict=True):
            other = owners.setdefault(tuple(ids), name)
            if other != name:
                raise ValueError(f"verbalizer: {word!r} is a word of class {other!r} and of class {name!r}: drop one")
    return found


def _read_word(word: str, name: str, context: str, masks: int, tokenizer) -> list[int]:
    """The tokens of a word after `context`."""
    whole, known = _encode(context + word.strip(), tokenizer), _encode(context.rstrip(), tokenizer)
    ids = whole[len(known) :] if whole[: len(known)] == known else _encode(word.strip(), tokenizer)
    pieces, where = tokenizer.convert_ids_to_tokens(ids), f"verbalizer: {word!r} of class {name!r}"
    if pieces[:1] == ["▁"] and context == context.rstrip():  # SentencePiece begins each text as if after a space
        ids, pieces = ids[1:], pieces[1:]
    if not ids or tokenizer.unk_token_id in ids:
        raise ValueError(f"{where} has no token in the vocabulary of this backbone: choose another word")
    if len(ids) != masks:
        raise ValueError(
            f"{where} is {len(ids)} tokens ({', '.join(pieces)}), and the pattern has {masks} masks: choose words of "
            f"as many tokens, or write {'{mask}' * len(ids)}"
        )
    return ids


def _encode(text: str, tokenizer) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
