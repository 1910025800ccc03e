"""Paths of work folders, runs and folds: which names a run can have, and what makes a damaged file in one again."""

import re
from pathlib import Path

RESERVED = {"data", "kaggle", "notebooks", "race", "tokens"}  # folders of a work folder that are not runs
PART = re.compile(r"(fold|part)[0-9]+")  # the folder of a fold, or of a part of 2_pretrain
SEED = re.compile(r"seed[0-9]+")  # the folder of a seed, in that of a fold
DEVICES = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?"  # no file of such a name can be on Windows
LONGEST = 100  # letters of a run's name: its copies, markers and temporary files have longer ones


def resolve(path: str | Path) -> Path:
    """An absolute path; relative ones count from the working directory, or from its parent where that is `notebooks/`.

    JupyterLab starts a kernel in the notebook's own folder, papermill in the caller's: `runs/bbc` is the same in both.
    """
    here = Path.cwd()
    if here.name == "notebooks" and (here.parent / "kagglekit").is_dir():
        here = here.parent
    return (here / Path(path).expanduser()).resolve()


def shorten(path: Path) -> Path:
    """The path relative to the working directory, where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def run_folder(work: str | Path, run: str) -> Path:
    """The folder of a run. Raises ValueError for a name that is not a plain folder name, or that is reserved."""
    check_run_name("run", run)
    return resolve(work) / run


def check_run_name(parameter: str, name: str, path: bool = False) -> None:
    """Raise ValueError for what cannot name a run, on any system, and say why. path: it may also be the path of a run
    in another work folder, which has a slash."""
    if path and "/" in name:
        name = name.rstrip("/").rpartition("/")[2]
    low, why = name.lower(), ""
    if len(name) > LONGEST:
        why = f"it has {len(name)} letters, and {LONGEST} is the most"
        name = f"{name[:20]}..."
    elif "/" in name or "\\" in name:
        why = "it has a slash, and a run is a folder in the work folder: name that one by work="
    elif not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith("."):
        why = "use letters from a to z, digits, '.', '_' and '-', the first one a letter or a digit, the last no '.'"
    elif low in RESERVED or re.fullmatch(r"fold\d+", low):
        why = f"fold0, fold1, ... and {', '.join(sorted(RESERVED))} are other folders of a work folder"
    elif re.fullmatch(DEVICES, low):
        why = "Windows keeps that name for a device"
    if why:
        raise ValueError(f"{parameter}={name!r} cannot name a run: {why}")


def fold_folders(run: Path) -> dict[int, Path]:
    """The finished folds of a run, number -> folder: those with both tables."""
    found = {int(p.name[4:]): p for p in run.glob("fold*") if p.name[4:].isdigit()}
    return {k: p for k, p in sorted(found.items()) if (p / "oof.parquet").is_file() and (p / "test.parquet").is_file()}


def seed_folder(fold: Path, number: int) -> Path:
    """Where seed `number` of a fold is trained: the first in the fold's own folder, each other in one of its own."""
    return fold / f"seed{number}" if number else fold


def fold_number(place: Path) -> int:
    """The fold that a folder, or that of one of its seeds, is named after."""
    return int((place.parent if SEED.fullmatch(place.name) else place).name.removeprefix("fold"))


def name_training(place: Path) -> str:
    """What is trained in a folder, in words: "fold 2", "fold 2, seed 1"."""
    names = [place.parent.name, place.name] if SEED.fullmatch(place.name) else [place.name]
    return ", ".join(re.sub(r"^(fold|seed)(?=\d)", r"\1 ", name) for name in names)


def remedy(path: Path) -> str:
    """What makes a damaged file again, in words, by its name and place."""
    if path.name in ("task.json", "folds.parquet"):
        return "run 1_eda again, with the same parameters"
    if path.name == "submission.json":
        return "run 5_submit again"
    run = next((p for p in path.parents if (p / "params.json").is_file() or (p / "weights.json").is_file()), None)
    if run is None:
        return "fetch it again from where it came, or delete it and make it again"
    pretrained = any((run / name).exists() for name in ("pretraining.json", "models.json", "part0", "checkpoints"))
    blended = (run / "weights.json").is_file()
    again = f"run {'4_ensemble' if blended else '2_pretrain' if pretrained else '3_train'} again with run={run.name}"
    part = path.relative_to(run).parts[0]
    if run.parent.name == "race":
        return f"delete {run / part} and start the race again"
    if blended or path.name == "score.json":
        return again
    return f"delete {run / part} and {again}" if PART.fullmatch(part) else f"{again} overwrite=True"
