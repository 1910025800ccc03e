"""The knobs of self-training, their meaning and their ranges, in one place.

The knobs of distillation, their meaning and their ranges, in one place.
"""

from __future__ import annotations  # the types of knobs are texts, as in a notebook

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from kagglekit.options import accepts, check_range
from kagglekit.scoring.metrics import CLASSES
from kagglekit.selftraining.distillation import LOSSES

DRAWN = {"passes": 10, "sample": "easy", "size": 0, "dropout": None}  # knobs of ust alone -> how they are left
KEPT = 0.9  # the usual threshold


@dataclass(frozen=True)
class SelfTrainingOptions:
    """What is labelled by whom, which of it is kept, and how it is learned.

    threshold: probability from which on a row is kept; None is 0.9 where there are probabilities. 0 keeps all; near 1
    few rows are kept, with fewer wrong labels, and they teach less that is new. For several labels each must be as
    sure, of being there or not. Values do not say how sure they are: all rows are kept.
    top: at most so many rows of each class, the surest ones (for several labels: of each label, and of none); 0 is all.
    It keeps a class that the teacher prefers from taking over. ust draws that many.
    weight: of a row in the loss, where a row of train has 1; "confidence" is its probability. 0 is training without
    pseudo labels. With ust it is multiplied with the weights by variance, whose mean is 1.
    begin: where students start: "start", as the fold does, or "teacher", with the weights of the model before them.
    passes, sample, size, dropout: of ust, see `kagglekit/selftrain/ust.py`; size: rows of the pool, drawn anew in each
    round, that are asked; 0 is all. dropout: during the passes; None is what the model was trained with.
    Raises ValueError for a value of another type or out of range, and for two that contradict each other.
    """

    teacher: str = ""  # a run or a blend; none: the first model is trained here
    labels: Literal["hard", "soft", "ust"] = "hard"
    threshold: float | None = None
    top: int = 0
    weight: float | str = 1.0
    rounds: int = 1  # the student of a round labels the next one
    unlabelled: list[str] = field(default_factory=list)  # files with the text columns of the task
    test: bool = True  # label the rows of test
    order: Literal["mixed", "first"] = "mixed"  # together with train; or pseudo rows first, then those of train alone
    begin: Literal["start", "teacher"] = "start"
    passes: int = 10
    sample: Literal["easy", "hard"] = "easy"
    size: int = 0
    dropout: float | None = None

    def __post_init__(self):
        for knob in fields(self):
            value = getattr(self, knob.name)
            check_range(f"pseudo: {knob.name}", value, accepts(knob.type, value), knob.type)
        weight = self.weight
        known = weight == "confidence" if isinstance(weight, str) else 0 <= weight < math.inf
        share = self.dropout is None or 0 < self.dropout < 1
        sure = self.threshold is None or 0 <= self.threshold <= 1
        check_range("pseudo: weight", weight, known, 'a number, 0 or more, or "confidence"')
        check_range("pseudo: threshold", self.threshold, sure, "a probability from 0 to 1")
        check_range("pseudo: dropout", self.dropout, share, "above 0 and below 1, or None")
        for name, least in (("top", 0), ("rounds", 1), ("passes", 2), ("size", 0)):
            check_range(f"pseudo: {name}", getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        if not self.test and not self.unlabelled:
            raise ValueError("pseudo: there is nothing to label: set test=True, or name files in unlabelled")
        self._check_labels()

    def _check_labels(self):
        if self.labels != "ust":
            changed = [name for name, left in DRAWN.items() if getattr(self, name) != left]
            if changed:
                raise ValueError(f"pseudo: {changed[0]} is a knob of labels='ust', and labels={self.labels!r}")
            return
        if not self.top:
            raise ValueError("pseudo: ust draws rows of each class: say how many, such as top=100")
        if self.threshold:
            raise ValueError(f"pseudo: ust draws rows by BALD, not by threshold={self.threshold}: leave it out")
        if self.weight == "confidence":
            raise ValueError("pseudo: ust has weights of its own, by variance: leave weight='confidence' out")

    def check_kind(self, kind: str) -> None:
        """Raise ValueError for knobs that a kind of task has no use for."""
        if kind in (*CLASSES, "multilabel"):
            return
        if self.threshold or self.weight == "confidence":
            raise ValueError(
                f"pseudo: threshold and confidence are of probabilities, and predictions of a task of kind {kind} are "
                "values, which do not say how sure they are: leave them out, or set labels='ust', which measures it"
            )
        if self.top and self.labels != "ust":
            raise ValueError(f"pseudo: top={self.top} takes the surest rows, and values do not say how sure they are")
        if kind == "ordinal" and self.labels == "soft":
            raise ValueError("pseudo: ordered classes are learned as whole numbers: labels='soft' does not fit")

    def least(self, kind: str) -> float:
        """The threshold that counts for a kind of task."""
        probable = kind in (*CLASSES, "multilabel") and self.labels != "ust"
        return KEPT if self.threshold is None and probable else self.threshold or 0.0

    def as_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return asdict(self)

    @classmethod
    def choose(cls, options: Mapping[str, Any]) -> SelfTrainingOptions:
        """The knobs that a notebook's `pseudo` names; raises ValueError for a name that is none, and lists them."""
        known = [knob.name for knob in fields(cls)]
        for name in options:
            check_range("pseudo", name, name in known, f"one of {', '.join(known)}")
        return cls(**options)


BY = ("fold", "nested", "oof")


@dataclass(frozen=True)
class DistillationOptions:
    """Who teaches, what of, and how much it counts. Raises ValueError for options out of range or against each other.

    teacher: a run or a blend of the work folder; "" is the run itself, whose first models have no teacher.
    by: whose predictions of a training row count, see `Distiller`; "" is "fold" for a run, "nested" for the run itself.
    loss, temperature, weight, hidden: of `Distillation`.
    rounds: 1 is a student of the teacher, 2 a student of this student, and so on (born-again networks).
    """

    teacher: str = ""
    by: str = ""
    loss: str = ""
    temperature: float = 1.0
    weight: float = 0.5
    hidden: float = 0.0
    rounds: int = 1

    def __post_init__(self):
        for option in fields(self):
            value = getattr(self, option.name)
            check_range(f"distill: {option.name}", value, accepts(option.type, value), option.type)
        check_range("distill: by", self.by, self.by in ("", *BY), f"empty, or of {', '.join(BY)}")
        check_range("distill: loss", self.loss, self.loss in ("", *LOSSES), f"empty, or of {', '.join(LOSSES)}")
        check_range("distill: weight", self.weight, 0 <= self.weight <= 1, "from 0 to 1")
        check_range("distill: temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")
        check_range("distill: hidden", self.hidden, 0 <= self.hidden < math.inf, "0 or more")
        check_range("distill: rounds", self.rounds, self.rounds >= 1, "1 or more")
        if self.teacher and self.source == "nested":
            raise ValueError("distill: by='nested' trains teachers of its own: leave teacher empty, or set by='fold'")
        if not self.teacher and self.source == "oof":
            raise ValueError("distill: by='oof' are predictions of a run that is there: name it as teacher")
        if self.hidden and self.source == "nested":
            raise ValueError("distill: hidden needs one teacher with all rows of the student: set by='fold'")
        if self.temperature != 1 and self.loss not in ("", "kl"):
            raise ValueError(f"distill: temperature={self.temperature} is of loss='kl', not of {self.loss!r}")

    @property
    def source(self) -> str:
        """By what a row is labelled: fold, nested or oof."""
        return self.by or ("fold" if self.teacher else "nested")

    @property
    def taught_by(self) -> str:
        """Who labels the rows of the first student, in words."""
        return f"{self.source} of {self.teacher or 'the run itself'}"

    def check_kind(self, kind: str) -> None:
        """Raise ValueError when the loss does not fit a kind of task."""
        if kind in (*CLASSES, "multilabel"):
            return
        if self.loss not in ("", "mse") or self.temperature != 1:
            raise ValueError(
                f"distill: loss={self.loss or 'kl'!r} and a temperature are of probabilities, and the task is {kind}: "
                "set loss='mse' and leave temperature=1"
            )

    @property
    def crosses(self) -> bool:
        """Whether a student hears of the labels of its own fold."""
        return self.source == "oof"

    def as_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return asdict(self)

    @classmethod
    def choose(cls, options: Mapping[str, Any]) -> DistillationOptions:
        """From the dict of a notebook. Raises ValueError for an unknown one, and says which there are."""
        known = [option.name for option in fields(cls)]
        for name in options:
            check_range("distill", name, name in known, f"of {', '.join(known)}")
        return cls(**options)
