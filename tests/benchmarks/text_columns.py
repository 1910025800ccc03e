"""Several text columns: joined by a line break as in version 0.2, against the tokenizer's separator, types and swap.

python -m tests.benchmarks.text_columns [FOLDER] [--text a b] [--swap a b] [--epochs 6]

FOLDER: of a competition with several text columns; without one, phrases of three words that differ only in the place of
the boundary between two columns, such as ("metal kettle", "lid") and ("metal", "kettle lid"): 240 rows, two classes.
Prints the out-of-fold score of MiniLM in five folds, two seeds; minutes a line on a CPU.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.learners.both_orders import BothOrders
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone
from kagglekit.scoring.metrics import score
from kagglekit.training.column_knobs import fill_in
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

WORDS = ["metal", "kettle", "lid", "paper", "bag", "iron", "door", "chair", "glass", "steel", "pipe", "stone", "rope"]


def write_boundaries(folder: Path, rows: int = 240) -> Path:
    """Three words a row, of which one or two stand in the first column: the label."""
    random = np.random.default_rng(0)
    words = [random.choice(WORDS, 3, replace=False).tolist() for _ in range(rows)]
    first = random.integers(1, 3, rows)
    parts = [(" ".join(w[:n]), " ".join(w[n:])) for w, n in zip(words, first, strict=True)]
    table = pd.DataFrame(parts, columns=["anchor", "target"]).assign(id=np.arange(rows))
    table.assign(label=first - 1).iloc[:-8].to_csv(folder / "train.csv", index=False)
    table.iloc[-8:].to_csv(folder / "test.csv", index=False)
    table.iloc[-8:][["id"]].assign(label=0).to_csv(folder / "sample_submission.csv", index=False)
    return folder


def compare(folder: Path, text: list[str] | None, swap: list[str], epochs: float, seeds: int = 2) -> None:
    """Print a line for each way to read the columns."""
    pair = infer(folder, text=text)[0]
    line = replace(pair, text_separator="\n")
    ways = {"line break": (line, {}), "separator and types": (pair, {})}
    ways |= {"swapped": (pair, {"swap": swap})} if swap else {}
    for learner in ("tfidf", "minilm"):
        for name, (task, knobs) in ways.items():
            train, test = read_train(task), read_test(task)
            labels, scores = encode_labels(task, train), []
            recipe = fill_in(Recipe(max_length=96, epochs=epochs, batch_size=16, **knobs), task)
            if learner == "minilm":
                made = FineTuner(task, train, test, find_backbone("minilm"), recipe)
            elif knobs:
                made = BothOrders(task, train, test, recipe.swap, lambda *tables, task=task: Baseline(task, *tables))
            else:
                made = Baseline(task, train, test)
            for seed in range(seeds):
                oof = np.zeros((len(train), len(task.columns)))
                for number, (a, b) in enumerate(KFold(5, shuffle=True, random_state=seed).split(train)):
                    with tempfile.TemporaryDirectory() as place:
                        oof[b] = made.fit(a, b, Path(place) / f"fold{number}", seed=seed * 5 + number).oof
                scores.append(score(task.metric, labels, oof))
            shown = " and ".join(f"{value:.3f}" for value in scores)
            print(f"{folder.name}, {task.metric}, {learner}, {name}: {shown}, mean {np.mean(scores):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--text", nargs="+")
    parser.add_argument("--swap", nargs=2, default=[])
    parser.add_argument("--epochs", type=float, default=6.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or write_boundaries(Path(made))
        text = options.text if options.folder else ["anchor", "target"]
        compare(folder, text, options.swap, options.epochs)
