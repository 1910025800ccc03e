"""The parameters of 2_pretrain and 3_train besides those of a `Stage` or a `Recipe`: places, starts, and who learns."""

from __future__ import annotations  # the types of knobs are texts

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kagglekit.declared import check_options, read_learner, read_names
from kagglekit.options import SEEDS, Knob, Knobs, check_range, documented, knob
from kagglekit.runs.tracking import TRACKERS

ONE_TASK = (  # knobs of 3_train that have no meaning for several tasks
    *("pseudo", "distill", "fixes", "extra", "full_fit", "features", "swap", "answers", "auxiliary"),
    *("auxiliary_descriptions", "chunks", "soft_targets", "learned_weights", "candidates", "keep_best"),
    *("find_learning_rate", "augment", "verbalizer"),
)
PLAIN = ("tfidf", "soup")  # values of backbone= that name who learns, and no model
EVERY = {"work", "run", "backbone", "folds", "hours", "overwrite", "seed"}  # knobs that all learners read
ROWS = {
    "fixes",
    "extra",
    "extra_source",
    "extra_check",
    "full_fit",
    "candidates",
}  # rows that are learned, classes kept
READS = {  # learner -> the others that it reads; fine-tuning reads all that have an effect
    "tfidf": {"clean", "swap"} | ROWS,
    "soup": {"soup_of", "soup"},
    "frozen": {"learner", "start", "learner_options", "clean", "swap", "max_length", "pooling", "truncation", "budget"}
    | ROWS,
    "setfit": {"learner", "start", "learner_options", "clean", "swap", "max_length", "seeds"} | ROWS,
}


def without_full(values: Mapping[str, Any]) -> dict[str, Any]:
    """What turns the model of all rows off among these parameters of `3_train`."""
    return {name: value for name, value in {"full_fit": False, "full_fit_epochs": None}.items() if values.get(name)}


CLEANERS = read_names("data/clean.py", "CLEANERS")


@dataclass(frozen=True)
class RunKnobs(Knobs):
    """What every run has: its place, where it begins, its folds, and its time."""

    work: str = knob("runs/bbc", "work folder", shown="run")
    run: str = knob("base", "name of this run", shown="run")
    backbone: str = knob("minilm", "minilm, a folder, or a name on the model hub", names="model", shown="run")
    start: str = knob("", "run whose weights it begins with; empty: none", names="run", shown="run")
    folds: list[int] = knob([], "folds to train now; empty: all", least=0, shown="run")
    hours: float = knob(0.0, "stop cleanly before so many hours since the kernel began; 0: never", least=0, shown="run")
    checkpoint_every: float = knob(60.0, "seconds between checkpoints, and at least 1/40 of the steps", least=0)
    overwrite: bool = knob(False, "begin again where this run was made with other settings", shown="run")
    report_to: str = knob("", "tracker that gets losses and scores; empty: none", choices=("", *TRACKERS))


@documented
@dataclass(frozen=True)
class JointOptions(Knobs):
    """How several tasks with rows of their own are learned by one model."""

    owner = "joint"

    batches: str = knob("mixed", "rows of several tasks in a batch, or of one", choices=("mixed", "one"))
    draw: str = knob(
        "size",
        "rows of a task in an epoch: by its size, the root of it, evenly, or from the first to nearly the last",
        choices=("size", "sqrt", "annealed", "even"),
    )
    losses: str | dict[str, float] = knob(
        {},
        'weights of the losses: {"runs/bbc": 2}, of the others 1; learned; or falling: more for one that falls slowly',
    )

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.losses, str):
            rule = 'learned, falling, or a weight for each work folder: {"runs/bbc": 2}'
            check_range("joint: losses", self.losses, self.losses in ("learned", "falling"), rule)
        else:
            for name, weight in self.losses.items():
                check_range(f"joint: losses: {name}", weight, 0 < weight < math.inf, "above 0")


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
    learner_options: dict[str, Any] = knob(
        {},
        'such as {"classifier": "svm"} for frozen, {"epochs": 1} for setfit',
        only={"learner": ("frozen", "setfit")},
    )
    seed: int = knob(0, "fold k is seeded with seed + k", least=0, most=SEEDS, shown="run")
    seeds: int = knob(
        1,
        "models of each fold, whose mean it predicts: number j is seeded with seed + 1000 j + k",
        least=1,
        most=10,
        shown="run",
    )
    soup_of: list[str] = knob(
        [],
        'for backbone="soup": trained runs whose weights are averaged, fold by fold',
        names="run",
        only={"backbone": ("soup",)},
    )
    soup: str = knob(
        "uniform",
        "greedy: members chosen by the other folds; folds: one model predicts the test rows",
        choices=("uniform", "greedy", "folds"),
        only={"backbone": ("soup",)},
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
    tasks: list[str] = knob(
        [],
        'work folders, work among them, whose tasks one model learns: ["runs/bbc", "runs/tweets"]; empty: one',
        only={"head": ("linear", "separate", "queries", "flat")},
    )
    joint: dict[str, Any] = knob(
        {},
        'how several tasks are learned: {"draw": "sqrt", "batches": "one", "losses": "learned"}',
        options="kagglekit.runs.run_knobs:JointOptions",
        only={"tasks": True},
    )
    fixes: str = knob(
        "",
        "corrected labels of train, a file such as a run's suspects.csv: learned, never validated on; empty: none",
        names="file",
        only={"distill": False, "soft_targets": False},
    )
    extra: str | list[str] = knob(
        "",
        "files of labelled rows, learned by every fold and never validated on; empty: none",
        names="file",
        only={"distill": False},
        shown="training",
    )
    extra_weight: float = knob(1.0, "of the loss of an extra row; one of train has 1", above=0, only={"extra": True})
    extra_source: str = knob(
        "",
        "prefix: a text begins with its source, own or the extra file's; empty: it does not",
        choices=("", "prefix"),
        only={"extra": True, "pseudo": False},
    )
    extra_check: bool = knob(
        False, "train each fold without extra rows too, and say whether they help", only={"extra": True}
    )
    full_fit: bool = knob(
        False,
        "beside the folds, one model of all rows, which has no score; see full of 5_submit",
        only={"pseudo": False, "distill": False, "keep_best": False},
    )
    full_fit_epochs: float | None = knob(
        None, "epochs of the model of all rows; None: those of a fold", above=0, only={"full_fit": True}
    )
    find_learning_rate: bool = knob(False, "look for a learning rate first: a picture, and 100 steps that are undone")

    def __post_init__(self):
        super().__post_init__()
        if self.learner_options:
            known = {
                name: one for name, one in read_learner(self.learner).knobs.items() if name not in READS[self.learner]
            }
            known["classifier"] = replace(known["classifier"], choices=read_names("model/shallow.py", "SHALLOW"))
            check_options(f"learner_options: {self.learner}", self.learner_options, known)

    @classmethod
    def idle(cls, values: Mapping[str, Any], known: Mapping[str, Knob]) -> dict[str, str]:
        """Knobs that the learner does not read, those of a `Recipe` among them, or that are of one task where there are
        several -> why, see `Knobs.idle`."""
        at = "backbone" if values["backbone"] in PLAIN else "learner"
        reads = EVERY | READS.get(values[at], known.keys())
        changed = [name for name, one in known.items() if values.get(name, one.default) != one.default]
        unread = [name for name in changed if name not in reads]
        why = f"with {at}={values[at]!r}: leave it out"
        found = super().idle(values, known) | dict.fromkeys(unread, why)
        of_one = [name for name in changed if name in ONE_TASK] if values.get("tasks") else []
        return found | dict.fromkeys(of_one, "on several tasks: leave it out, or train without tasks")


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
    folds: list[int] = knob([], "folds to train now, where a stage goes fold by fold; empty: all", least=0, shown="run")
    texts: list[str] = knob(
        [],
        "files or folders of text, or work folders; empty: train and test of the competition",
        names="file",
        only={"objective": ("mlm", "mlm_sop", "mlm_nsp", "simcse", "simcse_supervised", "rtd")},
        shown="text",
    )
    text_column: str = knob("text", "of tables among the texts", only={"texts": True})
    text_split: str = knob(
        "line", "pieces of plain text among them", choices=("line", "paragraph", "file"), only={"texts": True}
    )
    clean: list[str] = knob(
        [], "cleaners of all texts, in order, see 1_eda; empty: as they are", choices=CLEANERS, shown="text"
    )
    scorer: str = knob(
        "",
        "run of 3_train that says which tokens matter, for selective and entropy, fold by fold",
        names="run",
        only={"masking": ("selective", "entropy")},
        shown="model",
    )
    pairs: str = knob(
        "",
        "file of pairs: texts with images, or texts for simcse_supervised; empty: texts of a class, fold by fold",
        names="file",
        only={"objective": ("simcse_supervised", "itc_itm")},
    )
    pair_columns: list[str] = knob(
        [],
        'columns of such pairs, text and file of the image below the folder of the table; empty: ["text", "image"]',
        only={"objective": ("itc_itm",)},
    )
    probe_every: int = knob(
        0,
        "steps between two scores of a linear model on the vectors: the best step goes on; 0: the last",
        least=0,
        shown="training",
    )

    def __post_init__(self):
        super().__post_init__()
        rule = "two columns: that of the text and that of the image"
        check_range("pair_columns", self.pair_columns, len(self.pair_columns) in (0, 2), rule)
