"""Tables of self-training: the figures of each round, and the rows that it added."""

from pathlib import Path

import pandas as pd

from kagglekit.files import fold_folders, read_json
from kagglekit.files.parquet import read_parquet
from kagglekit.selftraining.labelling import ADDED, DONE
from kagglekit.show.texts import shorten


def show_rounds(run: Path) -> pd.DataFrame:
    """The figures of self-training, a row for each finished fold and round of a run; of several seeds the first.

    pool: rows that could be added. added: how many were; mean confidence, mean weight: of these. estimated precision:
    the share of right labels among the held-out rows of the fold that the same rule chooses, which the teacher never
    saw, with its standard error and their number; for regression the estimated error, the RMSE. agreement: of the
    student with its teacher about the pool. score before, score: of teacher and student on the held-out rows. Then how
    many rows of each class were added. Empty for a run without pseudo labels.
    """
    rows = []
    for fold, receipt in read_json(run / "params.json")["receipts"].items():
        for number, recorded in enumerate(receipt.get("pseudo", {}).get("rounds", []), 1):
            plain = {name: value for name, value in recorded.items() if name != "classes"}
            added = {f"added {name}": count for name, count in recorded["classes"].items()}
            rows.append({"fold": int(fold), "round": number, **plain, **added})
    return pd.DataFrame(rows).set_index(["fold", "round"]).sort_index() if rows else pd.DataFrame()


def read_added(run: Path) -> pd.DataFrame:
    """The rows that were added in the finished folds of a run, all rounds, of several seeds the first: fold, round, id,
    source (test, or the name of a file), text, label or a column for each, confidence, weight, and maker, the model
    that labelled them: base/fold0 is of the run base, fold0/round1 of the run itself. Raises ValueError for rows of
    another fold.
    """
    parts = []
    for fold, folder in fold_folders(run).items():
        for file in sorted(folder.glob(f"round*/{DONE}/{ADDED}"), key=_round_of):
            table = read_parquet(file)
            others = set(table.get("fold", [])) - {fold}  # an older table does not say its fold
            if others:
                raise ValueError(
                    f"{file} holds rows that were labelled for fold {min(others)}, by models that have seen fold "
                    f"{fold}: delete {folder} and train the fold again"
                )
            table = table.drop(columns="fold", errors="ignore")
            table.insert(0, "fold", fold)
            table.insert(1, "round", _round_of(file))
            parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def show_added(run: Path, n: int = 4) -> pd.DataFrame:
    """Of the rows that were added in the last round of each fold, the `n` that the teacher was least sure of, and the
    `n` that it was surest of; texts on one line. These are where wrong labels come in, and what is repeated."""
    added = read_added(run)
    if not len(added):
        return added
    added = added[added["round"] == added.groupby("fold")["round"].transform("max")]
    added = added.sort_values(["fold", "confidence"], kind="stable")
    rank, size = added.groupby("fold").cumcount(), added.groupby("fold")["id"].transform("size")
    shown = added[(rank < n) | (rank >= size - n)]
    return shown.assign(text=shown["text"].map(shorten)).reset_index(drop=True)


def _round_of(file: Path) -> int:
    return int(file.parts[-3].removeprefix("round"))
