"""The parameters of 4_ensemble and 5_submit: a blend, and a submission."""

from __future__ import annotations  # the types of knobs are texts

from dataclasses import dataclass
from typing import Any

from kagglekit.declared import read_names
from kagglekit.options import SEEDS, Knobs, documented, knob
from kagglekit.scoring import KINDS
from kagglekit.scoring.names import check_metric_name

METHODS, CALIBRATIONS, THRESHOLDS = (
    read_names("ensembling/methods.py", name) for name in ("METHODS", "CALIBRATIONS", "THRESHOLDS")
)


@documented
@dataclass(frozen=True)
class EnsembleRun(Knobs):
    """The parameters of `4_ensemble`."""

    work: str = knob("runs/bbc", "work folder", shown="run")
    run: str = knob("blend", "name of the blend", shown="run")
    runs: list[str] = knob(
        [],
        "runs to blend; empty: all trained runs of the work folder, without partial ones",
        names="run",
        unless="files",
        shown="run",
    )
    files: str = knob(
        "",
        "instead of runs: a folder of prediction files made elsewhere, see kagglekit/ensembling/README.md",
        names="file",
        shown="run",
    )
    kind: str | None = knob(
        None, "of the task of these files; None: inferred from them", choices=KINDS, only={"files": True}, shown="run"
    )
    metric: str | None = knob(
        None,
        "of the task of these files; None: inferred from them",
        only={"files": True},
        shown="run",
    )
    id: str | None = knob(
        None,
        'column of ids in these files; None: "id", or the one that all share',
        only={"files": True},
        shown="run",
    )
    labels: list[str] = knob([], "columns of labels in these files; empty: inferred", only={"files": True}, shown="run")
    classes: list[str] = knob(
        [],
        "of these files, in the order of columns or of labels that are numbers; empty: inferred",
        only={"files": True},
        shown="run",
    )
    method: str = knob(
        "auto",
        "auto: the simplest within one standard error of the best; or mean, weights, hill_climbing, ...",
        choices=("auto", *METHODS),
        shown="ensemble",
    )
    methods: list[str] = knob(
        [],
        "those that auto chooses from, from simple to complex; empty: all quick ones",
        choices=METHODS,
        only={"method": ("auto",)},
        shown="ensemble",
    )
    cascade: list[list[str | float]] = knob(
        [],
        'runs, each for a share of unsure rows: [["small", 1.0], ["large", 0.3]]',
        names="run",
        contents="kagglekit.ensembling.cascade:read_cascade",
        only={"runs": False, "files": False, "method": ("auto",), "methods": False},
        shown="ensemble",
    )
    calibrate: str = knob("", "empty: none; or a calibration", choices=("", *CALIBRATIONS), shown="ensemble")
    thresholds: str = knob(
        "auto",
        "empty: none; auto: tried where the metric sees decisions",
        choices=("", "auto", *THRESHOLDS),
        shown="ensemble",
    )
    meta: list[str] = knob(
        [],
        "features for stackers: words, lines, punctuation, columns of numbers",
        only={"files": False},
        shown="ensemble",
    )
    options: dict[str, dict[str, Any]] = knob(
        {},
        'knobs of a method: {"hill_climbing": {"bags": 20}, "top": {"k": 2}}',
        choices=(*METHODS, *CALIBRATIONS, *THRESHOLDS),
        contents="kagglekit.declared:check_methods",
        shown="ensemble",
    )
    public_share: float = knob(
        0.3, "of the test rows that the public leaderboard shows", above=0, below=1, shown="ensemble"
    )
    seed: int = knob(
        0,
        "of the folds that are made for files without",
        least=0,
        most=SEEDS,
        only={"files": True},
        shown="ensemble",
    )

    def __post_init__(self):
        super().__post_init__()
        if self.metric is not None:
            check_metric_name(self.metric)


@documented
@dataclass(frozen=True)
class SubmitRun(Knobs):
    """The parameters of `5_submit`."""

    work: str = knob("runs/bbc", "work folder", shown="run")
    run: str = knob("blend", "run to submit", names="run", shown="run")
    predict: bool = knob(
        False, "predict test again with the saved models, as the hidden test of a code competition needs", shown="run"
    )
    precision: str = knob(
        "auto",
        "of predicting again; auto: as trained; int8: weights of 8 bits, for what does not fit the memory",
        choices=("auto", "bf16", "fp32", "int8"),
        only={"predict": True},
        shown="run",
    )
    learn: dict[str, Any] = knob(
        {},
        'train the models on labelled columns of test first: {"support": {"positive": ["example_1"], ...}}',
        options="kagglekit.selftraining.selftraining_knobs:LearningOptions",
        only={"predict": True},
        shown="run",
    )
    full: str = knob(
        "",
        "the model of all rows (full_fit): only it; with: as one more beside those of the folds; empty: without it",
        choices=("", "only", "with"),
        shown="run",
    )
    suite: list[str] = knob(
        [],
        'work folders, or runs in them, to submit with it in one zip: ["runs/b", "runs/c/base"]',
        names="file",
        only={"predict": False, "full": False},
        shown="run",
    )
    hours: float = knob(0.0, "stop cleanly before so many hours since the kernel began; 0: never", least=0, shown="run")
