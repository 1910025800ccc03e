"""Bad inputs: what is changed in a small competition with three runs, what is run then, and what it must say."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertForMaskedLM

from tests.conftest import ARCHITECTURES, make_texts, make_tokenizer, run_cells

EDA = ("1_eda", {"data": "FOLDER/data", "work": "FOLDER/new", "n_folds": 2, "backbone": "FOLDER/bert"})
FAST = {"epochs": 1.0, "max_length": 16, "batch_size": 16, "learning_rate": 1e-3}


@dataclass
class Blow:
    """A bad input. words: what the error must say. command: a command line, in place of steps. fine: whether the result
    is right where there is no error."""

    name: str
    words: tuple[str, ...]
    damage: Callable[[Path], None] = lambda folder: None
    steps: list[tuple[str, dict]] = field(default_factory=lambda: [EDA])
    command: list[str] = field(default_factory=list)
    fine: Callable[[Path, Path], bool] | None = None


def make_competition(folder: Path) -> None:
    """A competition of 60 rows in `data`, and a tiny BERT with random weights in `bert`."""
    data, bert = folder / "data", folder / "bert"
    data.mkdir(parents=True)
    texts, balance = make_texts(60)
    label = np.array(["bad", "mixed", "good"])[np.sign(balance) + 1]
    write(data / "train.csv", pd.DataFrame({"id": range(60), "text": texts, "label": label}))
    write(data / "test.csv", pd.DataFrame({"id": range(60, 80), "text": make_texts(20, 1)[0]}))
    write(data / "sample_submission.csv", pd.DataFrame({"id": range(60, 80), "label": "good"}))
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**ARCHITECTURES["bert"])).save_pretrained(bert)
    make_tokenizer().save_pretrained(bert)


def make_base(folder: Path) -> None:
    """A competition and a BERT, and a work folder with the runs tfidf, base, blend."""
    make_competition(folder)
    work, bert = str(folder / "work"), str(folder / "bert")
    run_cells("1_eda", data=str(folder / "data"), work=work, n_folds=2, backbone=bert)
    run_cells("3_train", work=work, run="tfidf", backbone="tfidf")
    run_cells("3_train", work=work, run="base", backbone=bert, **FAST)
    run_cells("4_ensemble", work=work, run="blend", runs=["tfidf", "base"], method="weights")
    run_cells("5_submit", work=work, run="blend")
    run_cells("5_submit", work=work, run="base", predict=True)
    shutil.copytree(work, folder / "whole")


def write(path: Path, table: pd.DataFrame) -> None:
    """A table as CSV."""
    table.to_csv(path, index=False)


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A damage that changes the bytes of a file of the competition or its work folder."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def rows_read(count: int, file: str = "train") -> Callable[[Path, Path], bool]:
    """Whether all rows of a file were read in the new work folder."""

    def check(folder: Path, base: Path) -> bool:
        from kagglekit.competition.task import load_task, read_test, read_train

        task = load_task(folder / "new")
        return len(read_train(task) if file == "train" else read_test(task)) == count

    return check


def garble(data: bytes) -> bytes:
    """Sixty bytes in the middle replaced."""
    middle = len(data) // 2
    return data[: middle - 30] + bytes(range(200, 255)) + b"-----" + data[middle + 30 :]
