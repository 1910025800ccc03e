"""Tables to look at: what each cleaner would change in the texts."""

import re
from collections.abc import Sequence

import pandas as pd

from kagglekit.data.clean import CLEANERS, EXTRAS, check_cleaners, is_installed


def count_changes(texts: Sequence[str]) -> pd.DataFrame:
    """How many texts each cleaner changes, by itself: one line for every cleaner, also for those not installed.

    Columns: `texts` that change, their `share` of all, `characters` that are added or (below 0) taken away per text
    that changes, and what to `install` first.
    """
    table = {}
    for name, clean in CLEANERS.items():
        if is_installed(name):
            pairs = [(text, after) for text in texts if (after := clean(text)) != text]
            added = sum(len(after) - len(text) for text, after in pairs) / max(len(pairs), 1)
            table[name] = (len(pairs), len(pairs) / max(len(texts), 1), added, "")
        else:
            table[name] = (pd.NA, float("nan"), float("nan"), f"pip install {EXTRAS[name]}")
    columns = ["texts", "share", "characters", "install"]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("cleaner")


def show_cleaning(texts: Sequence[str], names: Sequence[str] = (), n: int = 2, characters: int = 120) -> pd.DataFrame:
    """`n` texts before and after each cleaner, around the first place that it changes, and how many texts it changes.

    names: each works on what those before it leave, as in training. None of them shows every cleaner that is installed,
    each by itself. Cleaners that change no text have no line. Characters that nobody sees are written as \\u200b, and
    each of several spaces as ␣; what is left out stands as ...
    """
    check_cleaners(names)
    rows, now = [], list(texts)
    for name in names or filter(is_installed, CLEANERS):
        after = [CLEANERS[name](text) for text in now]
        changed = [pair for pair in zip(now, after, strict=True) if pair[0] != pair[1]]
        for pair in changed[:n]:
            rows.append((name, len(changed), *_around_change(*pair, characters)))
        now = after if names else now
    return pd.DataFrame(rows, columns=["cleaner", "texts changed", "before", "after"]).set_index(
        ["cleaner", "texts changed"]
    )


def _around_change(before: str, after: str, characters: int) -> list[str]:
    """Both texts from a little before the first place in which they differ."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((place for place, (a, b) in pairs if a != b), min(len(before), len(after)))
    start = max(first - characters // 3, 0)
    return [_visible(text, start, start + characters) for text in (before, after)]


def _visible(text: str, start: int, stop: int) -> str:
    ends = re.sub("^ +| +$| {2,}", lambda spaces: "␣" * len(spaces[0]), text)[start:stop]  # as long as `text`
    shown = "".join(c if c.isprintable() or c == "\u200d" else repr(c)[1:-1] for c in ends)
    return f"{'... ' if start else ''}{shown}{' ...' if stop < len(text) else ''}"
