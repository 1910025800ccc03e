"""What each trick costs in time, and what it brings, against plain training with the same dropout.

`python -m tests.benchmarks.trick_cost` from the root of the repository prints a table for the README: MiniLM on rows of
the tweets sample, every trick once per seed, one after the other within a seed, so that a machine that slows down slows
all of them. Cost: the median over the seeds of a trick's training time over that of plain training. Gain: the mean
difference in accuracy on other rows of train, with its standard error over the seeds.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from kagglekit.metrics import score
from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from kagglekit.task import infer, read_test, read_train
from kagglekit.training.finetune import FineTuner

RECIPES = {
    "plain": {},
    "FGM": {"FGM": {"epsilon": 1.0}},
    "FGM, last half": {"FGM": {"epsilon": 1.0, "start": 0.5}},
    "RDrop": {"RDrop": {"alpha": 1.0}},
    "EMA": {"EMA": {"decay": 0.95, "start": 0.5}},
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1600, help="to train on; twice as many are predicted")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    seconds, accuracy = (np.zeros((options.seeds, len(RECIPES))) for _ in range(2))
    with tempfile.TemporaryDirectory() as folder:
        task, _ = infer(write_sample("tweets", Path(folder) / "data", rows=3 * options.rows))
        train, test = read_train(task), read_test(task)[:8]
        inside, outside = np.arange(options.rows), np.arange(options.rows, len(train))
        for seed in range(options.seeds):
            for number, (name, tricks) in enumerate(RECIPES.items()):
                tuner = FineTuner(
                    task, train, test, find_backbone("minilm"), max_length=64, dropout=0.1, epochs=2, tricks=tricks
                )
                began = time.perf_counter()
                fitted = tuner.fit(inside, outside, Path(folder) / f"{name}-{seed}", seed)
                seconds[seed, number] = time.perf_counter() - began
                accuracy[seed, number] = score("accuracy", tuner.labels[outside], fitted.oof)
                print(f"seed {seed}  {name}: {seconds[seed, number]:.0f} s, {accuracy[seed, number]:.4f}", flush=True)
    cost, gain = np.median(seconds / seconds[:, :1], axis=0), accuracy - accuracy[:, :1]
    error = gain.std(axis=0, ddof=1) / np.sqrt(options.seeds) if options.seeds > 1 else np.full(len(RECIPES), np.nan)
    print("\n| trick | time | accuracy | gain |\n|---|---:|---:|---:|")
    for number, name in enumerate(RECIPES):
        mean = accuracy[:, number].mean()
        told = "" if number == 0 else f"{gain[:, number].mean():+.4f} ± {error[number]:.4f}"
        print(f"| {name} | {cost[number]:.2f} | {mean:.4f} | {told} |")


if __name__ == "__main__":
    main()
