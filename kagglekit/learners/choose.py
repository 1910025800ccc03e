"""Who learns the folds of a run: the learner that the parameters of 3_train ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition.task import Task
from kagglekit.data.clean import clean_table
from kagglekit.files import resolve
from kagglekit.learners.frozen import Frozen
from kagglekit.learners.setfit import SetFit
from kagglekit.learners.soup import Soup
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import find_backbone
from kagglekit.options import accepts, check_range
from kagglekit.runs.lineage import selection_warning
from kagglekit.runs.starts import find_starts, find_vocabulary
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.nested import check_shared
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.time_budget import TimeBudget
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

LEARNERS = ("finetune", "frozen", "setfit")
OWN = ("learner_options", "pseudo", "distill")  # knobs of some learners only


@dataclass
class Choice:
    """A learner, with `fit(train_rows, valid_rows, folder, seed, start=None) -> Fitted`; what params.json says of it;
    which models each fold begins from, see `find_starts`; and what the weights of those that it is made from were
    chosen by, see `selection_warning`."""

    learner: Any
    settings: dict[str, Any]
    starts: dict[int, dict[str, float]]
    chosen: str

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

    @property
    def caution(self) -> str:
        """Why the score is too good, as far as the settings and the runs in them tell; empty where it is honest."""
        found = [*(getattr(part, "caution", "") for part in self.parts), self.chosen]
        return ". ".join(words for words in found if words)


def choose_learner(
    work: str | Path,
    task: Task,
    train: pd.DataFrame,
    test: pd.DataFrame,
    folds: pd.DataFrame,
    to_train: list[int],
    parameters: Mapping[str, Any],
) -> Choice:
    """The learner for a notebook's parameters: those of `Recipe`, and backbone, start, learner, learner_options,
    pseudo, distill, soup_of, soup, seed, checkpoint_every and hours, which a fine-tuner stops in: what it was in the
    middle of is kept, and OutOfTime comes through all learners around it. The others end what they have begun.

    train, test: as from `read_train(task, recipe.train_columns)` and `read_test(task, recipe.columns)`. folds: as from
    `read_folds`. to_train: the folds that starts are needed for.
    Raises ValueError for parameters that do not go together, before anything is trained.
    """
    recipe, backbone, kind = Recipe.choose(parameters), parameters["backbone"], parameters["learner"]
    budget = TimeBudget(parameters.get("hours", 0.0))
    check_range("learner", kind, kind in LEARNERS, f"one of {', '.join(LEARNERS)}")
    plain = backbone in ("tfidf", "soup")
    check_range("learner", kind, not plain or kind == "finetune", f"left as it is for backbone={backbone!r}")
    _check_own(parameters, backbone if plain else kind)
    cleaned = [clean_table(table, recipe.clean) for table in (train, test)] if recipe.clean else [train, test]
    if backbone == "tfidf":
        return Choice(Baseline(task, *cleaned), dict(backbone=backbone, start="", clean=recipe.clean), {}, "")
    if backbone == "soup":
        soup = Soup(task, work, parameters["soup_of"], parameters["soup"])
        settings = dict(start="") | soup.settings
        return Choice(soup, settings, {}, selection_warning(work, settings))
    start, cache, found = parameters["start"], resolve(work) / "tokens", find_backbone(backbone)
    starts = find_starts(work, start, backbone, to_train)
    settings = dict(backbone=backbone, start=start, learner=kind)
    if kind != "finetune":
        learner = _make_other(kind, task, cleaned, found, recipe, cache, parameters["learner_options"])
        settings |= dict(clean=recipe.clean, learner_options=learner.settings)
        return Choice(learner, settings, starts, selection_warning(work, settings))
    every, vocabulary = parameters["checkpoint_every"], find_vocabulary(starts, found)
    learner = FineTuner(task, train, test, found, recipe, cache, every, vocabulary, budget)
    if parameters["distill"]:
        learner = Distiller(learner, work, task, train, test, folds, parameters["distill"], parameters["seed"])
        for models in starts.values() if learner.plan.source == "nested" else ():
            check_shared(" + ".join(models))
    if parameters["pseudo"]:
        learner = SelfTrainer(learner, work, task, train, test, folds, parameters["pseudo"])
    settings |= learner.settings
    return Choice(learner, settings, starts, selection_warning(work, settings))


def _check_own(parameters: Mapping[str, Any], kind: str) -> None:
    """Raise ValueError for knobs that the learner does not have."""
    knobs = {"finetune": ("pseudo", "distill"), "frozen": ("learner_options",), "setfit": ("learner_options",)}
    for name in OWN:
        if parameters[name] and name not in knobs.get(kind, ()):
            who = ", ".join(learner for learner, has in knobs.items() if name in has)
            raise ValueError(f"{name} is of the learners {who}, and this run has {kind}: leave it empty")


def _make_other(
    kind: str, task: Task, tables: list[pd.DataFrame], backbone: str, recipe: Recipe, cache: Path, options: dict
) -> Frozen | SetFit:
    """A learner that does not fine-tune on labels. Raises ValueError for options that it does not have."""
    make, read = {"frozen": (Frozen, ("max_length", "pooling", "cut")), "setfit": (SetFit, ("max_length",))}[kind]
    known = {knob.name: getattr(knob.type, "__name__", str(knob.type)) for knob in fields(make)[4:]}
    known = {name: type_ for name, type_ in known.items() if name not in (*read, "cache")}
    for name, value in options.items():
        check_range("learner_options", name, name in known, f"of {', '.join(known)} for {kind}")
        check_range(f"learner_options: {name}", value, accepts(known[name], value), known[name])
    given = {name: getattr(recipe, name) for name in read} | options
    return make(task, *tables, backbone, **given, **({"cache": cache} if kind == "frozen" else {}))
