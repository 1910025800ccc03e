"""The parameters of `2_pretrain` and `3_train` besides those of a `Stage` or a `Recipe`: its place and start."""

from __future__ import annotations  # the types of knobs are texts

from dataclasses import dataclass
from typing import Any

from kagglekit.options import Knobs, documented, knob


@dataclass(frozen=True)
class RunKnobs(Knobs):
    """What every run has: its place, where it begins, its folds, and its time."""

    work: str = knob("runs/bbc", "work folder", shown="run")
    run: str = knob("base", "name of this run", shown="run")
    backbone: str = knob("minilm", "minilm, a folder, or a name on the model hub", names="model", shown="run")
    start: str = knob("", "run whose weights it begins with; empty: none", names="run", shown="run")
    folds: list[int] = knob([], "folds to train now; empty: all", shown="run")
    hours: float = knob(0.0, "stop cleanly before so many hours since the kernel began; 0: never", least=0, shown="run")
    checkpoint_every: float = knob(60.0, "seconds between checkpoints, and at least 1/40 of the steps")
    overwrite: bool = knob(False, "begin again where this run was made with other settings", shown="run")


@documented
@dataclass(frozen=True)
class TrainingRun(RunKnobs):
    """The parameters of `3_train` besides its `Recipe`."""

    backbone: str = knob(
        "minilm",
        "minilm, a folder, a name of the catalogue or of the hub; tfidf: the baseline; soup: see soup_of",
        names="model",
        shown="run",
    )
    start: str = knob(
        "",
        'run to begin from: of 2_pretrain, a trained one, or several averaged: "base+other"; empty: none',
        names="run",
        shown="run",
    )
    learner: str = knob(
        "finetune",
        "finetune; frozen: embeddings and a classifier, in minutes; setfit: pairs, for few labels",
        choices=("finetune", "frozen", "setfit"),
        shown="run",
    )
    learner_options: dict[str, Any] = knob({}, 'such as {"classifier": "svm"} for frozen, {"epochs": 1} for setfit')
    seed: int = knob(0, "fold k is seeded with seed + k", shown="run")
    soup_of: list[str] = knob(
        [], 'for backbone="soup": trained runs whose weights are averaged, fold by fold', names="run"
    )
    soup: str = knob(
        "uniform",
        "greedy: members chosen by the other folds; folds: one model predicts the test rows",
        choices=("uniform", "greedy", "folds"),
    )
    pseudo: dict[str, Any] = knob(
        {},
        'labels for rows without: {"teacher": "base", "threshold": 0.9, "rounds": 1}',
        options="kagglekit.selftraining.selftraining_knobs:SelfTrainingOptions",
        shown="training",
    )
    distill: dict[str, Any] = knob(
        {},
        'learn from a run or blend: {"teacher": "base", "temperature": 2.0}; from itself: {"by": "nested"}',
        options="kagglekit.selftraining.selftraining_knobs:DistillationOptions",
    )
    find_learning_rate: bool = knob(False, "look for a learning rate first: a picture, and 100 steps that are undone")


@documented
@dataclass(frozen=True)
class PretrainingRun(RunKnobs):
    """The parameters of `2_pretrain` besides its `Stage`."""

    run: str = knob("mlm", "name of this run", shown="run")
    start: str = knob(
        "",
        'run to go on from: an earlier stage, a trained one, or several averaged: "mlm+base"; empty: none',
        names="run",
        shown="run",
    )
    folds: list[int] = knob([], "folds to train now, where a stage goes fold by fold; empty: all", shown="run")
    texts: list[str] = knob(
        [], "files or folders of text; empty: train and test of the competition", names="file", shown="text"
    )
    text_column: str = knob("text", "of tables among the texts")
    text_split: str = knob("line", "pieces of plain text among them", choices=("line", "paragraph", "file"))
    clean: list[str] = knob([], "cleaners of all texts, in order, see 1_eda; empty: as they are", shown="text")
    scorer: str = knob(
        "",
        "run of 3_train that says which tokens matter, for selective and entropy, fold by fold",
        names="run",
        shown="model",
    )
    pairs: str = knob(
        "", "file of pairs for simcse_supervised; empty: texts of a class are alike, fold by fold", names="file"
    )
    probe_every: int = knob(
        0,
        "steps between two scores of a linear model on the vectors: the best step goes on; 0: the last",
        least=0,
        shown="training",
    )
