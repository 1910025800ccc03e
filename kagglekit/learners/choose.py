"""Who learns the folds of a run: the learner that the parameters of 3_train ask for."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.clean import clean_table
from kagglekit.device import measuring_cost
from kagglekit.files import Damaged, remove, resolve, run_folder, seed_folder, write_json
from kagglekit.learners.both_orders import BothOrders
from kagglekit.learners.candidates import KnownClasses
from kagglekit.learners.frozen import Frozen
from kagglekit.learners.full_fit import check_full_fit
from kagglekit.learners.joint_run import make_joint
from kagglekit.learners.setfit import SetFit
from kagglekit.learners.soup import Soup
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone
from kagglekit.options import knobs_of
from kagglekit.progress import say
from kagglekit.runs.defaults import changed_defaults, describe_defaults, describe_precisions
from kagglekit.runs.folder import Fitted, open_run
from kagglekit.runs.initial_weights import find_starts, find_vocabulary, make_start
from kagglekit.runs.leaks import selection_warning
from kagglekit.runs.record import RunRecord, count_seeds, with_seeds
from kagglekit.runs.run_knobs import EVERY, READS, TrainingRun
from kagglekit.runs.seeds import finished_seeds, join_seeds, table_folder
from kagglekit.runs.tables import write_predictions
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.nested_folds import check_shared
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.time_budget import TimeBudget
from kagglekit.training.column_knobs import describe_swap, fill_in, fill_in_images
from kagglekit.training.extra_files import WITHOUT, ExtraFiles
from kagglekit.training.finetune import FineTuner
from kagglekit.training.fixes import Fixes, check_place
from kagglekit.training.recipe import Recipe

COST = "cost.json"  # of a training: seconds (of predicting test too), memory in bytes, whether it was resumed


@dataclass
class Choice:
    """A learner, with `fit(train_rows, valid_rows, folder, seed, start=None) -> Fitted`; what params.json says of it;
    which models each fold begins from, see `find_starts`; what the weights of those that it is made from were chosen
    by, see `selection_warning`; the seed of fold 0; the extra rows; with extra_check, the choice without them; and the
    fixes of labels."""

    learner: Any
    settings: dict[str, Any]
    starts: dict[int, dict[str, float]]
    chosen: str
    seed: int = 0
    extra: ExtraFiles | None = None
    without: "Choice | None" = None
    fixes: Fixes | None = None

    def open(self, run: TrainingRun, recipe: Recipe, to_train: Sequence[int]) -> Path:
        """Open the folder of the run that these parameters of 3_train ask for, see `open_run`.

        It goes on with the defaults that it began with. Where something is left to train, those that are others now are
        said, and precisions of its folds that are not that of this machine.
        """
        both = [one for choice in (self, self.without) if choice for one in choice.parts if hasattr(one, "go_on")]
        now, earlier = {name: value for one in both for name, value in one.defaults.items()}, {}
        with suppress(Damaged):
            earlier = RunRecord.open(run.work, run.run).params
        settings = dict(seed=self.seed) | self.settings
        more = {"defaults": now, "asked": _find_asked(vars(run) | vars(recipe), settings)}
        folder = open_run(run.work, run.run, settings, run.overwrite, more=more)
        record = RunRecord(folder)
        for one in both:
            one.go_on(begun := record.params["defaults"])
        if not {*to_train} - record.folds.keys():
            return folder
        if now and earlier and "defaults" not in earlier and any(folder.glob("fold*")):
            version = earlier.get("versions", {}).get("kagglekit", "")
            say(f"this run was begun by kagglekit {version or 'before 0.8'}, which did not record all of its defaults:")
            say("what is left to train has those of this version, see CHANGES.md")
        if changed := changed_defaults(begun, now) if now else {}:
            say(describe_defaults(changed, now))
        if self.tuner and (words := describe_precisions(record.precisions, self.tuner.precision)):
            say(f"this run learns in several precisions: {words}")
        return folder

    def fit(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, fold: int, number: int = 0) -> Fitted:
        """Train a model of a fold below `folder`, from where it begins, on `train_rows` and the extra rows that fit
        it; number j of fold k is seeded with `seed` + 1000 j + k. `folder/cost.json` says what that took."""
        begin = {"start": self.begin(fold, folder)} if self.starts else {}
        rows, receipts = self.learned(train_rows, valid_rows), {}
        if self.extra is not None:
            learned, left_out = len(self.extra.rows(valid_rows)), self.extra.left_out(valid_rows)
            receipts["extra rows"] = {"learned": learned, "left out": left_out}
        if self.fixes is not None:
            receipts["fixes"] = self.fixes.count(train_rows)
        cost: dict[str, Any] = {"resumed": (folder / "checkpoints").is_dir()}
        with measuring_cost() as measured:
            fitted = self.learner.fit(rows, valid_rows, folder, seed=self.seed + 1000 * number + fold, **begin)
        predicting = {"predicting": fitted.predicting, "test_rows": len(fitted.test)}
        if PartialState().is_main_process:  # of several processes the first writes
            write_json(folder / COST, cost | measured | predicting)
        return replace(fitted, receipts={**fitted.receipts, **receipts}) if receipts else fitted

    def learned(self, train_rows: np.ndarray, valid_rows: np.ndarray) -> np.ndarray:
        """`train_rows` that are learned, and the extra rows that fit them, as numbers of the learner's table."""
        rows = self.kept(train_rows)
        return rows if self.extra is None else np.concatenate([rows, self.extra.rows(valid_rows)])

    def kept(self, rows: np.ndarray) -> np.ndarray:
        """The rows without those that the fixes leave out."""
        return rows if self.fixes is None else self.fixes.kept(rows)

    def fit_without(self, train_rows: np.ndarray, valid_rows: np.ndarray, folder: Path, fold: int) -> None:
        """Train the models of a finished fold, as many as it has seeds, without extra rows too, for `measure_extra`,
        and keep what they predict in `folder`; predictions that are there stay."""
        place, seeds = folder / "without" / f"fold{fold}", count_seeds(folder)
        there = finished_seeds(folder, seeds, WITHOUT)
        for number in (number for number in range(seeds) if number not in there):
            fitted = self.without.fit(train_rows, valid_rows, seed_folder(place, number), fold, number)
            if PartialState().is_main_process:
                ids, file = self.learner.train["id"].iloc[valid_rows], table_folder(folder, number, seeds) / WITHOUT
                write_predictions(file, ids.tolist(), fitted.oof, self.learner.task.columns, fold)
        if PartialState().is_main_process:
            join_seeds(folder, seeds, (WITHOUT,))
            remove(place.parent)

    def begin(self, fold: int, folder: Path) -> str | None:
        """The model that a fold begins from, as transformers reads it; an average is made once below `folder`."""
        return make_start(self.starts[fold], folder) if self.starts else None

    @property
    def parts(self) -> list[Any]:
        """The learner, the one that it wraps, and so on."""
        parts = [self.learner]
        while hasattr(parts[-1], "learner"):
            parts.append(parts[-1].learner)
        return parts

    @property
    def tuner(self) -> FineTuner | None:
        """The fine-tuner in it, if there is one."""
        return next((part for part in self.parts if isinstance(part, FineTuner)), None)

    def describe_teacher(self, rows: np.ndarray, student: float) -> str:
        """The score of a distiller's teacher beside that of its student, see `Distiller.describe`; else empty."""
        return next((part.describe(rows, student) for part in self.parts if isinstance(part, Distiller)), "")

    @property
    def caution(self) -> str:
        """Why the score is too good, as far as the settings and the runs in them tell; empty where it is honest."""
        found = [*(getattr(part, "caution", "") for part in self.parts), self.chosen]
        return ". ".join(words for words in found if words)


def _find_asked(given: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The parameters of 3_train that a run's settings have otherwise, or, where they matter, not at all."""
    known = knobs_of(TrainingRun, Recipe)
    places = {*EVERY, *("checkpoint_every", "report_to", "find_learning_rate")} - {"backbone"}
    return {
        name: one
        for name, one in given.items()
        if name not in places and settings.get(name, known[name].default) != one
    }


def choose_learner(
    run: TrainingRun,
    recipe: Recipe,
    task: Task,
    train: pd.DataFrame,
    test: pd.DataFrame,
    folds: pd.DataFrame,
    to_train: list[int],
) -> Choice:
    """The learner that the parameters of 3_train ask for, `run` and `recipe`.

    train, test: as from `read_train(task, recipe.train_columns)` and `read_test(task, recipe.columns)`. folds: as from
    `read_folds`. to_train: the folds that starts are needed for. A fine-tuner stops when `run.hours` are over: what it
    was in the middle of is kept, and OutOfTime comes through all learners around it. The others end what they have
    begun.
    The learner's table of train has the rows of `run.extra` behind those of `train`.
    Raises ValueError for parameters that do not go together, before anything is trained.
    """
    work, backbone, kind, asked = run.work, run.backbone, run.learner, recipe
    recipe, more, extra, without, fixes = fill_in(recipe, task), {}, None, None, None
    recipe = fill_in_images(recipe, work, run.start)
    if run.fixes:
        check_place(run.fixes, run_folder(work, run.run))
        fixes, more = Fixes.read(task, train, test["id"], run.fixes), dict(fixes=run.fixes)
    if run.full_fit:
        check_full_fit(run, recipe)
    if run.extra_check:
        plain = dict(extra="", extra_weight=1.0, extra_source="", extra_check=False)
        without = choose_learner(replace(run, **plain), recipe, task, train, test, folds, to_train)
    if run.extra:
        prefix = run.extra_source == "prefix"
        extra = ExtraFiles.read(task, train, test, run.extra, recipe, prefix, run.extra_weight)
        train, test = extra.train, extra.test
        if words := extra.describe_left_out([np.flatnonzero(folds["fold"] == fold) for fold in to_train]):
            print(words)
        more |= dict(extra=run.extra, extra_source=run.extra_source, extra_weight=run.extra_weight)
    labelled = train if fixes is None else fixes.apply(train)  # what is learned; fine-tuning also validates on `train`
    cleaned = [clean_table(table, recipe.clean) for table in (labelled, test)] if recipe.clean else [labelled, test]
    swapped = {name: value for name in ("swap", "candidates") if (value := getattr(recipe, name))}
    if recipe.swap and backbone != "soup":
        print(describe_swap(recipe.swap))

    def in_orders(make):
        """A learner of the tables; with swap, of both orders; with candidates, of the classes of each group."""
        learner = BothOrders(task, *cleaned, recipe.swap, make) if recipe.swap else make(*cleaned)
        return KnownClasses(task, *cleaned, recipe.candidates, learner) if recipe.candidates else learner

    if backbone == "tfidf":
        settings = dict(backbone=backbone, start="", clean=recipe.clean) | swapped | more
        return Choice(in_orders(partial(Baseline, task)), settings, {}, "", run.seed, extra, without, fixes)
    if backbone == "soup":
        soup = Soup(task, work, run.soup_of, run.soup)
        settings = dict(start="") | soup.settings
        return Choice(soup, settings, {}, selection_warning(work, settings), run.seed)
    cache, found = resolve(work) / "tokens", find_backbone(backbone)
    starts = find_starts(work, run.start, backbone, to_train, run.tasks)
    settings = with_seeds(dict(backbone=backbone, start=run.start, learner=kind), run.seeds) | more
    if kind != "finetune":
        learner = in_orders(partial(_make_other, kind, task, found, recipe, cache, run.learner_options))
        settings |= dict(clean=recipe.clean, learner_options=learner.settings) | swapped
        return Choice(learner, settings, starts, selection_warning(work, settings), run.seed, extra, without, fixes)
    every, vocabulary = run.checkpoint_every, find_vocabulary(starts, found)
    budget = TimeBudget(run.hours)
    learner = FineTuner(task, train, test, found, recipe, cache, every, vocabulary, budget, run.report_to)
    if fixes is not None:
        learner.all_labels = replace(learner.all_labels, values=encode_labels(task, labelled))
    if run.extra_weight != 1:
        learner.all_labels = replace(learner.all_labels, weights=extra.weights)
    if run.distill:
        learner = Distiller(learner, work, folds, run.distill, run.seed)
        for models in starts.values() if learner.plan.source == "nested" else ():
            check_shared(" + ".join(models))
    if run.tasks:
        given = dict(task=task, train=train, test=test, backbone=found, recipe=recipe, cache=cache)
        given |= dict(save_seconds=every, vocabulary=vocabulary, budget=budget, report_to=run.report_to)
        learner = make_joint(run, asked, given, folds)
        settings |= dict(tasks=run.tasks, joint=run.joint)
    if run.pseudo:
        learner = SelfTrainer(learner, work, folds, run.pseudo)
    settings |= learner.settings
    if run.tasks:
        learner.settings_ = dict(seed=run.seed) | settings
    return Choice(learner, settings, starts, selection_warning(work, settings), run.seed, extra, without, fixes)


OTHERS = {"frozen": Frozen, "setfit": SetFit}  # learners that do not fine-tune


def _make_other(
    kind: str,
    task: Task,
    backbone: str,
    recipe: Recipe,
    cache: Path,
    options: dict,
    train: pd.DataFrame,
    test: pd.DataFrame,
) -> Frozen | SetFit:
    """A learner that does not fine-tune on labels, with its options, see `TrainingRun`."""
    make = OTHERS[kind]
    read = {knob.name for knob in fields(make)} & READS[kind]
    given = {name: getattr(recipe, name) for name in read} | options
    return make(task, train, test, backbone, **given, **({"cache": cache} if kind == "frozen" else {}))
