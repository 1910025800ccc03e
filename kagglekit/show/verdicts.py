"""Verdicts in words: what the findings of 1_eda about labels, lengths and copies mean, and what to do about them."""

import html
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

LENGTHS = (32, 64, 96, 128, 192, 256, 384, 512)  # values of max_length, of which the first that is enough is named
CLOSE = 0.1  # lengths that differ by a smaller share are alike
FEW = 10  # rows of a class: below, a fold validates on one or two


def tell(words: str) -> None:
    """Show a sentence in a notebook's page, above its tables; of nothing nothing is shown."""
    if words:
        from IPython.display import display

        display({"text/html": f"<p><b>{html.escape(words)}</b></p>", "text/plain": words}, raw=True)


def describe_labels(kind: str, labels: np.ndarray, names: Sequence[str]) -> str:
    """Whether classes are balanced, labels rare, numbers skewed. labels: from `encode_labels`; names: of classes, or of
    label columns."""
    labels = np.asarray(labels)
    if kind == "regression":
        columns = labels.reshape(len(labels), -1).T
        few = [name for name, column in zip(names, columns, strict=True) if len(np.unique(column)) <= 20]
        skewed = [name for name, column in zip(names, columns, strict=True) if abs(_skewness(column)) > 1]
        found = [f"{_listed(few)} has {len(np.unique(labels))} values: kind=ordinal may fit"] * (
            len(names) == len(few) == 1
        )
        long = f"{_listed(skewed)} {_have(skewed)} a long tail: a few extreme rows weigh much in squared errors"
        found += [long] * bool(skewed)
        return ". ".join(found) + "." * bool(found)
    counts = np.bincount(labels, minlength=len(names)) if kind != "multilabel" else (labels == 1).sum(axis=0)
    most, least, rows = int(counts.argmax()), int(counts.argmin()), len(labels)
    rare = [name for name, count in zip(names, counts, strict=True) if count < FEW]
    if kind == "multilabel":
        none = float((labels == 0).all(axis=1).mean())
        words = f"{names[most]!r} is the most frequent label, in {counts[most] / rows:.1%} of the texts; "
        words += f"{names[least]!r} the rarest, in {counts[least] / rows:.1%}. {none:.0%} of the texts have none."
    else:
        times = counts[most] / max(counts[least], 1)
        if times < 2:
            words = f"The classes are balanced: the largest has {times:.1f} times the texts of the smallest."
        else:
            words = (
                f"The classes are not balanced: {names[most]!r} has {times:,.0f} times the texts of {names[least]!r}"
            )
            words += f", and a model that always says so is right in {counts[most] / rows:.1%} of the rows."
    if rare:
        are = "is" if len(rare) == 1 else "are"
        words += f" {_listed(rare)} {are} rare, with fewer than {FEW} texts: a fold validates on one or two, and "
        words += "their score is noise."
    return words


def describe_lengths(lengths: np.ndarray, default: int = 192) -> str:
    """What max_length to take. lengths: tokens of texts; default: what 3_train takes."""
    cut, top = [float((lengths > limit).mean()) for limit in LENGTHS], float(np.quantile(lengths, 0.95))
    usual = f" The default of 3_train, {default}, cuts {np.mean(lengths > default):.0%} of the texts."
    enough = next((k for k, share in enumerate(cut) if share <= 0.05), None)
    if enough is None:
        lost = 1 - np.minimum(lengths, LENGTHS[-1]).sum() / lengths.sum()
        return (
            f"The texts are long: 95 % of them fit in {top:,.0f} tokens, and max_length={LENGTHS[-1]} cuts "
            f"{cut[-1]:.0%} of the texts and loses {lost:.0%} of the tokens. See below which part to keep; chunks, or "
            f"a backbone that reads more, see all.{usual}"
        )
    limit, share = LENGTHS[enough], cut[enough]
    if len(set(lengths)) == 1:
        return f"All texts have {lengths[0]:,} tokens: set max_length={lengths[0]}, and nothing is cut."
    if not share:
        return f"All texts fit in {limit} tokens: set max_length={limit}, and nothing is cut."
    ours = ", the default of 3_train," if limit == default else ""
    fits = f"{1 - share:.1%} of the texts fit in {limit} tokens: max_length={limit}{ours} cuts {share:.1%} of them."
    return fits + usual * (limit > default)


def describe_test_lengths(train: np.ndarray, test: np.ndarray) -> str:
    """Whether texts of test are as long as those of train, by the KS distance (Kolmogorov-Smirnov) and quantiles."""
    found, medians = ks_2samp(train, test), [float(np.median(lengths)) for lengths in (train, test)]
    ours, theirs = (np.quantile(lengths, (0.05, 0.25, 0.5, 0.75, 0.95)) for lengths in (train, test))
    figures = f"the median has {medians[1]:,.0f} tokens, that of train {medians[0]:,.0f}"
    apart = np.abs(theirs - ours) > CLOSE * ours
    if found.pvalue >= 0.01 or found.statistic < 0.1 or not apart.any():
        return f"Texts of test are as long as those of train: {figures}."
    more = "shorter" if medians[1] < medians[0] else "longer" if medians[1] > medians[0] else "of other lengths"
    if medians[1] == medians[0]:
        spans = [f"{span[0]:,.0f} to {span[-1]:,.0f}" for span in (theirs, ours)]
        figures = f"nine in ten have {spans[0]} tokens, those of train {spans[1]}"
    return (
        f"Texts of test are {more}: {figures} (KS distance {found.statistic:.2f}). The local score is that of other "
        "lengths: look at the scores by length in 3_train."
    )


def vary(lengths: np.ndarray) -> bool:
    """Whether lengths differ enough for a chart: one of a single value says less than a sentence."""
    low, high = np.quantile(lengths, [0.05, 0.95])
    return bool(low < high)


def describe_copies(summary: pd.DataFrame) -> str:
    """What copies mean, from the table of `duplicate_summary`."""
    nearly = "nearly: within train" in summary.index
    lines = {name: summary.loc[f"nearly: {name}" if nearly else name] for name in ("within train", "within test")}
    both = summary.loc["nearly: test rows that are in train" if nearly else "test rows that are in train"]
    if not summary["rows"].any():
        return "No text of train or test comes twice."
    copies, found = "Copies, or nearly," if nearly else "Copies", []
    if (one := lines["within train"])["rows"]:
        found.append(f"{copies} within train: {one['rows']:,} rows ({one['share']:.1%}), which share a fold.")
    if both["rows"]:
        found.append(
            f"Rows of test with a copy in train: {both['rows']:,} ({both['share']:.1%}). Their labels stand there: "
            f"the score on test will be {'much' if both['share'] >= 0.1 else 'a little'} better than the local one, "
            "which holds for the others."
        )
    one = lines["within test"]
    return " ".join(found) or f"{copies} within test: {one['rows']:,} rows ({one['share']:.1%}); none is in train."


def describe_conflicts(found: pd.DataFrame, rows: int) -> str:
    """What copies with different labels mean, from the table of `conflicting_labels`; rows: of train."""
    if not len(found):
        return ""
    return (
        f"{len(found):,} rows of train ({len(found) / rows:.1%}) have copies with another label: one of them is wrong, "
        "or the text does not decide it. Write the right label, or drop, behind the id in a file: fixes= of 3_train."
    )


def _skewness(values: np.ndarray) -> float:
    away, scale = values.astype(float) - values.mean(dtype=float), values.std(dtype=float)
    return float((away**3).mean() / scale**3) if scale else 0.0


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"
