"""What goes with the labels: words that speak for each class, lengths by class, and classes by a category column."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix
from scipy.stats import rankdata

from kagglekit.competition.columns import has_few_values
from kagglekit.competition.guess import UNSPACED
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.data.minhash import find_words
from kagglekit.scoring.metrics import CLASSES
from kagglekit.show.style import BLUE, ORANGE, PALE, make_axes, name_rows, note, styled

MOST = 20  # groups that are shown, the largest
ROWS, CHARACTERS = 20_000, 2_000  # of texts whose words are counted: more cost time and say the same
PRIOR = 10  # texts
FEWEST, TWICE = 3, 2  # texts of a group with a word that speaks for it; how much more of them have it than of others
LITTLE, MUCH = 0.02, 0.15  # share of the variance that something explains


def label_groups(kind: str, labels: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Rows by what their label says, name -> bool (rows,): of each class, or with each label; of one number the fifths,
    from the lowest, of several numbers the highest fifth of each. Of many classes the 20 largest.

    labels: from `encode_labels`; names: classes, or else label columns.
    """
    labels = np.asarray(labels)
    if kind in (*CLASSES, "ordinal"):
        found = {str(name): labels == number for number, name in enumerate(names)}
    elif kind == "multilabel":
        found = {str(name): column == 1 for name, column in zip(names, labels.T, strict=True)}
    else:
        columns = labels.reshape(len(labels), -1).T
        if len(columns) == 1:
            edges = np.unique(np.quantile(columns[0], [0.2, 0.4, 0.6, 0.8]))
            fifths = np.searchsorted(edges, columns[0], side="right")
            parts = [columns[0][fifths == k] for k in np.unique(fifths)]
            ends = [f"{part.min():.4g} to {part.max():.4g}" if np.ptp(part) else f"{part.max():.4g}" for part in parts]
            return {name: fifths == k for name, k in zip(ends, np.unique(fifths), strict=True)}
        found = {f"high {n}": c > max(np.quantile(c, 0.8), c.min()) for n, c in zip(names, columns, strict=True)}
    found = {name: rows for name, rows in found.items() if rows.any()}
    largest = sorted(found, key=lambda name: -found[name].sum())[:MOST]
    return {name: found[name] for name in found if name in largest}


@dataclass(frozen=True)
class WordCounts:
    """Which words (texts, words) texts have; words are in lower case, and two characters in scripts without spaces."""

    words: np.ndarray
    has: csr_matrix


def count_words(texts: Sequence[str]) -> WordCounts:
    """The words of texts. 20,000 texts of 60 words take a second or two."""
    numbers = defaultdict()
    numbers.default_factory = numbers.__len__
    rows = [
        np.fromiter(map(numbers.__getitem__, find_words(text.replace(SEPARATOR, " "))), dtype=np.int64)
        for text in texts
    ]
    words = np.array([*numbers], dtype=object)
    unspaced = np.array([UNSPACED.match(word) is not None for word in words], dtype=bool)
    flat, owners = (
        np.concatenate([*rows, np.empty(0, np.int64)]),
        np.repeat(np.arange(len(texts)), list(map(len, rows))),
    )
    if len(flat) and unspaced[flat].mean() > 0.3:
        pair = (owners[1:] == owners[:-1]) & unspaced[flat[1:]] & unspaced[flat[:-1]]
        codes, found = np.unique(flat[:-1][pair] * len(words) + flat[1:][pair], return_inverse=True)
        words = np.array([words[code // len(words)] + words[code % len(words)] for code in codes], dtype=object)
        flat, owners = found, owners[1:][pair]
    has = csr_matrix((np.ones(len(flat), dtype=np.int32), (owners, flat)), (len(texts), max(len(words), 1)))
    has.sum_duplicates()
    has.data[:] = 1
    return WordCounts(words, has)


def class_words(counts: WordCounts, groups: Mapping[str, np.ndarray], n: int = 10, sure: float = 3.0) -> pd.DataFrame:
    """The words that speak for each group of rows against all other rows, the surest first; a row each.

    By the log-odds of a text to have the word, with `PRIOR` texts like all others as prior, over its standard error, at
    least `sure` (Monroe, Colaresi and Quinn, 2008), and at least twice as frequent as in other texts. Behind a word:
    the % of the group's texts that have it, and of all others. Columns texts and words; a group without any such word
    has no row.
    """
    total, found, rows = np.asarray(counts.has.sum(axis=0)).ravel(), {}, counts.has.shape[0]
    share = np.clip(total / rows, 0.5 / rows, 1 - 0.5 / rows)
    prior, rest, longer = PRIOR * share, PRIOR * (1 - share), np.array([not _is_letter(word) for word in counts.words])
    for name, mask in groups.items():
        ours = np.asarray(counts.has[np.flatnonzero(mask)].sum(axis=0)).ravel()
        sizes, both = (int(mask.sum()), rows - int(mask.sum())), (ours, total - ours)
        if not min(sizes):
            continue
        odds = [np.log((c + prior) / (s - c + rest)) for c, s in zip(both, sizes, strict=True)]
        error = np.sqrt(sum(1 / (c + prior) + 1 / (s - c + rest) for c, s in zip(both, sizes, strict=True)))
        score = np.divide(odds[0] - odds[1], error, out=np.zeros(len(total)), where=total > 1)
        telling = longer & (score >= sure) & (ours >= FEWEST) & (ours / sizes[0] >= TWICE * both[1] / sizes[1])
        best = [k for k in np.argsort(-score, kind="stable") if telling[k]][:n]
        shares = [f"{counts.words[k]} ({ours[k] / sizes[0]:.0%} : {both[1][k] / sizes[1]:.0%})" for k in best]
        if best:
            found[name] = (sizes[0], ", ".join(shares))
    table = pd.DataFrame.from_dict(found, orient="index", columns=["texts", "words"]).rename_axis("label")
    table.attrs["characters"] = 400
    return table


def describe_new_words(counts: WordCounts, train: int, seed: int = 0) -> str:
    """How many words of test are not in train, against those of a fifth of train that are not in the rest, in words.

    counts: of `train` rows of train, then those of test.
    """
    ours, theirs = counts.has[:train], counts.has[train:]
    if not ours.nnz or not theirs.nnz or train < 10:
        return ""
    held_out = np.random.default_rng(seed).permutation(train) < train / 5
    usual, share = _share_new(ours[~held_out], ours[held_out]), _share_new(ours, theirs)
    figures = f"{share:.1%} of the words of test texts are in no text of train"
    expected = f"{usual:.1%} of those of a random fifth of train are not in the rest"
    if share <= 1.3 * usual + 0.01:
        return f"{figures}, as is usual: {expected}."
    known = np.asarray(ours.sum(axis=0)).ravel() > 0
    new = np.asarray(theirs.sum(axis=0)).ravel() * ~known
    words = ", ".join(counts.words[k] for k in np.argsort(-new, kind="stable")[:8] if new[k])
    return (
        f"{figures}, more than usual: {expected}. The most frequent ones: {words}. Test is of other topics or times; "
        "2_pretrain, which reads test too, helps where words are new."
    )


def _share_new(known: csr_matrix, other: csr_matrix) -> float:
    """The share of words of texts, each counted once a text, that no other text has."""
    new = np.asarray(known.sum(axis=0)).ravel() == 0
    counts = np.asarray(other.sum(axis=0)).ravel()
    return float(counts[new].sum() / max(counts.sum(), 1))


def _is_letter(word: str) -> bool:
    """Whether a word is a single letter, such as the m of "I'm"."""
    return len(word) == 1 and word.isascii() and word.isalpha()


def compare_words(
    train_texts: Sequence[str], test_texts: Sequence[str], groups: Mapping[str, np.ndarray], seed: int = 0
) -> tuple[pd.DataFrame, str]:
    """`class_words` and `describe_new_words` of the beginnings of texts, of train and test at most 20,000 each.

    groups: of rows of train.
    """
    draw = np.random.default_rng(seed)
    drawn = [np.sort(draw.permutation(len(texts))[:ROWS]) for texts in (train_texts, test_texts)]
    tables = zip(map(list, (train_texts, test_texts)), drawn, strict=True)
    texts = [table[row][:CHARACTERS] for table, rows in tables for row in rows]
    counts, train = count_words(texts), len(drawn[0])
    of_train = WordCounts(counts.words, counts.has[:train])
    words = class_words(of_train, {name: rows[drawn[0]] for name, rows in groups.items()})
    return words, describe_new_words(counts, train, seed)


@styled
def lengths_by_class(lengths: np.ndarray, groups: Mapping[str, np.ndarray]) -> Figure:
    """Token lengths of each group: the median, the middle half, and the range of nine in ten."""
    ax = make_axes(7.0, 1.2 + 0.32 * len(groups), grid="x")
    for row, mask in enumerate(groups.values()):
        low, first, middle, third, high = np.quantile(lengths[mask], [0.05, 0.25, 0.5, 0.75, 0.95])
        ax.plot([low, high], [row, row], color=PALE, linewidth=3, solid_capstyle="butt", zorder=2)
        ax.barh(row, third - first, left=first, color=BLUE, height=0.5, zorder=3)
        ax.plot([middle], [row], "|", color=ORANGE, markersize=13, markeredgewidth=2.5, zorder=4)
        note(ax, f"{middle:,.0f}", high, row)
    name_rows(ax, list(groups))
    ax.margins(x=0.12)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(xlabel="tokens per text: median, middle half, nine in ten", title="Lengths by label")
    return ax.figure


def describe_lengths_by_class(lengths: np.ndarray, groups: Mapping[str, np.ndarray]) -> str:
    """How much length says of the label, in words, by the share of the variance of ranks."""
    ranks, medians = rankdata(lengths), {name: float(np.median(lengths[rows])) for name, rows in groups.items()}
    share = max((_explained(ranks, rows.astype(int)) for rows in groups.values()), default=0.0)
    if len(groups) < 2 or len(set(lengths)) < 2:
        return ""
    longest, shortest = max(medians, key=medians.get), min(medians, key=medians.get)
    if medians[longest] == medians[shortest]:
        return f"Length says next to nothing of the label: the median text has {medians[longest]:,.0f} tokens for each."
    figures = f"the median text has {medians[longest]:,.0f} tokens for {longest!r} and {medians[shortest]:,.0f} for "
    figures += f"{shortest!r}"
    if share < LITTLE:
        return f"Length says next to nothing of the label: {figures}."
    if share < MUCH:
        return f"Length says a little of the label: {figures}."
    return (
        f"Length says much of the label: {figures}. A model sees it only in what it reads: mind max_length; TF-IDF "
        "does not see it at all."
    )


def classes_by_column(
    columns: Mapping[str, Sequence[str]], groups: Mapping[str, np.ndarray], n: int = 3, values: int = 8
) -> tuple[pd.DataFrame | None, str]:
    """Labels by the value of each column with few values, those that go with them most: the share of each group among
    the rows of a value, for `n` columns and their `values` most frequent values; and what it says, in words."""
    strength, tables = {}, {}
    for name, cells in columns.items():
        column = pd.Series(cells, dtype=object)
        if not has_few_values(column) or column.nunique() < 2:
            continue
        codes, _ = pd.factorize(column)
        strength[name] = max((_explained(rows.astype(float), codes) for rows in groups.values()), default=0.0)
        shown = column.value_counts().index[:values]
        tables[name] = pd.DataFrame(
            [
                (column == one).agg(["sum"]).tolist() + [rows[column == one].mean() for rows in groups.values()]
                for one in shown
            ],
            columns=["rows", *groups],
            index=pd.Index([" ".join(str(one).split()) or "(empty)" for one in shown], name="value"),
        )
    best = sorted((name for name in strength if strength[name] >= LITTLE), key=strength.get, reverse=True)[:n]
    if not best:
        names = ", ".join(map(repr, strength))
        return None, f"No label is more frequent with some values of {names} than with others." if names else ""
    table = pd.concat({name: tables[name] for name in best}, names=["column"]).astype({"rows": int})
    table.attrs["percent"] = list(groups)
    words = [f"{name!r} {'strongly' if strength[name] >= MUCH else 'a little'}" for name in best]
    advice = "Give it to the model as text (text=), or as a category (features=), if test has it as train does."
    return table, f"Labels go with {', '.join(words)}. {advice}"


def _explained(values: np.ndarray, codes: np.ndarray) -> float:
    """The share of the variance of values that the groups of `codes` explain (eta squared), less what chance would."""
    counts = np.bincount(codes)
    counts_, means = counts[counts > 0], np.bincount(codes, values)[counts > 0] / counts[counts > 0]
    total = ((values - values.mean()) ** 2).sum()
    between = (counts_ * (means - values.mean()) ** 2).sum() / total if total else 0.0
    chance = (len(counts_) - 1) / max(len(values) - 1, 1)
    return max(float((between - chance) / max(1 - chance, 1e-9)), 0.0)
