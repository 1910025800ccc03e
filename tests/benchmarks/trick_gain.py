"""What tricks bring on a small set: accuracy against plain training with the same seeds.

`python -m tests.benchmarks.trick_gain` from the root of the repository prints a table for the README: MiniLM on rows of
the tweets sample, every recipe once per seed. Gain: the mean difference in accuracy on other rows of train, with its
standard error over the seeds. Few rows and few seeds tell apart what differs by points, not what differs by tenths.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from kagglekit.scoring.metrics import score
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

PLAIN = {"max_length": 64, "dropout": 0.1, "attention_dropout": 0.1, "epochs": 2}
RECIPES = {
    "plain": {},
    "no dropout": {"dropout": 0.0, "attention_dropout": 0.0},
    "one rate for all layers": {"layer_decay": 1.0},
    **{
        name: {"tricks": {name: options}}
        for name, options in {
            "FGM": {},
            "PGD": {},
            "AWP": {"start": 0.5},
            "FreeLB": {},
            "RDrop": {},
            "Mixup": {},
            "TokenMasking": {},
            "NEFTune": {},
            "Mixout": {},
            "SupCon": {},
            "GradualUnfreezing": {},
            "EMA": {"decay": 0.95, "start": 0.5},
            "SWA": {},
        }.items()
    },
    "FGM, last half": {"tricks": {"FGM": {"start": 0.5}}},
    "label smoothing": {"loss": {"cross_entropy": {"label_smoothing": 0.1}}},
    "multi-sample dropout": {"head_dropout": 0.2, "dropout_samples": 5},
    "fresh top layer": {"reinit_layers": 1},
    "CLS": {"pooling": "cls"},
    "attention pooling": {"pooling": "attention"},
    "last-4 concatenation": {"pooling": "last4_concat"},
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=600, help="to train on; twice as many are predicted")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    accuracy = np.zeros((options.seeds, len(RECIPES)))
    with tempfile.TemporaryDirectory() as folder:
        task, _ = infer(write_sample("tweets", Path(folder) / "data", rows=3 * options.rows))
        train, test = read_train(task), read_test(task)[:8]
        inside, outside = np.arange(options.rows), np.arange(options.rows, len(train))
        for seed in range(options.seeds):
            for number, (name, knobs) in enumerate(RECIPES.items()):
                tuner = FineTuner(task, train, test, find_backbone("minilm"), Recipe(**{**PLAIN, **knobs}))
                fitted = tuner.fit(inside, outside, Path(folder) / f"{name}-{seed}", seed)
                accuracy[seed, number] = score("accuracy", tuner.labels[outside], fitted.oof)
                print(f"seed {seed}  {name}: {accuracy[seed, number]:.4f}", flush=True)
    gain = accuracy - accuracy[:, :1]
    error = gain.std(axis=0, ddof=1) / np.sqrt(options.seeds) if options.seeds > 1 else np.full(len(RECIPES), np.nan)
    print("\n| recipe | accuracy | gain |\n|---|---:|---:|")
    for number, name in enumerate(RECIPES):
        told = f"{gain[:, number].mean():+.3f} ± {error[number]:.3f}" if number else ""
        print(f"| {name} | {accuracy[:, number].mean():.3f} | {told} |")


if __name__ == "__main__":
    main()
