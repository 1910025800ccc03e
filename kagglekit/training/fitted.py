"""What fitting one fold gives, whatever was fitted."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Fitted:
    """Predictions (rows, columns) of the fold's own rows and of the test rows, history, and receipts of its tricks.

    evaluations: step -> what the weights of that step predict for the fold's own rows, where one of them was chosen.
    """

    oof: np.ndarray
    test: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    receipts: dict[str, Any] = field(default_factory=dict)
    evaluations: dict[int, np.ndarray] = field(default_factory=dict, repr=False)
