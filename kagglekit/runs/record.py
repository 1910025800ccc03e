"""RunRecord: what a run is, read once from its folder: parameters, parents, models, finished folds, scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.files import fold_folders, hash_files, read_json, reading, resolve, run_folder, seed_folder
from kagglekit.files.parquet import read_metadata
from kagglekit.options import current_names, knobs_of, named
from kagglekit.runs.run_knobs import PretrainingRun, TrainingRun
from kagglekit.runs.tables import FULL

ASIDE = ("start", "tokens", "learned", "suspects.csv", "__pycache__")  # in the folder of a run: not read later


def split_start(start: str) -> list[str]:
    """The runs that a `start` names: "base+other" are two, an empty text none."""
    return [name.strip() for name in start.split("+")] if start.strip() else []


def name_start(work: str | Path, start: str) -> str:
    """A `start` of a run in `work` as it is named in another work folder: by paths."""
    return "+".join(name if "/" in name else f"{work}/{name}" for name in split_start(start))


@dataclass(frozen=True)
class RunRecord:
    """A run: trained (3_train) or pretrained (2_pretrain), with params.json; or blended (4_ensemble): weights.json.

    Each file is read once, when it is first needed; `parents` share what was read, and so do records that are given the
    same `reads`. Records are equal when their folders are. A record does not see later changes: open it again.
    """

    folder: Path
    reads: dict[Path, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, work: str | Path, name: str, reads: dict[Path, Any] | None = None) -> RunRecord:
        """The run `name` of a work folder; a name with a slash is the path of a run in any work folder."""
        folder = resolve(name) if "/" in name else run_folder(work, name)
        return cls(folder, {} if reads is None else reads)

    @classmethod
    def around(cls, folder: str | Path, reads: dict[Path, Any] | None = None) -> RunRecord | None:
        """The run that a folder lies in, such as that of a model: the nearest above with params.json; None outside."""
        run = next((place for place in resolve(folder).parents if (place / "params.json").is_file()), None)
        return None if run is None else cls(run, {} if reads is None else reads)

    def _read(self, path: Path) -> dict[str, Any]:
        if path not in self.reads:
            self.reads[path] = read_json(path) if path.is_file() else {}
        return self.reads[path]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def work(self) -> Path:
        """The work folder that the run is in."""
        return self.folder.parent

    @property
    def params(self) -> dict[str, Any]:
        """params.json: recipe, hashes of the inputs, versions, commit, receipts. Empty for a blend."""
        return self._read(self.folder / "params.json")

    @property
    def recipe(self) -> dict[str, Any]:
        """The parameters that the run was made with, by their names of today; empty for a blend."""
        return current_names(self.params.get("recipe", {}))

    @property
    def asked(self) -> dict[str, Any]:
        """The parameters of 3_train as they were given: the recipe, before a prompt and what is of text columns were
        filled in."""
        recipe = self.recipe | current_names(self.params.get("asked", {}))
        return recipe if any(recipe.get("budget", {}).values()) else recipe | {"budget": {}}  # as filled in before 0.8

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates that its first finished fold began with, group of parameters -> rate; empty before one is
        finished, and for a run without steps."""
        receipts = self.params.get("receipts", {}).values()
        return next((one["learning rates"] for one in receipts if "learning rates" in one), {})

    @property
    def precisions(self) -> dict[int, str]:
        """The precision of each finished fold, such as "fp32" or, of one that went on elsewhere, "fp32, then bf16"."""
        receipts = self.params.get("receipts", {})
        return {k: receipts[str(k)]["precision"] for k in self.folds if "precision" in receipts.get(str(k), {})}

    @property
    def weights(self) -> dict[str, Any]:
        """weights.json: how a blend was made. Empty for any other run."""
        return self._read(self.folder / "weights.json")

    @property
    def scores(self) -> dict[str, Any]:
        """score.json: the out-of-fold score, see `score_run`. Empty before the run was scored."""
        return self._read(self.folder / "score.json")

    @property
    def fingerprint(self) -> str | None:
        """The hash of the competition's files that task.json has, None without one: runs of the same data share it."""
        return self._read(self.work / "task.json").get("fingerprint")

    def is_of_data(self, work: Path) -> bool:
        """Whether the run is of the same data as a work folder: in it, or with the same fingerprint in task.json."""
        return self.work == work or self.fingerprint == self._read(work / "task.json").get("fingerprint")

    @cached_property
    def folds(self) -> dict[int, Path]:
        """The finished folds, number -> folder."""
        return fold_folders(self.folder)

    @cached_property
    def metadata(self) -> list[dict[str, Any]]:
        """The metadata of the out-of-fold table of each finished fold, see `read_metadata`."""
        files = [place / "oof.parquet" for place in self.folds.values()]
        self.reads.update({file: read_metadata(file) for file in files if file not in self.reads})
        return [self.reads[file] for file in files]

    @property
    def members(self) -> list[RunRecord]:
        """The runs that a blend is made of; none for any other run."""
        return [RunRecord(self.work / name, self.reads) for name in self.weights.get("members", [])]

    @cached_property
    def parents(self) -> dict[str, list[RunRecord]]:
        """The runs that this one was made from, by role; also those that are gone. See `named_runs`."""
        found = named_runs(self.work, self.recipe, self.reads)
        joint = [resolve(place) for place in self.recipe.get("tasks", [])]  # of one model, which saw rows of all
        others = [RunRecord(place / self.name, self.reads) for place in joint if place != self.work]
        return {**found, "joint": others, "members": self.members}

    def leaves(self) -> Iterator[RunRecord]:
        """The run itself, or the runs that a blend is made of in the end; one that is named twice comes twice."""
        for member in self.members:
            yield from member.leaves()
        if not self.members:
            yield self

    @cached_property
    def seeds(self) -> dict[int, int]:
        """Of how many seeds each finished fold is the mean, see `kagglekit.runs.seeds`."""
        return {fold: count_seeds(place) for fold, place in self.folds.items()}

    def lost_seeds(self, seeds: int) -> list[str]:
        """In words, that a fold is the mean of more seeds than are asked now; empty where none is."""
        most = max(self.seeds.values(), default=1)
        return [f"it has {most} seeds, of which seeds={most} trains none again, and seeds is {seeds}"] * (most > seeds)

    @cached_property
    def models(self) -> dict[int, list[Path]]:
        """The models of the finished folds, number -> their folders: what other runs can start from or average.

        A fold has one for each of its seeds. A run of 2_pretrain that goes fold by fold lists them in models.json;
        folds may share one.
        """
        places = {fold: self.seed_models(fold) for fold in self.folds}
        if listed := self._read(self.folder / "models.json"):
            places = {int(fold): [self.folder / place] for fold, place in listed.items()}
        return {fold: each for fold, each in sorted(places.items()) if all(place.is_dir() for place in each)}

    def seed_models(self, fold: int) -> list[Path]:
        """The folders for the models of the seeds whose mean a fold is, in order; they need not be there."""
        return seed_models(self.folds[fold], self.seeds[fold])

    @property
    def has_one_model(self) -> bool:
        """Whether it is a run of 2_pretrain with one model for all folds, which has not learned from labels."""
        found = not self.folds and (self.folder / "model").is_dir() and bool(self.params)
        return found and "folds" not in self.params["inputs"]

    @property
    def saved_models(self) -> dict[int, list[Path]]:
        """The classifiers whose mean predicts test, fold -> folders, one a seed: of fine-tuned runs and soups; other
        runs keep none. An average over all folds (soup="folds") is the same in each."""
        one = [self.folder / "model"] if self.recipe.get("soup") == "folds" else []
        found = {fold: one or self.seed_models(fold) for fold in self.folds}
        return {k: each for k, each in found.items() if all((one / "classifier.json").is_file() for one in each)}

    @property
    def full_models(self) -> list[Path]:
        """The classifiers of all rows (`full_fit`), one a seed; none where there are none, or they are not kept."""
        full = self.folder / FULL
        found = seed_models(full, max(1, count_seeds(full, "test.parquet")))
        return found if all((one / "classifier.json").is_file() for one in found) else []

    def hash_tables(self) -> dict[str, str]:
        """Fold -> a hash of what the run predicts in it."""
        names = ("oof.parquet", "test.parquet")
        return {str(fold): hash_files(place / name for name in names) for fold, place in self.folds.items()}

    def files(self, models: bool, full: str = "") -> Iterator[Path]:
        """What later steps read: no checkpoints, caches and hidden files; models only with `models`, and only those
        that predict or are begun from, with that of all rows as `full` of 5_submit says."""
        kept = {*self.full_models} if models and full else set()
        if models and full != "only":
            kept |= {self.folder / "model", *(model for each in self.models.values() for model in each)}
        for file in sorted(self.folder.rglob("*")):
            parts = file.relative_to(self.folder).parts
            aside = any(part in ASIDE or part.startswith((".", "checkpoint")) for part in parts)
            weights = "model" in parts[:-1] and not kept & set(file.parents)
            if file.is_file() and not aside and not weights:
                yield file

    @property
    def history(self) -> pd.DataFrame:
        """The histories of the finished folds in one table, with the column `fold`, and `seed` where there are several;
        empty for a run without steps."""
        rows, several = [], max(self.seeds.values(), default=1) > 1
        for fold, place in self.folds.items():
            for number in range(self.seeds[fold]):
                file, which = seed_folder(place, number) / "history.jsonl", {"seed": number} if several else {}
                if file.is_file():
                    with reading(file):
                        lines = map(json.loads, file.read_text().splitlines())
                        rows += [{"fold": fold, **which, **line} for line in lines]
        return pd.DataFrame(rows, columns=None if rows else ["fold", "step", "loss", "learning_rate", "score"])


def with_seeds(recipe: dict[str, Any], seeds: int) -> dict[str, Any]:
    """A recipe with so many seeds; a single one is not written."""
    return {k: v for k, v in recipe.items() if k != "seeds"} | ({"seeds": seeds} if seeds > 1 else {})


def count_seeds(fold: Path, name: str = "oof.parquet") -> int:
    """Of how many seeds the table `name` in the folder of a fold is the mean; 0 where there is none."""
    if not (fold / name).is_file():
        return 0
    return read_metadata(fold / name).get("seeds", 1) if (fold / "seed0" / name).is_file() else 1


def seed_models(fold: Path, seeds: int) -> list[Path]:
    """The folders for the models of so many seeds of a fold, in order; they need not be there."""
    return [seed_folder(fold, number) / "model" for number in range(seeds)]


def named_runs(
    work: str | Path, recipe: dict[str, Any], reads: dict[Path, Any] | None = None
) -> dict[str, list[RunRecord]]:
    """The runs that a recipe names, by role: to start from, to average, to mask by, to learn labels from; and the runs
    whose models are its `backbone` and the encoder of its `images`."""
    reads = {} if reads is None else reads
    knobs = [knob for knob in knobs_of(TrainingRun, PretrainingRun).values() if "run" in knob.kinds]
    knobs.sort(key=lambda knob: bool(knob.options))  # teachers are named last
    names = {knob.name: [name for _, name in named([knob], recipe, "run")] for knob in knobs}
    found = {role: [RunRecord.open(work, name, reads) for name in each] for role, each in names.items()}
    images = {**(recipe.get("features") or {}), **(recipe.get("objective_options") or {})}
    images = images.get("images_by") or images.get("image_encoder")
    for role, model in (("backbone", recipe.get("backbone")), ("images", images)):
        run = RunRecord.around(model, reads) if model and resolve(model).is_dir() else None
        found[role] = [run] if run and (run.work / "task.json").is_file() else []
    return found


def with_ancestors(runs: Iterable[RunRecord], work: Path | None = None) -> list[RunRecord]:
    """Runs, and behind them all that they were made from, directly or by way of others, as far as these still exist.

    work: only those of the same data as this work folder. Folds of other data hold other rows, so that what models of
    those know is no leak.
    """
    found = [run for run in dict.fromkeys(runs) if run.folder.is_dir()]
    for run in found:
        parents = dict.fromkeys(parent for parents in run.parents.values() for parent in parents)
        found += [parent for parent in parents if parent not in found and parent.folder.is_dir()]
    return [run for run in found if work is None or run.is_of_data(work)]


def read_scores(work: str | Path) -> pd.DataFrame:
    """The score.json of every run in a work folder, one row a run: metric, score, standard_error, number of folds; and
    cross_fitted and number of seeds where any run has them."""
    found = [read_json(path) for path in sorted(resolve(work).glob("*/score.json"))]
    names = ["run", "metric", "score", "standard_error", "folds"]
    names += ["cross_fitted"] if any("cross_fitted" in scores for scores in found) else []
    table, seeds = pd.DataFrame(found, columns=names), [one.get("seeds", {}).get("scores", [0]) for one in found]
    table = table.assign(folds=[len(folds) for folds in table["folds"]]).set_index("run")
    return table.assign(seeds=list(map(len, seeds))) if any(len(each) > 1 for each in seeds) else table


def read_repeats(work: str | Path, run: str) -> pd.DataFrame:
    """How much a score depends on the folds: score and standard_error of the runs of one name in a work folder and in
    those of its other splits (work.2, work.3, ...), a row a split."""
    first = resolve(work)
    numbers = {place: place.name.removeprefix(f"{first.name}.") for place in first.parent.glob(f"{first.name}.[0-9]*")}
    others = sorted((int(number), place) for place, number in numbers.items() if number.isdecimal())
    scores = {place.name: RunRecord(place / run).scores for place in [first, *(place for _, place in others)]}
    found = {name: score for name, score in scores.items() if score}
    return pd.DataFrame(found.values(), columns=["score", "standard_error"], index=pd.Index(found, name="split"))
