"""What is left of one model of self-training once it is trained: predictions, kept in files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.paths import replacing
from kagglekit.selftrain.pseudo import Guess
from kagglekit.training.fitted import Fitted

DONE = "done"  # a folder in that of a round, which is there once its model is trained and asked
ADDED = "added.parquet"  # in it: the rows that the model was taught
GUESS = ("mean", "uncertainty", "variance")


@dataclass(frozen=True, eq=False)
class Step:
    """One model: what it says of the pool, and of the held-out rows of its fold, both asked in the same way.

    fitted: as `FineTuner.fit` gives it; None for a teacher from elsewhere.
    """

    pool: Guess
    held_out: Guess
    fitted: Fitted | None = None

    def save(self, folder: Path, added: pd.DataFrame | None = None) -> None:
        """Write it to a folder, whole or not at all, with the table of the rows that the model was taught; of several
        processes the first one writes, and the others wait."""
        state = PartialState()
        if state.is_main_process:
            guesses = {"pool": self.pool, "held_out": self.held_out}
            arrays = {f"{name} {part}": getattr(guess, part) for name, guess in guesses.items() for part in GUESS}
            arrays |= {"oof": self.fitted.oof, "test": self.fitted.test}
            words = {"history": self.fitted.history, "receipts": self.fitted.receipts}
            with replacing(folder) as part:
                part.mkdir(parents=True)
                np.savez(part / "arrays.npz", **{name: x for name, x in arrays.items() if x is not None})
                (part / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")
                if added is not None:
                    added.to_parquet(part / ADDED, index=False)
        state.wait_for_everyone()

    @classmethod
    def load(cls, folder: Path) -> "Step":
        """What `save` wrote."""
        with np.load(folder / "arrays.npz") as file:
            arrays = dict(file)
        words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
        guesses = [Guess(**{part: arrays.get(f"{name} {part}") for part in GUESS}) for name in ("pool", "held_out")]
        fitted = Fitted(arrays["oof"], arrays["test"], words["history"], words["receipts"])
        return cls(*guesses, fitted)
