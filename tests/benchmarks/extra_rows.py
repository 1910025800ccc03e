"""What extra rows bring: tweets of which few are train, the others extra rows, with their labels and with random ones.

python -m tests.benchmarks.extra_rows [--rows 500] [--extra 2500] [--seeds 3] [--learners tfidf frozen finetune]

Prints for each learner and seed the out-of-fold accuracy in five folds without and with them, the gain by them, its
95 % interval, and the word that `extra_check` says; finetune is MiniLM for 2 epochs of 32 tokens, minutes a line.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_test, read_train
from kagglekit.learners.choose import choose_learner
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.samples import write_sample
from kagglekit.training.extra_files import compare
from kagglekit.training.recipe import Recipe

LEARNERS = {
    "tfidf": ({"backbone": "tfidf"}, {}),
    "frozen": ({"learner": "frozen"}, {}),
    "finetune": ({}, {"epochs": 2.0, "max_length": 32}),
}


def write_tables(folder: Path, rows: int, extra: int) -> None:
    """A competition of so many rows of train, and beside it right.csv and random.csv, whose labels are shuffled."""
    write_sample("tweets", folder / "all", rows=rows + extra)
    table = pd.read_csv(folder / "all" / "train.csv", dtype=str, keep_default_na=False)
    more = table[rows:]
    shuffled = np.random.default_rng(0).permutation(more["sentiment"].to_numpy())
    (folder / "few").mkdir()
    for place, one in (("few/train", table[:rows]), ("right", more), ("random", more.assign(sentiment=shuffled))):
        one.to_csv(folder / f"{place}.csv", index=False, quoting=1)
    for name in ("test.csv", "sample_submission.csv"):
        (folder / "few" / name).write_bytes((folder / "all" / name).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--extra", type=int, default=2500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_tables(folder, asked.rows, asked.extra)
        task, _ = infer(folder / "few")
        train, test = read_train(task), read_test(task)
        labels = encode_labels(task, train)
        print("| learner | extra rows | seed | without | with | gain | 95 % interval | extra_check says |")
        for name in asked.learners:
            given, knobs = LEARNERS[name]
            for seed in range(asked.seeds):
                splits = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels))
                for file in ("right", "random"):
                    options = {"work": place, "seed": seed, "extra": str(folder / f"{file}.csv"), "extra_check": True}
                    run = TrainingRun(**options, **given)
                    choice = choose_learner(run, Recipe(**knobs), task, train, test, train[["id"]], list(range(5)))
                    oof = [np.zeros((len(train), len(task.columns)), dtype=np.float32) for _ in range(2)]
                    for fold, (ours, held_out) in enumerate(splits):
                        for found, one in zip(oof, (choice, choice.without), strict=True):
                            at = folder / f"{file}{seed}{one is choice}" / f"fold{fold}"
                            found[held_out] = one.fit(ours, held_out, at, fold).oof
                    said = compare(task.metric, labels, *oof)
                    low, high = said["interval"]
                    scores = (
                        f"{said['without']:.3f} | {said['with']:.3f} | {said['gain']:+.3f} | {low:+.3f} to {high:+.3f}"
                    )
                    print(f"| {name} | {file} labels | {seed} | {scores} | {said['verdict']} |", flush=True)


if __name__ == "__main__":
    main()
