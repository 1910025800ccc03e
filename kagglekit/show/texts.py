"""Tables of texts: examples, worst rows, what each cleaner changes, and what each truncation keeps."""

import re
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from kagglekit.competition.submission import decide
from kagglekit.competition.task import Task
from kagglekit.competition.text_columns import SEPARATOR, SHOWN, show_columns, split_columns
from kagglekit.data.chunks import chunk_starts
from kagglekit.data.clean import CLEANERS, EXTRAS, check_cleaners, clean_texts, is_installed
from kagglekit.data.layout import chunk_columns, cut_columns, find_layout
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.data.truncation import TRUNCATIONS, key_parts
from kagglekit.scoring.metrics import CLASSES

MOST = 5  # texts that are kept as examples of a cleaner
THIRDS = ("beginning", "middle", "end")


def shorten(text: str, characters: int = 160) -> str:
    """A text on one line, without its middle where it is long."""
    text = " ".join(show_columns(text).split())
    half = characters // 2
    return text if len(text) <= characters else f"{text[:half]} ... {text[-half:]}"


def or_nothing(table: pd.DataFrame) -> pd.DataFrame | None:
    """The table, or None where it is empty: a notebook then shows nothing."""
    return table if len(table) else None


def show_examples(train: pd.DataFrame, task: Task, lengths: np.ndarray) -> pd.DataFrame:
    """The shortest, a median-length and the longest text of each class; for targets of the lowest, middle and highest.

    lengths: tokens of each row of train.
    """
    shown, order, label = [], np.argsort(lengths, kind="stable"), task.labels[0]
    if task.classes:
        rows = {name: order[(train[label].to_numpy() == name)[order]] for name in task.classes}
    elif task.kind == "multilabel":
        rows = {name: order[(train[name].astype(float).to_numpy() == 1)[order]] for name in task.labels}
    else:
        ranked, n = train[label].astype(float).argsort(kind="stable").to_numpy(), len(train)
        tenth = max(1, n // 10)
        middle = ranked[n // 2 - tenth // 2 : n // 2 + tenth]
        tenths = {"lowest": ranked[:tenth], "middle": middle, "highest": ranked[n - tenth :]}
        rows = {f"{name} {label}": some[np.argsort(lengths[some], kind="stable")] for name, some in tenths.items()}
    for name, found in rows.items():
        for size, place in zip(("shortest", "middle", "longest"), (0, len(found) // 2, -1), strict=True):
            if len(found):
                row = found[place]
                shown.append((name, size, lengths[row], train["id"].iloc[row], show_columns(train["text"].iloc[row])))
    return pd.DataFrame(shown, columns=["class", "text is", "tokens", "id", "text"]).set_index(["class", "text is"])


def row_losses(task: Task, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The loss of each row (rows,): minus log of the true class's probability, its mean over labels, or the mean
    absolute error over targets, each in units of its standard deviation."""
    predictions = predictions.astype(np.float64)
    if task.kind in CLASSES:
        return -np.log(predictions[np.arange(len(labels)), labels].clip(1e-12))
    if task.kind == "multilabel":
        return -np.log(np.where(labels == 1, predictions, 1 - predictions).clip(1e-12)).mean(axis=1)
    labels = labels.reshape(predictions.shape)
    return (np.abs(labels - predictions) / np.maximum(labels.std(axis=0), 1e-12)).mean(axis=1)


def most_wrong(task: Task, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The column of the predictions that is most wrong in each row (rows,): of classes the predicted one, of targets by
    errors in units of their standard deviation."""
    if task.classes:
        return predictions.argmax(axis=1)
    truth = np.asarray(labels).reshape(predictions.shape)
    scale = np.maximum(truth.std(axis=0), 1e-12) if task.kind == "regression" else 1.0
    return (np.abs(truth - predictions) / scale).argmax(axis=1)


def worst_rows(
    task: Task, train: pd.DataFrame, labels: np.ndarray, predictions: np.ndarray, n: int = 15
) -> pd.DataFrame:
    """The `n` rows with the highest `row_losses`: id, label, prediction, loss and text. Of several labels or targets
    the most wrong one, and which labels the row has."""
    losses = row_losses(task, labels, predictions)
    worst = np.argsort(-losses, kind="stable")[:n]
    table = train.iloc[worst][["id", *(task.labels if task.classes else ())]].reset_index(drop=True)
    columns, predictions, labels = most_wrong(task, labels, predictions)[worst], predictions[worst], labels[worst]
    if task.classes:
        names = [task.classes[k] for k in decide(task, predictions)]
        sure = predictions.max(axis=1)
        scale = f" of 0 to {len(task.classes) - 1}" if task.kind == "ordinal" else ""
        table["predicted"] = [f"{name} ({value:.2f}{scale})" for name, value in zip(names, sure, strict=True)]
    else:
        truth, places = np.reshape(labels, predictions.shape), (np.arange(len(worst)), columns)
        if task.kind == "multilabel":
            table["labels"] = [", ".join(np.array(task.labels)[row == 1]) or "none" for row in truth]
        if len(task.labels) > 1:
            table["most wrong"] = np.array(task.labels)[columns]
        table["true" if len(task.labels) > 1 else task.labels[0]] = truth[places].round(4)
        table["predicted"] = predictions[places].round(4)
    return table.assign(loss=losses[worst].round(2), text=[show_columns(text) for text in train["text"].iloc[worst]])


def count_changes(texts: Sequence[str]) -> pd.DataFrame:
    """How many texts each cleaner changes, by itself; a line for every cleaner, also for those not installed.

    Columns: `texts` that change, their `share` of all, `characters` added (below 0: removed) per changed text, and what
    to `install` first. In `attrs`, for `show_cleaning`: "examples", a few changed texts of each cleaner, in pairs.
    """
    table, examples = {}, {}
    for name in CLEANERS:
        if is_installed(name):
            pairs = [pair for pair in zip(texts, clean_texts(texts, [name]), strict=True) if pair[0] != pair[1]]
            added = sum(len(after) - len(text) for text, after in pairs) / max(len(pairs), 1)
            table[name] = (len(pairs), len(pairs) / max(len(texts), 1), added, "")
            examples[name] = pairs[:MOST]
        else:
            table[name] = (pd.NA, float("nan"), float("nan"), f"pip install {EXTRAS[name]}")
    columns = ["texts", "share", "characters", "install"]
    counted = pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("cleaner")
    counted.attrs |= {"examples": examples, "percent": ["share"]}
    return counted


def show_cleaning(
    texts: Sequence[str],
    names: Sequence[str] = (),
    n: int = 2,
    characters: int = 120,
    counted: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`n` texts (at most 5) before and after each cleaner, around the first change, and how many texts it changes.

    names: applied one after another, as in training; empty: every installed cleaner by itself, as `counted`, a table of
    `count_changes`, has them; None: it is made of `texts`. Cleaners that change no text have no line. Invisible
    characters are written as \\u200b, each of several spaces as ␣, omissions as ...
    """
    check_cleaners(names)
    rows, now = [], list(texts)
    for name in names:
        after = clean_texts(now, [name])
        changed = [pair for pair in zip(now, after, strict=True) if pair[0] != pair[1]]
        rows += [(name, len(changed), *_around_change(*pair, characters)) for pair in changed[:n]]
        now = after
    if not names:
        counted = count_changes(now) if counted is None else counted
        for name, pairs in counted.attrs["examples"].items():
            rows += [(name, counted.loc[name, "texts"], *_around_change(*pair, characters)) for pair in pairs[:n]]
    index = ["cleaner", "texts changed"]
    return pd.DataFrame(rows, columns=[*index, "before", "after"]).set_index(index)


def _around_change(before: str, after: str, characters: int) -> list[str]:
    """Both texts from a little before the first difference."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = max(first - characters // 3, 0)
    return [_visible(text, start, start + characters) for text in (before, after)]


def _visible(text: str, start: int, stop: int) -> str:
    text = text.replace(SEPARATOR, SHOWN)
    ends = re.sub("^ +| +$| {2,}", lambda spaces: "␣" * len(spaces[0]), text)[start:stop]  # as long as `text`
    shown = "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in ends)
    return f"{'... ' if start else ''}{shown}{' ...' if stop < len(text) else ''}"


def compare_truncation(
    texts: Sequence[str],
    tokenizer,
    max_lengths: Sequence[int] = (128, 256, 512),
    stride: int = 0,
    max_chunks: int | None = None,
    rows: int = 2000,
    seed: int = 0,
    tokens: Tokens | None = None,
) -> pd.DataFrame:
    """What every truncation, and splitting into chunks, keeps at each max_length; a line each.

    Columns: `texts cut`, the share of texts that lose something; `tokens kept`, the share of all tokens; and for texts
    longer than max_length, the mean share that is kept of the whole, and of its beginning, middle and end, a third
    each. `tokens read` and `chunks` per text are the cost.
    stride, max_chunks: of the chunks. rows: at most so many texts are used, drawn by `seed`. tokens: of the whole texts
    (and of others after them), where they are known already.
    """
    texts, tokens = _draw(texts, tokens, tokenizer, rows, seed)
    special, table = find_layout(tokenizer).special(len(split_columns(texts[0]))), {}
    columns = _split_columns(tokens, tokenizer)
    sizes = [[len(body) for body in bodies] for bodies in columns]
    parts, totals = _find_key_parts(texts, columns, tokenizer), np.array([sum(own) for own in sizes])
    for max_length in max_lengths:
        room = max_length - special
        for cut in TRUNCATIONS:
            kept = [[np.concatenate(_kept_places(*own, room, cut))] for own in zip(sizes, parts, strict=True)]
            table[max_length, cut] = _summarise(kept, totals, room, special)
        starts = partial(chunk_starts, stride=stride, max_chunks=max_chunks)
        chunks = [[np.concatenate(piece) for piece in chunk_columns(_places(own), room, starts)] for own in sizes]
        table[max_length, "chunks"] = _summarise(chunks, totals, room, special)
    found = pd.DataFrame.from_dict(table, orient="index").rename_axis(["max_length", "cut"])
    found.attrs["percent"] = ["texts cut", "tokens kept", "of long texts", *THIRDS]
    return found


def show_truncation(
    texts: Sequence[str],
    tokenizer,
    max_length: int,
    characters: int = 160,
    rows: int = 2000,
    seed: int = 0,
    tokens: Tokens | None = None,
) -> pd.DataFrame:
    """What each truncation keeps of one text, a median-length one of those longer than `max_length`.

    [...] marks an omission; long pieces are shortened to `characters`. rows, seed, tokens: as in `compare_truncation`.
    """
    texts, tokens = _draw(texts, tokens, tokenizer, rows, seed)
    lengths = tokens.lengths
    order = np.argsort(lengths, kind="stable")
    longer = order[lengths[order] > max_length]
    chosen = longer[len(longer) // 2] if len(longer) else order[-1]
    columns, shown = _split_columns(tokens[[chosen]], tokenizer), {}
    (bodies,), (parts,) = columns, _find_key_parts(texts[[chosen]], columns, tokenizer)
    sizes, body = [len(body) for body in bodies], np.concatenate(bodies)
    for cut in TRUNCATIONS:
        kept = _kept_places(sizes, parts, max_length - find_layout(tokenizer).special(len(sizes)), cut)
        pieces = (np.split(body[own], np.flatnonzero(np.diff(own) > 1) + 1) for own in kept)
        read = (" [...] ".join(shorten(tokenizer.decode(piece), characters) for piece in own) for own in pieces)
        shown[cut] = {"tokens": f"{sum(map(len, kept))} of {len(body)}", "what is read": f" {SHOWN} ".join(read)}
    found = pd.DataFrame.from_dict(shown, orient="index").rename_axis("cut")
    found.attrs["characters"] = 3 * characters
    return found


def _draw(texts: Sequence[str], tokens: Tokens | None, tokenizer, rows: int, seed: int) -> tuple[np.ndarray, Tokens]:
    """At most `rows` texts, and the tokens of each whole."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(texts))[:rows])
    drawn = np.array(texts, dtype=object)[chosen]
    return drawn, tokenize(drawn, tokenizer, WHOLE) if tokens is None else tokens[chosen]


def _summarise(read: list[list[np.ndarray]], sizes: np.ndarray, room: int, special: int) -> dict[str, float]:
    """A line of `compare_truncation`. read: for each text, the positions of the tokens of each piece that is read."""
    places = [pieces[0] if len(pieces) == 1 else np.unique(np.concatenate(pieces)) for pieces in read]
    kept = np.array([len(p) for p in places])
    long = [(p, n) for p, n in zip(places, sizes, strict=True) if n > room]
    thirds = np.mean([_third_shares(p, n) for p, n in long], axis=0) if long else np.ones(3)
    return {
        "texts cut": np.mean(kept < sizes),
        "tokens kept": kept.sum() / max(sizes.sum(), 1),
        "of long texts": np.mean([len(p) / n for p, n in long]) if long else 1.0,
        **dict(zip(THIRDS, thirds, strict=True)),
        "tokens read": np.mean([sum(map(len, pieces)) + special * len(pieces) for pieces in read]),
        "chunks": np.mean([len(pieces) for pieces in read]),
    }


def _third_shares(places: np.ndarray, n: int) -> np.ndarray:
    """The share that is kept of each third of a text of `n` tokens (3,)."""
    third = 3 * np.arange(n) // n
    return np.bincount(third[places], minlength=3) / np.bincount(third, minlength=3).clip(1)


def _split_columns(tokens: Tokens, tokenizer) -> list[list[np.ndarray]]:
    """The tokens of each column of each whole text, without special ones."""
    layout = find_layout(tokenizer)
    return [layout.split(*text) for text in zip(tokens, tokens.owners, strict=True)]


def _places(sizes: Sequence[int]) -> list[np.ndarray]:
    """The positions of the tokens of each column in a text, special tokens not counted."""
    places = np.arange(sum(sizes))
    return np.split(places, np.cumsum(sizes)[:-1]) if len(sizes) > 1 else [places]


def _kept_places(sizes: Sequence[int], key_parts: Sequence[np.ndarray], room: int, cut: str) -> list[np.ndarray]:
    """The positions that a truncation keeps of each column of a text. sizes: tokens of its columns."""
    if sum(sizes) <= room:
        return _places(sizes)
    return cut_columns(key_parts if cut == "key_parts" else _places(sizes), room, [TRUNCATIONS[cut]] * len(sizes))


def _find_key_parts(texts: Sequence[str], columns: list[list[np.ndarray]], tokenizer) -> list[list[np.ndarray]]:
    """The positions of the tokens of title, first and last paragraph in each column: a beginning and an end of it.

    columns: the tokens of each column of each text."""
    short = [SEPARATOR.join(map(key_parts, split_columns(text))) for text in texts]
    changed = [number for number, text in enumerate(texts) if short[number] != text]
    read = tokenize([short[number] for number in changed], tokenizer, WHOLE) if changed else ()
    shorter, found = list(columns), []
    for number, parts in zip(changed, _split_columns(read, tokenizer) if changed else (), strict=True):
        shorter[number] = parts
    for whole, parts in zip(columns, shorter, strict=True):
        found.append([])
        for places, ids, kept in zip(_places(list(map(len, whole))), whole, parts, strict=True):
            n = min(len(ids), len(kept))
            same = np.append(ids[:n] == kept[:n], False)
            head = int(same.argmin())  # where they differ first
            found[-1].append(np.concatenate([places[:head], places[len(ids) - n + head :]]))
    return found
