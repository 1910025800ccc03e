"""The knobs of distillation, their meaning and their ranges, in one place."""

from __future__ import annotations  # the types of knobs are texts, as in a notebook

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from kagglekit.metrics import CLASSES
from kagglekit.ranges import accepts, check_range
from kagglekit.selftrain.distances import LOSSES

BY = ("fold", "nested", "oof")


@dataclass(frozen=True)
class Teaching:
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
    def choose(cls, options: Mapping[str, Any]) -> Teaching:
        """From the dict of a notebook. Raises ValueError for an unknown one, and says which there are."""
        known = [option.name for option in fields(cls)]
        for name in options:
            check_range("distill", name, name in known, f"of {', '.join(known)}")
        return cls(**options)
