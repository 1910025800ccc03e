"""The catalogue of second-level models, from simple to complex, and how they are put together.

In a notebook an ensemble is data: `method="auto", calibrate="temperature", thresholds="auto"`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kagglekit.ensembling.base import Ensembler
from kagglekit.ensembling.calibration import Beta, Isotonic, LinearCalibration, Temperature, VectorScaling
from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline
from kagglekit.ensembling.pools import (
    BestSingle,
    GeometricMean,
    LinearPool,
    LogPool,
    Mean,
    Median,
    PowerMean,
    RankMean,
    Vote,
)
from kagglekit.ensembling.search import HillClimbing, Search
from kagglekit.ensembling.stack import Stack
from kagglekit.ensembling.thresholds import ClassThresholds, CutPoints, LabelThresholds, TopK
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES, find_metric

EVERY = (*CLASSES, "multilabel", "ordinal", "regression")
CHANCES = (*CLASSES, "multilabel")  # kinds of task whose predictions are probabilities
VALUES = ("ordinal", "regression")


@dataclass(frozen=True)
class Method:
    """A way to combine members, or to correct what comes out: what makes it, and the kinds of task it fits.

    tried: the kinds for which `method="auto"` tries it, where no candidates are named; what it does not try costs more,
    or says the same as another.
    """

    make: Callable[..., Ensembler]
    kinds: tuple[str, ...] = EVERY
    tried: tuple[str, ...] = ()


METHODS = {
    "best": Method(BestSingle, tried=EVERY),
    "mean": Method(Mean, tried=EVERY),
    "geometric": Method(GeometricMean, CHANCES, tried=EVERY),
    "power": Method(PowerMean, CHANCES),
    "rank": Method(RankMean),
    "median": Method(Median),
    "vote": Method(Vote),
    "weighted_vote": Method(partial(Vote, weighted=True), CHANCES),
    "weights": Method(LinearPool, tried=EVERY),
    "log_pool": Method(LogPool, CHANCES, tried=EVERY),
    "log_pool_sharpened": Method(partial(LogPool, sharpen=True), CHANCES),
    "hill_climbing": Method(HillClimbing, tried=EVERY),
    "nelder_mead": Method(partial(Search, method="nelder-mead")),
    "optuna": Method(partial(Search, method="optuna")),
    "weights_per_column": Method(partial(LinearPool, per_column=True), tried=("multilabel", "regression")),
    "log_pool_per_column": Method(partial(LogPool, per_column=True), CHANCES),
    "logistic": Method(Stack, CHANCES, tried=EVERY),
    "ridge": Method(partial(Stack, model="ridge"), VALUES, tried=EVERY),
    "boosting": Method(partial(Stack, model="boosting")),
}
CALIBRATIONS = {
    "temperature": Method(Temperature, CHANCES),
    "vector": Method(VectorScaling, CHANCES),
    "isotonic": Method(Isotonic, CHANCES),
    "beta": Method(Beta, CHANCES),
    "linear": Method(LinearCalibration, VALUES),
}
BAGS = 10  # draws of rows whose thresholds are averaged: a few hundred rows alone would overfit them
THRESHOLDS = {
    "classes": Method(partial(ClassThresholds, bags=BAGS), CLASSES),
    "labels": Method(partial(LabelThresholds, bags=BAGS), ("multilabel",)),
    "cuts": Method(partial(CutPoints, bags=BAGS), ("ordinal", "multiclass")),
    "top": Method(TopK, ("multilabel",)),
}
USUAL = {"binary": "classes", "multiclass": "classes", "multilabel": "labels", "ordinal": "cuts"}


@dataclass(frozen=True)
class BlendPlan:
    """How members become one prediction: what 4_ensemble was told, checked, and kept with the blend.

    method: a name of METHODS, or "auto": the simplest of the candidates that is within one standard error of the best,
    chosen by cross-fitting. candidates: of "auto", from simple to complex; none: those that fit and are quick.
    calibrate: a name of CALIBRATIONS; empty: none. thresholds: a name of THRESHOLDS, or "auto", where the metric takes
    decisions: what suits the task, if it is better; empty: none. options: name of a method -> its knobs.
    Raises ValueError, in words, for what does not exist or does not fit the task.
    """

    kind: str
    metric: str
    method: str = "auto"
    candidates: Sequence[str] = ()
    calibrate: str = ""
    thresholds: str = ""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        fitting = [name for name, method in METHODS.items() if self.kind in method.kinds]
        for name in [*([] if self.method == "auto" else [self.method]), *self.candidates]:
            check_range("method", name, name in METHODS, f"auto or one of {', '.join(METHODS)}")
            check_range("method", name, name in fitting, f"one that fits a {self.kind} task: {', '.join(fitting)}")
        wrong = set(self.candidates) and self.method != "auto"
        check_range("candidates", list(self.candidates), not wrong, "empty, unless method is auto")
        for what, name, known in (
            ("calibrate", self.calibrate, CALIBRATIONS),
            ("thresholds", self.thresholds.removesuffix("auto"), THRESHOLDS),
        ):
            these = [one for one, way in known.items() if self.kind in way.kinds]
            rule = f"empty, or for a {self.kind} task {', '.join(these) or 'nothing else'}"
            check_range(what, name, not name or name in these, rule)
        for name, knobs in self.options.items():
            known = METHODS | CALIBRATIONS | THRESHOLDS
            check_range("options", name, name in known, f"one of {', '.join(known)}")
            try:
                known[name].make(**knobs)
            except TypeError as error:
                raise ValueError(f"options: {name} does not take {knobs}: {error}") from None

    @property
    def rule(self) -> str:
        """The thresholds that are tried; with "auto" none where the metric takes no decisions."""
        if self.thresholds != "auto":
            return self.thresholds
        decides = find_metric(self.metric).decides is not False
        if self.metric == "qwk":
            return "cuts"
        return USUAL.get(self.kind, "") if decides else ""

    @property
    def names(self) -> list[str]:
        """The methods that are tried."""
        if self.method != "auto":
            return [self.method]
        fitting = [name for name, method in METHODS.items() if self.kind in method.kinds and self.kind in method.tried]
        return list(self.candidates) or fitting

    def make(self, name: str, thresholds: str = "") -> Ensembler:
        """One method, followed by the calibration and by thresholds."""
        steps = [METHODS[name].make(**self.options.get(name, {}))]
        if self.calibrate:
            steps.append(CALIBRATIONS[self.calibrate].make(**self.options.get(self.calibrate, {})))
        if thresholds:
            steps.append(THRESHOLDS[thresholds].make(**self.options.get(thresholds, {})))
        return Pipeline(*steps) if len(steps) > 1 else steps[0]

    def candidates_made(self) -> dict[str, Ensembler]:
        """Everything that there is to choose from, from simple to complex: thresholds bend what is decided, so that
        they come after all that does without."""
        plain = {name: self.make(name) for name in self.names}
        if not self.rule:
            return plain
        bent = {f"{name} + {self.rule}": self.make(name, self.rule) for name in self.names}
        return plain | bent if self.thresholds == "auto" else bent

    def ensembler(self) -> Ensembler:
        """The whole plan as one second-level model."""
        made = self.candidates_made()
        return EnsembleChoice(made) if len(made) > 1 else next(iter(made.values()))
