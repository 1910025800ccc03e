"""What a stage hides, how other schemes would, and what its scorers know: tables for the notebook."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kagglekit.files import read_json
from kagglekit.pretraining.masking import MASKINGS, make_masking, show_masking
from kagglekit.pretraining.run import StageRun
from kagglekit.pretraining.stage import SCORED


def show_masks(run: StageRun, folder: Path, texts: Sequence[str]) -> pd.DataFrame:
    """Texts as the model sees them, those of its first part; a scorer that has to be trained for it is kept there."""
    part = run.groups[0]
    place = folder / part.name
    return show_masking(texts, run.tokenizer(run.begin(part, place)), run.masking(part, place), seed=run.stage.seed)


def compare_maskings(run: StageRun, folder: Path, texts: Sequence[str]) -> pd.DataFrame:
    """The same texts under every scheme that needs no model of the task, with its default options, and under the run's.

    Without jieba, whole words of Chinese are what the tokenizer makes of it.
    """
    part = run.groups[0]
    tokenizer, shown = run.tokenizer(run.begin(part, folder / part.name)), {}
    chinese = {} if importlib.util.find_spec("jieba") else {"chinese": "characters"}
    for name in [name for name in MASKINGS if name not in SCORED]:
        options = chinese if name in ("whole_word", "span") else {}
        masking = make_masking(name, tokenizer, run.stage.mask_probability, options)
        shown[name] = show_masking(texts, tokenizer, masking, seed=run.stage.seed)
    if run.scorer:
        shown[run.stage.masking] = show_masks(run, folder, texts)
    return pd.concat(shown, names=["scheme", "text"])


def scorer_figures(run: StageRun, folder: Path) -> pd.DataFrame:
    """How well the scorer of each part has learned what matters: see `train_token_scorer`. A task model that is asked
    itself has no line, and without a scorer the table is empty."""
    files = {part.name: folder / part.name / "scorer" / "model" / "figures.json" for part in run.groups}
    found = {name: read_json(file) for name, file in files.items() if file.is_file()}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("part")
