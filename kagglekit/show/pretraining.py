"""Tables of a pretraining stage: hidden tokens under its masking and under others, and the figures of its scorers."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from kagglekit.files import read_json
from kagglekit.pretraining.masking import MASKINGS, make_masking, show_masking
from kagglekit.pretraining.pretraining_run import StageRun
from kagglekit.pretraining.stage_knobs import SCORED

MASKED = 600  # characters of a text with its masks


def show_masks(run: StageRun, folder: Path, texts: Sequence[str]) -> pd.DataFrame:
    """Texts as the model of the first group reads them; a scorer that this needs is trained, and kept in its folder."""
    group = run.groups[0]
    place = folder / group.name
    table = show_masking(texts, run.tokenizer(run.begin(group, place)), run.masking(group, place), seed=run.stage.seed)
    table.attrs["characters"] = MASKED
    return table


def compare_maskings(run: StageRun, folder: Path, texts: Sequence[str]) -> pd.DataFrame:
    """The same texts under every masking that needs no task model, with its default options, and under the run's own.

    Without jieba, whole words of Chinese text are pieces of the tokenizer.
    """
    group = run.groups[0]
    tokenizer, shown = run.tokenizer(run.begin(group, folder / group.name)), {}
    chinese = {} if importlib.util.find_spec("jieba") else {"chinese": "characters"}
    for name in [name for name in MASKINGS if name not in SCORED]:
        options = chinese if name in ("whole_word", "span") else {}
        masking = make_masking(name, tokenizer, run.stage.mask_probability, options)
        shown[name] = show_masking(texts, tokenizer, masking, seed=run.stage.seed)
    if run.scorer:
        shown[run.stage.masking] = show_masks(run, folder, texts)
    table = pd.concat(shown, names=["scheme", "text"])
    table.attrs["characters"] = MASKED
    return table


def scorer_figures(run: StageRun, folder: Path) -> pd.DataFrame:
    """The figures of the token scorer of each group, see `train_token_scorer`; a task model that scores by itself has
    no row, and without a scorer the table is empty."""
    files = {one.name: folder / one.name / "scorer" / "model" / "figures.json" for one in run.groups}
    found = {name: read_json(file) for name, file in files.items() if file.is_file()}
    return pd.DataFrame.from_dict(found, orient="index").rename_axis("part")
