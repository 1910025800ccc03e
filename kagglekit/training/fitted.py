"""What fitting one fold gives, whatever was fitted."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Fitted:
    """Predictions (rows, columns) of the fold's own rows and of the test rows, history, and receipts of its tricks."""

    oof: np.ndarray
    test: np.ndarray
    history: list[dict[str, float]] = field(default_factory=list)
    receipts: dict[str, Any] = field(default_factory=dict)
