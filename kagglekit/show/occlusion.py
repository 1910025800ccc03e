"""Occlusion: which words moved a prediction. Each is left out, and the model predicts again (Zeiler, Fergus, 2014)."""

import html
import re
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.special import logit

from kagglekit.competition.task import Task
from kagglekit.competition.text_columns import show_columns
from kagglekit.data.words import Words, split_words
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import Run
from kagglekit.scoring.metrics import CLASSES
from kagglekit.show.texts import most_wrong, row_losses
from kagglekit.training.predict import SavedModels, free_memory
from kagglekit.training.recipe import Recipe

WORDS = 32  # of a text each of which is left out by itself
PIECES = 10  # that a longer one is cut into, and its strongest piece again
AROUND = 12  # words that are shown on each side of a marked one
MARKED = 5  # pieces of a text, at most
LEAST = 0.1  # effect of a piece that is marked, and a quarter of the strongest one's: of log-odds
LEAST_OF_VALUES = 0.02  # the same in standard deviations of a value
Predict = Callable[[Sequence[str]], np.ndarray]  # texts -> what one column of the predictions is for each, (texts,)


@dataclass(frozen=True)
class Piece:
    """Neighbouring words of a text, and how much higher the prediction is with them than without."""

    start: int
    stop: int
    effect: float


@dataclass(frozen=True)
class Explained:
    """A row: in words what was predicted and what is true, its words, and the pieces that they were left out in.

    unit: of the effects, "log-odds" or "value". least: the effect of a piece that is worth a mark.
    """

    heading: str
    words: Words
    pieces: list[Piece]
    unit: str = "log-odds"
    least: float = LEAST


def find_effects(predict: Predict, text: str, read: int | None = None) -> tuple[Words, list[Piece]]:
    """The pieces of a text and their effects. Of up to 32 words each is a piece; a longer text is cut into 10 pieces,
    and the strongest of them again. Costs at most 33 predictions.

    read: words from the beginning that count, where the model reads no more. Chinese is split by jieba where it is
    installed, else by characters.
    """
    words = split_words(text, "jieba" if find_spec("jieba") else "characters")
    (full,) = predict([text])

    def measure(start: int, stop: int, most: int) -> list[Piece]:
        ends = np.linspace(start, stop, min(most, stop - start) + 1).round().astype(int).tolist()
        spans = list(pairwise(ends))
        without = predict([str(_leave_out(words, *span)) for span in spans]) if spans else ()
        return [Piece(*span, float(full - value)) for span, value in zip(spans, without, strict=True)]

    count = min(len(words), read or len(words))
    pieces = measure(0, count, PIECES if count > WORDS else WORDS)
    strongest = max(pieces, key=lambda piece: abs(piece.effect), default=None)
    if strongest and strongest.stop - strongest.start > 1:
        pieces.remove(strongest)
        pieces += measure(strongest.start, strongest.stop, PIECES)
    return words, sorted(pieces, key=lambda piece: piece.start)


def _leave_out(words: Words, start: int, stop: int) -> Words:
    less = deepcopy(words)
    for place in reversed(range(start, stop)):
        less.delete(place)
    return less


def explain_errors(
    record: RunRecord,
    task: Task,
    train: pd.DataFrame,
    labels: np.ndarray,
    run: Run,
    n: int = 12,
    seconds: float = 2.0,
) -> list[Explained]:
    """The worst rows of a run, explained by the saved models of the fold that held each out, the worst first.

    train: with the columns of the run's recipe; labels: of all its rows; run: as from `read_run`. Of classes the
    log-odds of the predicted one are explained (a probability near 1 hardly moves), of labels those of the one that is
    most wrong, of targets the value that is. seconds: for all of
    them; the first one shows how many rows that is. Empty for runs that keep no models: TF-IDF, frozen embeddings,
    SetFit, blends.
    """
    models, knobs, explained = record.saved_models, Recipe.read(record.recipe), {}
    truth, oof, fold_of = labels[run.rows], run.oof_array, run.oof["fold"].to_numpy()
    losses, columns = row_losses(task, truth, oof), most_wrong(task, truth, oof)
    odds, spread = task.kind in (*CLASSES, "multilabel"), np.asarray(truth).reshape(len(truth), -1).std(axis=0)
    order = np.argsort(-losses, kind="stable")[: 20 * n]
    texts = train["text"].iloc[run.rows[order]].reset_index(drop=True).drop_duplicates()  # each once
    worst = [row for row in order[texts.index[:n]].tolist() if fold_of[row] in models]
    read = knobs.max_length * max(knobs.chunks, 1) if knobs.truncation == "head" and len(task.text) == 1 else None
    for fold in dict.fromkeys(fold_of[worst].tolist()):
        saved = SavedModels(models[fold], record.recipe, keep=True)
        for row in [row for row in worst if fold_of[row] == fold]:
            began, place = time.monotonic(), run.rows[row]
            column, id = int(columns[row]), train["id"].iloc[place]
            heading = _describe(task, id, labels[place], oof[row], column)

            def predict(texts: Sequence[str], saved=saved, place=place, column=column) -> np.ndarray:
                rows = train.iloc[[place] * len(texts)].assign(text=list(texts))
                found = saved.predict(rows, of_train=True)[:, column].astype(np.float64)
                return logit(found.clip(1e-6, 1 - 1e-6)) if odds else found

            unit = ("log-odds", LEAST) if odds else ("value", LEAST_OF_VALUES * float(spread[column]))
            explained[row] = Explained(heading, *find_effects(predict, train["text"].iloc[place], read), *unit)
            if len(explained) == 1:  # so many rows are explained as there is time for
                worst = worst[: max(int(seconds / (time.monotonic() - began)), 1)]
        del saved
        free_memory()
    return [explained[row] for row in worst if row in explained]


def _describe(task: Task, id: str, label: np.ndarray, prediction: np.ndarray, column: int) -> str:
    """What was predicted of a row in a column, and what is true."""
    if task.kind in CLASSES:
        return f"{id}: {task.classes[column]} ({prediction[column]:.2f}), in truth {task.classes[label]}"
    if task.kind == "ordinal":
        scale = f"0 to {len(task.classes) - 1}"
        return f"{id}: {prediction[0]:.2f} of {scale}, in truth {label} ({task.classes[label]})"
    return f"{id}: {task.labels[column]} {prediction[column]:.3g}, in truth {np.reshape(label, -1)[column]:.3g}"


def render(explained: Sequence[Explained]) -> str:
    """The rows as HTML. A word that raises the prediction is underlined and marked with ▲, one that lowers it has a
    dotted line and ▼, each with its effect; colours only repeat that. Of long texts what is around marked words."""
    words = (
        "<p><span style='text-decoration: underline'>word</span><sup>▲0.5</sup>: with it, the "
        f"{explained[0].unit if explained else 'value'} of what is predicted is 0.5 higher; "
        "<span style='text-decoration: underline dotted'>word</span><sup>▼0.5</sup>: 0.5 lower.</p>"
    )
    rows = [f"<p><b>{html.escape(one.heading)}</b><br>{_mark(one)}</p>" for one in explained]
    return "\n".join([words, *rows])


def _mark(one: Explained) -> str:
    """A text with its strongest pieces marked."""
    words, pieces = one.words, one.pieces
    gaps = [html.escape(re.sub(r"\s+", " ", show_columns(gap))) for gap in words.gaps]
    plain, top = [html.escape(word) for word in words.words], max((abs(piece.effect) for piece in pieces), default=0.0)
    if top < one.least:
        text = "".join(gap + word for gap, word in zip(gaps, plain[: 5 * AROUND], strict=False))
        return f"{text}{' …' if len(plain) > 5 * AROUND else gaps[-1]} <i>(leaving words out changes little)</i>"
    strong = sorted(pieces, key=lambda piece: -abs(piece.effect))[:MARKED]
    marked = {piece.start: piece for piece in strong if abs(piece.effect) >= max(top / 4, one.least)}
    near = {k for one in marked.values() for k in range(one.start - AROUND, one.stop + AROUND)}
    near |= set(range(len(plain) if len(plain) <= 5 * AROUND else 0))
    out, place = [], 0
    while place < len(plain):
        if place not in near:
            out += [] if out and out[-1] == " …" else [" …"]
            place += 1
            continue
        stop, text = place + 1, plain[place]
        if place in marked:
            stop = marked[place].stop
            text = _dress(marked[place].effect, top, text + "".join(gaps[k] + plain[k] for k in range(place + 1, stop)))
        out.append(gaps[place] + text)
        place = stop
    return "".join([*out, gaps[-1] if len(plain) - 1 in near else ""])


def _dress(effect: float, top: float, text: str) -> str:
    """A marked piece: darker the stronger."""
    colour = f"rgba({'213,94,0' if effect > 0 else '0,114,178'},{0.1 + 0.4 * abs(effect) / top:.2f})"
    style = f"background-color: {colour}; text-decoration: underline{' dotted' * (effect < 0)}"
    return f"<span style='{style}'>{text}</span><sup>{'▲' if effect > 0 else '▼'}{abs(effect):.2g}</sup>"
