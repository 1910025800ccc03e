"""Prompts: a pattern around the columns of each text, in a chat or not, and the words that answer it.

PET, pattern-exploiting training (Schick and Schütze, 2021, arXiv 2001.07676): a masked-language model predicts a word
at the masks. A language model that reads forward predicts it behind the last token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from kagglekit.competition.text_columns import read_template, split_columns
from kagglekit.data.tokens import Tokens, join_tokens, special_ends, tokenize, tokenize_columns
from kagglekit.options import check_range, did_you_mean

PLACE = "\ufdd1"  # of a column, while a chat template is filled in: a noncharacter, never part of a text
TODAY = "26 Jul 2024"  # for chat templates that write the date: a prompt is the same on every day
FIXED_DAY = f"{{% macro strftime_now(form) %}}{TODAY}{{% endmacro %}}{{{{ '' }}}}"  # before such a template


@dataclass(frozen=True)
class Pattern:
    """The tokens around the columns of every text.

    around: before the first column, between two, and behind the last, with special tokens, int32 (tokens,) each.
    columns: the number of the text column at each place; empty: the whole text, at one place. own: how many special
    tokens the tokenizer puts before and behind a text by itself. masks: positions of the masks in the whole: 0 is its
    first token, -1 its last, which predicts the answer where a tokenizer has no mask. spaced: whether each column
    begins with a space. context: the text right before the first mask. begun: how many of its last tokens are those
    with which all words that may answer begin.
    """

    around: list[np.ndarray]
    columns: list[int]
    own: tuple[int, int]
    masks: list[int]
    spaced: list[bool]
    context: str
    begun: int = 0

    def special(self, columns: int) -> int:
        """The number of tokens of the pattern; see `Layout.special`."""
        return sum(map(len, self.around))

    def join(self, bodies: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of a text from those at the places; all are of one column for the model, see `Layout.join`."""
        pairs = zip(self.around, [*bodies, bodies[0][:0]], strict=True)
        ids = np.concatenate([part for pair in pairs for part in pair]).astype(np.int32)
        return ids, np.zeros(len(ids), dtype=np.int8)


def read_pattern(pattern: str) -> tuple[list[list[str]], list[str]]:
    """The parts of a pattern before, between and behind its columns, each split at its masks (one piece more than
    masks); and the names of the columns, "text" for the whole text.

    pattern: such as "{text} It was {mask}." or "Question: {question} Answer: {answer} Is it right? {mask}"; a brace is
    written {{ or }}. Raises ValueError for a lone brace, for a pattern without a column or with one twice, and for a
    mask between two.
    """
    sides, names = [[""]], []
    for literal, name in read_template(pattern, "pattern"):
        sides[-1][-1] += literal
        if name == "mask":
            sides[-1].append("")
        elif name:
            names.append(name)
            sides.append([""])
    if not names:
        raise ValueError(
            f"pattern={pattern!r} has no text: write {{text}}, or text columns, as in '{{text}} It was {{mask}}.'"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"pattern={pattern!r} has {{{twice[0]}}} twice: write it once")
    if any(len(side) > 1 for side in sides[1:-1]):
        raise ValueError(
            f"pattern={pattern!r} has a mask between two columns: it stands before the first or behind the last"
        )
    return sides, names


def count_masks(pattern: str) -> int:
    """The number of masks in a pattern; raises ValueError as `read_pattern` does."""
    return sum(len(side) - 1 for side in read_pattern(pattern)[0])


def make_pattern(
    pattern: str,
    tokenizer,
    columns: Sequence[str] = (),
    chat: bool = False,
    system: str = "",
    words: Iterable[str] = (),
) -> Pattern:
    """A pattern (see `read_pattern`) in the tokens of a tokenizer.

    columns: the text columns of the task, in their order, where the pattern names them. chat, system: see `in_chat`.
    Where a tokenizer has no mask token, as those of language models that read forward, the answer is predicted at the
    last token: the mask stands at the very end, and is none. words: that may answer there; tokens with which all of
    them begin, such as the space before digits, are read with the pattern: their odds are those of the whole words.
    Raises ValueError for a mask that stands elsewhere, and for a mask token that is written out.
    """
    sides, names = read_pattern(pattern)
    sides = in_chat(sides, tokenizer, system) if chat else sides
    own = special_ends(tokenizer)
    start, end = (own[0][:0], own[1][:0]) if chat else own  # a chat template has its own
    context = next((side[0] for side in sides if len(side) > 1), "")
    masks, forward = sum(len(side) - 1 for side in sides), tokenizer.mask_token_id is None
    if masks and forward:
        if masks > 1 or sides[-1][1:] != [""]:
            raise ValueError(
                f"pattern={pattern!r}: this backbone's tokenizer has no mask token, as of models that read forward: "
                "write one {mask} at the very end, where the answer follows"
            )
        sides, end = [*sides[:-1], sides[-1][:1]], end[:0]
    mask, written = tokenizer.mask_token or "", [side[-1].rstrip(" ") != side[-1] for side in sides[:-1]]
    texts = [*(mask.join(side).rstrip(" ") for side in sides[:-1])]
    texts.append(sides[-1][0].rstrip(" ") if masks and forward else mask.join(sides[-1]).rstrip())
    around = [_encode(text, tokenizer) for text in texts]
    at = [[n for n, token in enumerate(side) if token == tokenizer.mask_token_id] for side in around]
    if not forward and [len(found) + 1 for found in at] != [len(side) for side in sides]:
        raise ValueError(f"pattern={pattern!r} has the mask token {tokenizer.mask_token!r} in it: write {{mask}}")
    begun = _shared_beginning(words, context, tokenizer) if masks and forward else []
    around[0], around[-1] = [*start, *around[0]], [*around[-1], *begun, *end]
    places = [len(start) + n for n in at[0]] + [n - len(around[-1]) for n in at[-1]]
    return Pattern(
        [np.array(side, dtype=np.int32) for side in around],
        [] if names == ["text"] else [columns.index(name) for name in names],
        (len(own[0]), len(own[1])),
        [-1] if masks and forward else places,
        written,
        context,
        len(begun),
    )


def in_chat(sides: list[list[str]], tokenizer, system: str = "") -> list[list[str]]:
    """The sides of a pattern, see `read_pattern`, as the user's turn of the tokenizer's chat template.

    A mask at the end of the pattern, or none, stands where the model's reply begins; no model thinks before. system: of
    the turn before, where there is a text. Raises ValueError for a tokenizer without a template, one that has no system
    turn or changes what it is given, and a mask elsewhere.
    """
    from jinja2 import TemplateError

    if tokenizer.chat_template is None:
        raise ValueError(
            "chat=True: this backbone's tokenizer has no chat template, as encoders and base models have none: choose "
            "an instruct model, or leave chat out"
        )
    if any(len(side) > 1 for side in sides[:-1]) or sides[-1][1:] not in ([], [""]):
        raise ValueError(
            "chat=True: the model replies behind the pattern: write {mask} at its very end, or leave it out"
        )
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": PLACE.join(side[0] for side in sides).rstrip()})
    options = {"enable_thinking": False, "date_string": TODAY, "add_generation_prompt": True}
    options["chat_template"] = FIXED_DAY + tokenizer.get_chat_template()
    try:
        whole = tokenizer.apply_chat_template(turns, tokenize=False, **options)
    except TemplateError as error:
        what = f"takes no system text: leave system={system!r} out" if system else "cannot be filled in"
        raise ValueError(f"chat=True: the chat template of this backbone {what} ({error})") from error
    parts = whole.split(PLACE)
    if len(parts) != len(sides):
        raise ValueError(
            "chat=True: the chat template of this backbone repeats or drops what the user says: leave chat out"
        )
    return [*([part] for part in parts[:-1]), [parts[-1], ""]]


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
    around = sum(map(len, pattern.around))
    rule = f"above {around}, the number of tokens of the pattern and of special ones"
    check_range("max_length", max_length, max_length > around, rule)
    if pattern.columns:
        places = list(zip(pattern.columns, pattern.spaced, strict=True))
        rows = [[" " * spaced + row[at] for at, spaced in places] for row in map(split_columns, texts)]
        cut, budget = (
            [given[at] for at in pattern.columns] if given and not isinstance(given, str) else given
            for given in (cut, budget)
        )
        found = tokenize_columns(rows, tokenizer, max_length, pattern, cache, cut, head_tokens, budget)
        return Tokens(found.flat, found.lengths)
    texts = [f" {text}" for text in texts] if pattern.spaced[0] else texts
    (first, last), (start, end) = pattern.around, pattern.own
    tokens = tokenize(texts, tokenizer, max_length - around + start + end, cache, cut, head_tokens, budget)
    sizes = len(first), len(last)

    def surround(first: np.ndarray, inner: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.concatenate([first, inner[start : len(inner) - end], last], dtype=inner.dtype)

    found = [surround(first, ids, last) for ids in tokens]
    if tokens.columns is None:
        return join_tokens(found)
    ends = ([np.repeat(own[at], size) for at, size in zip((0, -1), sizes, strict=True)] for own in tokens.owners)
    owners = (surround(before, own, behind) for (before, behind), own in zip(ends, tokens.owners, strict=True))
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
    verbalizer: Mapping[str, Sequence[str]], classes: Sequence[str], pattern: Pattern, tokenizer
) -> list[list[list[int]]]:
    """The tokens of each label word of each class, (classes, words, masks): the answers that count at the masks.

    verbalizer: class -> its words, such as {"1": ["great", "good"], "0": ["terrible"]}. A word is tokenised as at the
    first mask: after a space where there is one.
    Raises ValueError for a class without words, words of an unknown class, a word of two classes, a word that is not in
    the vocabulary, and one that is not as many tokens as the pattern has masks.
    """
    check_classes(verbalizer, classes)
    found, owners = [], {}
    for name in classes:
        words = verbalizer[name]
        found.append([_read_word(word, name, pattern, tokenizer) for word in words])
        for word, ids in zip(words, found[-1], strict=True):
            other = owners.setdefault(tuple(ids), name)
            if other != name:
                raise ValueError(f"verbalizer: {word!r} is a word of class {other!r} and of class {name!r}: drop one")
    return found


def _read_word(word: str, name: str, pattern: Pattern, tokenizer) -> list[int]:
    """The tokens of a word at the masks of a pattern."""
    masks, ids = len(pattern.masks), _encode_word(word, pattern.context, tokenizer)
    pieces, where = tokenizer.convert_ids_to_tokens(ids), f"verbalizer: {word!r} of class {name!r}"
    if not ids or tokenizer.unk_token_id in ids:
        raise ValueError(f"{where} has no token in the vocabulary of this backbone: choose another word")
    if len(ids) == pattern.begun + masks:
        return ids[pattern.begun :]
    what = f"{where} is {len(ids)} tokens ({', '.join(pieces)})"
    if tokenizer.mask_token_id is None:
        raise ValueError(
            f"{what}, and one token is predicted behind the prompt: choose words of one token, or letters, such as "
            'verbalizer={"cat": ["A"], "dog": ["B"]} with {classes} in the pattern'
        )
    raise ValueError(
        f"{what}, and the pattern has {masks} masks: choose words of as many tokens, or write {'{mask}' * len(ids)}"
    )


def _encode_word(word: str, context: str, tokenizer) -> list[int]:
    """The tokens of a word behind a context."""
    whole, known = _encode(context + word.strip(), tokenizer), _encode(context.rstrip(" "), tokenizer)
    ids = whole[len(known) :] if whole[: len(known)] == known else _encode(word.strip(), tokenizer)
    spaced = tokenizer.convert_ids_to_tokens(ids[:1]) == ["▁"]
    return ids[1:] if spaced and context == context.rstrip() else ids  # SentencePiece begins a text as after a space


def _shared_beginning(words: Iterable[str], context: str, tokenizer) -> list[int]:
    """The tokens with which all words begin behind a context; each keeps one of its own."""
    begins = [_encode_word(word, context, tokenizer)[:-1] for word in words]
    same = takewhile(lambda tokens: len({*tokens}) == 1, zip(*begins, strict=False))
    return [tokens[0] for tokens in same]


def _encode(text: str, tokenizer) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
