"""What one model of three small sets brings: alone, joint, joint then alone, and fused then joint.

`python -m tests.benchmarks.joint measure FOLDER` trains MiniLM on a few hundred rows of each sample in every way, once
a seed, and predicts other rows of train; what is in FOLDER is not trained again, so that it can be stopped and goes on.
`table FOLDER` compares all with each set alone, seed by seed on the same rows, with intervals; `--write` puts the
table into tests/benchmarks/README.md.
"""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, read_train
from kagglekit.gains.comparisons import mean_gain
from kagglekit.gains.effect import measure_gain
from kagglekit.learners.joint import JointTuner
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.model.weight_averages import fuse_backbones
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import pretrain
from kagglekit.samples import write_sample
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from tests.benchmarks.page import measure_or_table
from tests.benchmarks.trick_gain import write_cell

SIZES = {"bbc": (300, 600), "tweets": (300, 600), "drugs": (200, 400)}  # rows learned, and others predicted
BASE = {"max_length": 128, "learning_rate": 1.6e-4, "evaluate_every": 10**6}  # evaluated at the end alone
ALONE, LONGER, JOINT = "alone", "alone, 6 epochs", "joint"
EVENLY, AFTER, FUSED = "joint, drawn evenly", "joint, then alone", "alone, fused, then joint"
WITH = "alone, with descriptions of classes"
TEXTS, THEN_JOINT = "texts of all first, then alone", "texts of all first, then joint"
TWO = ("bbc", "tweets")  # with classes: `head="flat"` takes no grades
DESCRIBED = {
    "bbc": {
        "business": "companies, banks, markets, prices and the economy",
        "entertainment": "films, music, actors, awards and television",
        "politics": "parties, elections, ministers and laws",
        "sports": "matches, players, teams and results",
        "tech": "computers, software, phones and the internet",
    },
    "tweets": {
        "negative": "I hate this, it is bad and makes me angry",
        "neutral": "a question, a link or news, without a feeling",
        "positive": "I love this, it is great and makes me happy",
    },
    "drugs": {
        "1": "it did not work, or had terrible side effects",
        "2": "it helped a little, with some side effects",
        "3": "it worked very well, and I recommend it",
    },
}
Found = dict[str, np.ndarray]  # sample -> predictions of its other rows


class Suite:
    """The rows of all samples, and the ways to learn them; `place` has a folder of models for each way."""

    def __init__(self, folder: Path, seed: int):
        self.place, self.seed, self.tables = folder / "train" / str(seed), seed, {}
        for sample, (learned, others) in SIZES.items():
            task, _ = infer(write_sample(sample, folder / "data" / sample, rows=learned + others))
            self.tables[sample] = task, read_train(task)

    def _given(self, sample: str, **knobs) -> tuple:
        task, train = self.tables[sample]
        return task, train, train[:8], find_backbone("minilm"), Recipe(**BASE | knobs)

    def _rows(self, sample: str) -> tuple[np.ndarray, np.ndarray]:
        learned, others = SIZES[sample]
        return np.arange(learned), np.arange(learned, learned + others)

    def model(self, way: str, sample: str) -> Path:
        """Where the model of a sample is, trained in a way."""
        return self.place / way / sample / "model"

    def alone(self, way: str, start: str = "", described: bool = False, **knobs) -> Found:
        """Each by itself. start: the way whose model of the sample it begins with, or the folder of a model."""
        texts = DESCRIBED if described else {}
        return {
            name: FineTuner(*self._given(name, auxiliary_descriptions=texts.get(name, {}), **knobs))
            .fit(
                *self._rows(name),
                self.model(way, name).parent,
                self.seed,
                (str(self.model(start, name)) if start in WAYS else start) or None,
            )
            .oof
            for name in SIZES
        }

    def joint(
        self, way: str, start: str | None = None, samples: Sequence[str] = (*SIZES,), head: str = "linear", **options
    ) -> Found:
        """One model of all, or of some `samples`."""
        first, *others = samples
        tuners = [FineTuner(*self._given(name, head=head)) for name in others]
        joint = JointTuner(*self._given(first, head=head), others=tuners, **options)
        learned, held_out = zip(*map(self._rows, samples), strict=True)
        places = [self.model(way, name).parent for name in samples]
        fitted = joint.fit_all(learned, held_out, places, self.seed, start)
        return {name: one.oof for name, one in zip(samples, fitted, strict=True)}

    def fused(self, way: str) -> Found:
        """One model of all, that begins with the mean of the backbones of each alone."""
        fuse_backbones([self.model(ALONE, name) for name in SIZES], self.place / way / "start")
        return self.joint(way, str(self.place / way / "start"))

    def pretrained(self) -> str:
        """A backbone that hid and guessed words of all texts, those that are predicted among them, for 150 steps."""
        backbone, place = find_backbone("minilm"), self.place / "texts"
        texts = [text for _, train in self.tables.values() for text in train["text"]]
        pretrain(Stage(steps=150, seed=self.seed), backbone, load_tokenizer(backbone), texts, place)
        return str(place / "model")


WAYS: dict[str, Callable[[Suite, str], Found]] = {
    ALONE: Suite.alone,
    JOINT: Suite.joint,
    AFTER: lambda suite, way: suite.alone(way, start=JOINT),
    FUSED: Suite.fused,
    LONGER: lambda suite, way: suite.alone(way, epochs=6.0),
    WITH: lambda suite, way: suite.alone(way, described=True),
    EVENLY: lambda suite, way: suite.joint(way, draw="even"),
    "joint, a query each": lambda suite, way: suite.joint(way, head="queries"),
    "joint, learned losses": lambda suite, way: suite.joint(way, losses="learned"),
    "joint, falling losses": lambda suite, way: suite.joint(way, losses="falling"),
    "bbc and tweets joint": lambda suite, way: suite.joint(way, samples=TWO),
    "bbc and tweets joint, flat": lambda suite, way: suite.joint(way, samples=TWO, head="flat"),
    TEXTS: lambda suite, way: suite.alone(way, start=suite.pretrained()),
    THEN_JOINT: lambda suite, way: suite.joint(way, suite.pretrained()),
}
NEEDS = {AFTER: JOINT, FUSED: ALONE}  # whose models it begins with


def measure(folder: Path, seeds: int, ways: list[str]) -> None:
    """Train what is not in `folder` yet: SEED/WAY.npz with predictions of the other rows of each sample, and seconds.
    The models of a seed go when all ways are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        suite, files = Suite(folder, seed), {way: folder / str(seed) / f"{way}.npz" for way in ways}
        for way, file in files.items():
            unmade = [other for other in ways if not files[other].exists()]
            needed = any(NEEDS.get(other) == way for other in unmade)
            lost = needed and not all(suite.model(way, name).is_dir() for name in SIZES)
            if way not in unmade and not lost:
                continue
            began = time.monotonic(), time.process_time()
            found = WAYS[way](suite, way)
            seconds, cpu = time.monotonic() - began[0], time.process_time() - began[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npz")
            np.savez(part, **found, seconds=seconds, cpu=cpu)
            os.replace(part, file)
            print(f"seed {seed} {way}: {seconds:.0f} s, {cpu:.0f} s of CPU", flush=True)
        if all((folder / str(seed) / f"{way}.npz").exists() for way in WAYS):
            shutil.rmtree(suite.place, ignore_errors=True)


def table(folder: Path) -> str:
    """A row for each way of two seeds or more: its score on each sample, the gain over each alone, the mean gain, and
    CPU time."""
    seeds = sorted(int(place.name) for place in folder.iterdir() if place.name.isdigit())
    cells = {
        way: {seed: np.load(file) for seed in seeds if (file := folder / str(seed) / f"{way}.npz").is_file()}
        for way in WAYS
    }
    tables, gains = Suite(folder, 0).tables, {}
    for sample, (task, train) in tables.items():
        labels = encode_labels(task, train)[SIZES[sample][0] :]
        found = {
            way: {0: {seed: one[sample] for seed, one in each.items()}}
            for way, each in cells.items()
            if len(each) > 1 and all(sample in one for one in each.values())
        }
        known = task.metric, labels, np.zeros(len(labels), dtype=int)
        for way, each in found.items():
            gains.setdefault(way, {})[sample] = measure_gain(*known, found[ALONE], each)
    heads = [f"{sample}, {task.metric}" for sample, (task, _) in tables.items()]
    lines = [f"| way | {' | '.join(heads)} | mean | seeds | CPU |", f"|---|{'---:|' * (len(heads) + 3)}"]
    for way, each in gains.items():
        shown = [
            f"{each[sample].scores[1]:.3f}" + (f", {write_cell(each[sample])}" if way != ALONE else "")
            if sample in each
            else ""
            for sample in tables
        ]
        mean = write_cell(mean_gain([*each.values()])) if way != ALONE else ""
        cpu = np.median([float(one["cpu"]) for one in cells[way].values()])
        lines.append(f"| {way} | {' | '.join(shown)} | {mean} | {len(cells[way])} | {cpu:,.0f} s |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    more = {"--ways": {"nargs": "+", "default": list(WAYS), "choices": WAYS, "help": "to measure"}}
    measure_or_table(
        __doc__,
        "joint",
        lambda options: measure(options.folder, options.seeds, options.ways),
        lambda options: table(options.folder),
        arguments,
        more,
    )


if __name__ == "__main__":
    main()
