"""Which models a finished run has kept, and what they read."""

import gc
from collections.abc import Iterator
from pathlib import Path

import torch

from kagglekit.lineage import members_of, recipe_of
from kagglekit.paths import fold_folders, run_folder
from kagglekit.training.recipe import Recipe


def saved_models(run: Path) -> dict[int, Path]:
    """Fold -> the folder of the model that predicts test in it, of the finished folds of a fine-tuned run or a soup;
    that of an average over all folds is the same in each. A run that keeps no such model has none."""
    one = recipe_of(run).get("soup") == "folds"
    found = {k: (run if one else place) / "model" for k, place in fold_folders(run).items()}
    return {k: model for k, model in found.items() if (model / "classifier.json").is_file()}


def leaves(run: Path) -> Iterator[Path]:
    """The run itself, or of a blend the runs that it is made of in the end; one that is named twice comes twice."""
    members = members_of(run)
    for member in members:
        yield from leaves(member)
    if not members:
        yield run


def columns_beside(work: str | Path, run: str) -> list[str]:
    """The columns of test that the models of a run, or of the members of a blend, read beside the text."""
    found = [name for place in leaves(run_folder(work, run)) for name in Recipe.read(recipe_of(place)).columns]
    return list(dict.fromkeys(found))


def free_memory() -> None:
    """Give back what a model held that nothing names any more, so that the next one has room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
