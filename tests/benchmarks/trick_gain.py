"""What the shipped recipes bring on small sets: scores against plain training with the same seeds, on the same rows.

`python -m tests.benchmarks.trick_gain measure FOLDER` trains MiniLM with the defaults of 3_train, and with each recipe
of a race, on a few hundred rows of each sample, once per seed, and predicts other rows of train. What is in FOLDER
already is not trained again: it can be stopped and goes on, and several processes can share the work.
"""

import argparse
import os
import shutil
import time
from pathlib import Path

import numpy as np

from kagglekit.competition.infer import infer
from kagglekit.competition.task import read_test, read_train
from kagglekit.gains.recipes import SHIPPED, apply
from kagglekit.model.backbones import find_backbone
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

BASE = {"max_length": 64, "learning_rate": 1.6e-4, "epochs": 3.0}  # what `suggest_learning_rate` gives for MiniLM
SAMPLES = {"tweets": (300, 600), "drugs": (200, 400), "bbc": (200, 400), "reviews-zh": (200, 400)}  # learned, others


def measure(folder: Path, samples: list[str], seeds: int) -> None:
    """Train what is not in `folder` yet: SAMPLE/RECIPE.SEED.npz with predictions of the other rows, and seconds."""
    for seed in range(seeds):
        for sample in samples:
            learned, others = SAMPLES[sample]
            task, _ = infer(write_sample(sample, folder / "data" / sample, rows=learned + others))
            train, test = read_train(task), read_test(task)[:8]
            inside, outside = np.arange(learned), np.arange(learned, len(train))
            base = {**BASE, "max_length": 48 if sample == "tweets" else 64}
            for name in ("base", *SHIPPED):
                file = folder / sample / f"{name}.{seed}.npz"
                lock = file.with_suffix(".lock")
                file.parent.mkdir(parents=True, exist_ok=True)
                if file.exists():
                    continue
                try:
                    os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
                except FileExistsError:  # another process trains it
                    continue
                knobs = base if name == "base" else apply(SHIPPED[name], base)
                place, began = folder / "train" / sample / f"{name}.{seed}", (time.monotonic(), time.process_time())
                try:
                    tuner = FineTuner(task, train, test, find_backbone("minilm"), Recipe(**knobs))
                    fitted = tuner.fit(inside, outside, place, seed)
                except ValueError as error:  # the lock stays: no other process tries it
                    print(f"{sample} {name} does not fit: {error}", flush=True)
                    continue
                seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
                part = file.with_suffix(".part.npz")
                np.savez(part, oof=fitted.oof, truth=tuner.labels[outside], seconds=seconds, cpu=cpu)
                os.replace(part, file)
                shutil.rmtree(place)
                lock.unlink()
                print(f"{sample} seed {seed} {name}: {seconds:.0f} s", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", nargs="+", default=list(SAMPLES), choices=SAMPLES)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    measure(options.folder, options.samples, options.seeds)


if __name__ == "__main__":
    main()
