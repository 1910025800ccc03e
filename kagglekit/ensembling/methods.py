"""The catalogue of methods to blend, from simple to complex, and the plan that puts them together.

In a notebook an ensemble is data: `method="auto", calibrate="temperature", thresholds="auto"`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kagglekit.ensembling import pools
from kagglekit.ensembling.calibration import Beta, Isotonic, LinearCalibration, Temperature, VectorScaling
from kagglekit.ensembling.cascade import Cascade
from kagglekit.ensembling.crossfit import EnsembleChoice, Pipeline
from kagglekit.ensembling.ensembler import Ensembler
from kagglekit.ensembling.stack import Stack
from kagglekit.ensembling.thresholds import ClassThresholds, CutPoints, LabelThresholds, TopK
from kagglekit.ensembling.weight_search import HillClimbing, Search
from kagglekit.options import check_range
from kagglekit.scoring.metrics import CLASSES, find_metric

EVERY = (*CLASSES, "multilabel", "ordinal", "regression")
CHANCES = (*CLASSES, "multilabel")  # kinds of task whose predictions are probabilities
VALUES = ("ordinal", "regression")


@dataclass(frozen=True)
class Method:
    """A way to combine predictions or to correct one: what makes it, and the kinds of task it fits.

    tried: the kinds for which `method="auto"` tries it where no candidates are named; the others cost more, or say much
    the same.
    """

    make: Callable[..., Ensembler]
    kinds: tuple[str, ...] = EVERY
    tried: tuple[str, ...] = ()


METHODS = {
    "best": Method(pools.BestSingle, tried=EVERY),
    "mean": Method(pools.Mean, tried=EVERY),
    "geometric": Method(pools.GeometricMean, CHANCES, tried=EVERY),
    "power": Method(pools.PowerMean, CHANCES),
    "rank": Method(pools.RankMean),
    "median": Method(pools.Median),
    "vote": Method(pools.Vote),
    "weighted_vote": Method(partial(pools.Vote, weighted=True), CHANCES),
    "weights": Method(pools.LinearPool, tried=EVERY),
    "log_pool": Method(pools.LogPool, CHANCES, tried=EVERY),
    "log_pool_sharpened": Method(partial(pools.LogPool, sharpen=True), CHANCES),
    "hill_climbing": Method(HillClimbing, tried=EVERY),
    "nelder_mead": Method(partial(Search, method="nelder-mead")),
    "optuna": Method(partial(Search, method="optuna")),
    "weights_per_column": Method(partial(pools.LinearPool, per_column=True), tried=("multilabel", "regression")),
    "log_pool_per_column": Method(partial(pools.LogPool, per_column=True), CHANCES),
    "cascade": Method(Cascade, CHANCES),
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
BAGS = 10  # bootstrap samples whose thresholds are averaged: a few hundred rows alone would be overfitted
THRESHOLDS = {
    "classes": Method(partial(ClassThresholds, bags=BAGS), CLASSES),
    "labels": Method(partial(LabelThresholds, bags=BAGS), ("multilabel",)),
    "cuts": Method(partial(CutPoints, bags=BAGS), ("ordinal", "multiclass")),
    "top": Method(TopK, ("multilabel",)),
}
EVERYTHING = METHODS | CALIBRATIONS | THRESHOLDS
USUAL = {"binary": "classes", "multiclass": "classes", "multilabel": "labels", "ordinal": "cuts"}


def find_single(kind: str) -> list[str]:
    """The methods that are tried on a single run: it, and models on top of it. Pools of one run are that run."""
    return [name for name in ("best", "logistic", "ridge") if kind in METHODS[name].kinds]


@dataclass(frozen=True)
class BlendPlan:
    """How runs become one prediction: the parameters of 4_ensemble, checked, and kept with the blend.

    method: a name of METHODS, or "auto": the simplest of the candidates within one standard error of the best, chosen
    by cross-fitting. candidates: of "auto", from simple to complex; empty: those that fit and are quick. calibrate: a
    name of CALIBRATIONS; empty: none. thresholds: a name of THRESHOLDS, or "auto", where the metric sees decisions:
    what suits the task, if it is better; empty: none. options: name of a method -> its knobs. Raises ValueError for
    what does not exist or does not fit the task.
    """

    kind: str
    metric: str
    method: str = "auto"
    candidates: Sequence[str] = ()
    calibrate: str = ""
    thresholds: str = ""
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self):
        fitting = self._fitting(METHODS)
        for name in [*([] if self.method == "auto" else [self.method]), *self.candidates]:
            check_range("method", name, name in METHODS, f"auto or one of {', '.join(METHODS)}")
            check_range("method", name, name in fitting, f"one that fits a {self.kind} task: {', '.join(fitting)}")
        fits = not self.candidates or self.method == "auto"
        check_range("candidates", list(self.candidates), fits, "empty, unless method is auto")
        thresholds = self.thresholds.removesuffix("auto")
        for what, name, known in (("calibrate", self.calibrate, CALIBRATIONS), ("thresholds", thresholds, THRESHOLDS)):
            these = self._fitting(known)
            rule = f"empty, or for a {self.kind} task {', '.join(these) or 'nothing else'}"
            check_range(what, name, not name or name in these, rule)
        for name, knobs in self.options.items():
            check_range("options", name, name in EVERYTHING, f"one of {', '.join(EVERYTHING)}")
            try:
                EVERYTHING[name].make(**knobs)
            except TypeError as error:
                raise ValueError(f"options: {name} does not take {knobs}: {error}") from None

    def _fitting(self, known: dict[str, Method]) -> list[str]:
        return [name for name, method in known.items() if self.kind in method.kinds]

    @property
    def rule(self) -> str:
        """The thresholds that are tried; with "auto" none where the metric sees no decisions."""
        if self.thresholds != "auto":
            return self.thresholds
        measure = find_metric(self.metric)
        if measure.ordered:
            return "cuts"
        return USUAL.get(self.kind, "") if measure.decides is not False else ""

    @property
    def names(self) -> list[str]:
        """The methods that are tried."""
        if self.method != "auto":
            return [self.method]
        return list(self.candidates) or [name for name in self._fitting(METHODS) if self.kind in METHODS[name].tried]

    def make(self, name: str, thresholds: str = "") -> Ensembler:
        """One method, followed by the calibration and by thresholds."""
        steps = [step for step in (name, self.calibrate, thresholds) if step]
        made = [EVERYTHING[step].make(**self.options.get(step, {})) for step in steps]
        return Pipeline(*made) if len(made) > 1 else made[0]

    def candidates_made(self) -> dict[str, Ensembler]:
        """Everything that there is to choose from, from simple to complex: with thresholds after all without."""
        plain = {name: self.make(name) for name in self.names}
        if not self.rule:
            return plain
        moved = {f"{name} + {self.rule}": self.make(name, self.rule) for name in self.names}
        return plain | moved if self.thresholds == "auto" else moved

    def ensembler(self) -> Ensembler:
        """The whole plan as one second-level model."""
        made = self.candidates_made()
        return EnsembleChoice(made) if len(made) > 1 else next(iter(made.values()))
