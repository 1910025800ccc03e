"""A hundred labels: what learns most from them.

`python -m tests.benchmarks.few_labels` from the root of the repository prints a table for the README: MiniLM on rows of
two samples, every method once per seed; another seed draws other labelled rows and other random numbers. Gain: the mean
difference in accuracy to plain fine-tuning with the same labelled rows, on the same other rows, with its standard
error over the seeds. "Cannot tell": 0 lies in the interval of 95 % by Student's t; with three seeds, 4.3 of these
either way.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

from kagglekit.competition.infer import infer
from kagglekit.competition.task import Task, encode_labels, read_train
from kagglekit.learners.frozen import Frozen
from kagglekit.learners.setfit import SetFit
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone, load_tokenizer
from kagglekit.pretraining.masking import make_masking
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import pretrain
from kagglekit.samples import write_sample
from kagglekit.scoring.metrics import score
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

PLAIN = {"max_length": 64, "epochs": 8, "evaluate_every": 10**6}  # one evaluation, at the end
PATTERNS = {
    "tweets": {
        "pattern": "{text} It was {mask}.",
        "verbalizer": {"negative": ["bad", "terrible"], "neutral": ["okay"], "positive": ["good", "great"]},
    },
    # MiniLM knows 244 Chinese characters; 好 and 差 are not among them
    "reviews-zh": {"pattern": "{mask}美。{text}", "verbalizer": {"0": ["不"], "1": ["真"]}},
}
PSEUDO = {
    "pseudo labels, hard": {"labels": "hard", "threshold": 0.9},
    "pseudo labels, soft": {"labels": "soft", "threshold": 0.0, "weight": 0.5},
    "UST": {"labels": "ust", "top": 60, "passes": 10, "rounds": 2, "dropout": 0.1},
}


@dataclass
class Draw:
    """One draw of labelled rows. task, train: labelled rows first, then those to predict. test: without labels.

    mlm: a model that has read all the text but that of the rows to predict.
    """

    sample: str
    task: Task
    train: pd.DataFrame
    test: pd.DataFrame
    labelled: int
    folder: Path
    mlm: str
    seed: int

    def score(self, learner, folder: str, **more) -> float:
        """The accuracy of a learner on the rows to predict."""
        inside, outside = np.arange(self.labelled), np.arange(self.labelled, len(self.train))
        fitted = learner.fit(inside, outside, self.folder / folder / "fold0", self.seed, **more)
        return float(score("accuracy", encode_labels(self.task, self.train)[outside], fitted.oof))

    def tuner(self, **knobs) -> FineTuner:
        """A fine-tuner with plain knobs, but for those given."""
        recipe = Recipe(**{**PLAIN, **knobs})
        return FineTuner(self.task, self.train, self.test, find_backbone("minilm"), recipe)

    def self_trainer(self, options: dict) -> SelfTrainer:
        """A self-trainer over it, all rows to predict in fold 0."""
        folds = pd.DataFrame({"id": self.train["id"], "fold": (np.arange(len(self.train)) < self.labelled).astype(int)})
        return SelfTrainer(self.tuner(), self.folder, folds, options)

    def pet_then_plain(self) -> float:
        """PET as the pretraining of plain fine-tuning."""
        self.score(self.tuner(**PATTERNS[self.sample]), "pet-before", start=self.mlm)
        return self.score(self.tuner(), "pet-plain", start=str(self.folder / "pet-before" / "fold0" / "model"))


def methods() -> dict[str, Callable[[Draw], float]]:
    """Name -> what gives the accuracy on a draw; the first is what others are compared with."""
    minilm = find_backbone("minilm")
    self_training = {
        name: lambda d, name=name, options=options: d.score(d.self_trainer(options), name)
        for name, options in PSEUDO.items()
    }
    return {
        "plain fine-tuning": lambda d: d.score(d.tuner(), "plain"),
        "TF-IDF and a linear SVM": lambda d: d.score(Baseline(d.task, d.train, d.test), "tfidf"),
        "frozen embeddings, logistic regression": lambda d: d.score(Frozen(d.task, d.train, d.test, minilm), "frozen"),
        "SetFit": lambda d: d.score(SetFit(d.task, d.train, d.test, minilm, num_iterations=3), "setfit"),
        "plain fine-tuning after MLM": lambda d: d.score(d.tuner(), "mlm-plain", start=d.mlm),
        "PET after MLM": lambda d: d.score(d.tuner(**PATTERNS[d.sample]), "pet", start=d.mlm),
        "PET after MLM, then plain": Draw.pet_then_plain,
        **self_training,
    }


def pretrain_on(texts: list[str], folder: Path, steps: int) -> str:
    """The folder of MiniLM after masked-language pretraining; its package has no head, which begins anew."""
    backbone, stage = find_backbone("minilm"), Stage(steps=steps, max_length=64, learning_rate=2e-4)
    tokenizer = load_tokenizer(backbone)
    masking = make_masking("dynamic", tokenizer, stage.mask_probability, {})
    pretrain(stage, backbone, tokenizer, texts, folder, masking=masking)
    return str(folder / "model")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--unlabelled", type=int, default=400)
    parser.add_argument("--others", type=int, default=800, help="rows to predict")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of masked-language pretraining")
    parser.add_argument("--samples", nargs="+", default=list(PATTERNS))
    options = parser.parse_args()
    lines = ["| sample | method | accuracy | gain |", "|---|---|---:|---:|"]
    for sample in options.samples:
        found = measure(sample, options)
        gain = found - found[:, :1]
        error = gain.std(axis=0, ddof=1) / np.sqrt(options.seeds)
        surely = t.ppf(0.975, options.seeds - 1)
        for number, name in enumerate(methods()):
            told = f"{gain[:, number].mean():+.3f} ± {error[number]:.3f}" if number else ""
            told += ": cannot tell" if number and abs(gain[:, number].mean()) < surely * error[number] else ""
            accuracy = f"{found[:, number].mean():.3f} ({found[:, number].min():.3f} to {found[:, number].max():.3f})"
            lines.append(f"| {sample} | {name} | {accuracy} | {told} |")
    print("\n" + "\n".join(lines))


def measure(sample: str, options: argparse.Namespace) -> np.ndarray:
    """Accuracies (seeds, methods)."""
    found = np.zeros((options.seeds, len(methods())))
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), options.labels * options.seeds + options.unlabelled + options.others
        task, _ = infer(write_sample(sample, folder / "data", rows=rows))
        table = read_train(task)
        others, rest = table[: options.others], table[options.others :]
        mlm = pretrain_on(rest["text"].tolist(), folder / "mlm", options.steps)
        for seed in range(options.seeds):
            shuffled = rest.sample(frac=1, random_state=seed)
            train = pd.concat([shuffled[: options.labels], others], ignore_index=True)
            test = shuffled[options.labels : options.labels + options.unlabelled][["id", "text"]].reset_index(drop=True)
            draw = Draw(sample, task, train, test, options.labels, folder / str(seed), mlm, seed)
            for number, (method, run) in enumerate(methods().items()):
                found[seed, number] = run(draw)
                print(f"{sample}, seed {seed}, {method}: {found[seed, number]:.4f}", flush=True)
    return found


if __name__ == "__main__":
    main()
