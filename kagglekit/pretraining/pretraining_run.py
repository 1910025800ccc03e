"""A run of 2_pretrain: one training for all folds, or one for each group of folds where labels are used."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import PartialState

from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.tokens import tokenize
from kagglekit.files import read_json, remove, resolve, write_json
from kagglekit.model.backbones import check_max_length, find_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.vocabulary import add_tokens
from kagglekit.options import check_range
from kagglekit.pretraining.image_text import COLUMNS, ImagePairs, check_pairs, read_image_pairs
from kagglekit.pretraining.masking import Masking, make_masking
from kagglekit.pretraining.probe import Probe
from kagglekit.pretraining.selective import train_token_scorer
from kagglekit.pretraining.simcse import LabelledTexts, read_pairs
from kagglekit.pretraining.stage_knobs import SCORED, Stage
from kagglekit.pretraining.stages import OBJECTIVES, Pretrained, pretrain
from kagglekit.runs.initial_weights import (
    find_scorer,
    find_starts,
    make_backbone,
    read_sources,
    refuse_trained_encoder,
)
from kagglekit.runs.record import split_start
from kagglekit.runs.tables import choose_folds, goes_forward, read_folds, training_rows
from kagglekit.time_budget import TimeBudget

_OPTIONS = inspect.signature(train_token_scorer).parameters.values()
OF_SCORER = [option.name for option in _OPTIONS if option.kind is option.KEYWORD_ONLY]
OF_SCORER = [name for name in OF_SCORER if name not in ("rule", "seed", "save_seconds", "budget")]  # masking_options


@dataclass(frozen=True)
class FoldGroup:
    """Folds that share a training: they start from the same models, and none of their labels is used.

    name: of its folder in that of the run, "" is the run's own. start: folder of a model -> its weight in the average;
    empty for the backbone as it is.
    """

    name: str
    folds: tuple[int, ...]
    start: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass
class StageRun:
    """A stage for the folds of a work folder: what it reads, starts from and asks.

    train: as from `read_train`. texts: to pretrain on. backbone, start, folds, scorer: as in the notebook. pairs: a
    file for supervised SimCSE, see `read_pairs`; without one, texts of one class are pairs. Or a file of texts with
    images in `pair_columns`, see `read_image_pairs`; `texts` are then the texts of its rows, cleaned. probe_every:
    steps; 0 is no probe. budget: when it is over, training stops with a checkpoint and OutOfTime.
    Supervised SimCSE by classes, and masking by a scorer, use labels of training rows: then each fold has a training,
    which has seen none of its labels. So it is where the start differs by fold; folds that start from the same model
    share a training. With a probe the training is shared, and each fold has its own best step; folds of a time series
    take no probe. Texts are read whatever their time: they are known when the competition begins.
    Raises ValueError and FileNotFoundError for a contradiction or a missing run, before anything is trained.
    """

    work: str | Path
    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    texts: Sequence[str] = field(repr=False)
    stage: Stage
    backbone: str
    start: str = ""
    folds: Sequence[int] = ()
    scorer: str = ""
    pairs: str = ""
    pair_columns: Sequence[str] = ()
    probe_every: int = 0
    save_seconds: float = field(default=60.0, repr=False)
    budget: TimeBudget = field(default_factory=TimeBudget, repr=False)
    report_to: str = field(default="", repr=False)

    def __post_init__(self):
        stage = self.stage
        self._check_contradictions()
        sources = read_sources(self.work, split_start(self.start))
        matched = [source for source in sources if source.by_fold]
        by_class = OBJECTIVES[stage.objective].needs_labels and not self.pairs
        self.apart = by_class or bool(self.scorer)
        self.by_fold = bool(self.apart or matched or self.probe_every)
        self.scorers_ = find_scorer(self.work, self.scorer, self.backbone) if self.scorer else None
        self.pairs_ = self._read_pairs() if self.pairs else None
        self.labels = encode_labels(self.task, self.train) if by_class or self.probe_every else None
        self.table_, chosen, there = None, [0], [0]
        if self.by_fold:
            self.table_ = table = read_folds(self.work, self.train["id"])
            chosen = choose_folds(table, self.folds)
            if self.probe_every and goes_forward(table):
                raise ValueError(
                    "probe_every: a probe chooses by the labels of other folds, also later ones, and the folds of "
                    f"{self.work} go forward in time: set it to 0"
                )
            there = [k for k in choose_folds(table, []) if all(k in source.models for source in matched)]
        starts = find_starts(self.work, self.start, self.backbone, sorted({*chosen, *there}))
        self.groups = self._group(chosen, there, starts, bool(matched))
        self.begun_: dict[str, str] = {}
        self.maskings_: dict[str, Masking] = {}
        check_max_length(next(iter(self.groups[0].start), "") or find_backbone(self.backbone), stage.max_length)

    def _check_contradictions(self):
        name, masking, scored = self.stage.objective, self.stage.masking, self.stage.masking in SCORED
        check_range("probe_every", self.probe_every, self.probe_every >= 0, "a number of steps, or 0")
        if scored and not self.scorer:
            raise ValueError(f"masking={masking!r} asks a model what matters: set scorer to a run of 3_train")
        if self.scorer and not scored:
            raise ValueError(
                f"masking={masking!r} asks no scorer: leave scorer={self.scorer!r} out, or set masking to "
                f"{' or '.join(SCORED)}"
            )
        if self.pairs and not (OBJECTIVES[name].needs_labels or OBJECTIVES[name].needs_images):
            raise ValueError(f"pairs are for simcse_supervised and itc_itm, and the objective is {name}")
        if OBJECTIVES[name].needs_images and not self.pairs:
            raise ValueError(f'objective="{name}" reads texts with images: name a table of them, pairs="posts.csv"')

    def _read_pairs(self):
        if not OBJECTIVES[self.stage.objective].needs_images:
            return read_pairs(self.pairs)
        task, columns = self.task, self.pair_columns or COLUMNS
        refuse_trained_encoder(
            self.work, self.stage.objective_options["image_encoder"], "objective_options: image_encoder"
        )
        texts, files = read_image_pairs(self.pairs, columns)
        ours = any(file.is_relative_to(resolve(task.data)) for file in files)  # images of the competition
        if columns[0] in (*task.labels, *task.label_columns) or (ours and set(texts) <= set(task.classes)):
            raise ValueError(
                f"pair_columns: column {columns[0]!r} of {self.pairs} holds labels of this task: the backbone would "
                "know those of rows that it is validated on. Name a column of text"
            )
        return check_pairs(self.texts, files, self.pairs, columns)

    def _group(self, chosen: list[int], there: list[int], starts: dict[int, dict], matched: bool) -> list[FoldGroup]:
        """The trainings for the `chosen` folds, with the others of `there` that share them."""
        if self.apart:
            return [FoldGroup(f"part{fold}", (fold,), starts.get(fold, {})) for fold in chosen]
        if not matched:
            return [FoldGroup("", tuple(there) if self.by_fold else (), starts.get(chosen[0], {}))]
        groups: dict[tuple, list[int]] = {}
        for fold in there:
            groups.setdefault(tuple(starts[fold].items()), []).append(fold)
        groups = {start: folds for start, folds in groups.items() if set(folds) & set(chosen)}
        return [FoldGroup(f"part{folds[0]}", tuple(folds), dict(start)) for start, folds in groups.items()]

    @property
    def settings(self) -> dict[str, Any]:
        """What params.json records of the run; the notebook adds the texts."""
        given = {name: getattr(self, name) for name in ("backbone", "start", "scorer", "pairs", "probe_every")}
        if OBJECTIVES[self.stage.objective].needs_images:  # other images are another run
            digest = hashlib.sha256("".join(self.pairs_.hashes).encode()).hexdigest()[:16]
            given |= {"pair_columns": list(self.pair_columns), "images": digest}
        return given | asdict(self.stage)

    def fit(self, folder: Path) -> dict[str, Pretrained]:
        """Train all groups, one after the other."""
        return {group.name: self.fit_group(group, folder) for group in self.groups}

    def fit_group(self, group: FoldGroup, folder: Path) -> Pretrained:
        """Train a group in its place below `folder`, that of the run; a finished one is read back.

        Where there is a model for each fold, models.json has: fold -> folder below that of the run.
        """
        place, file = folder / group.name, folder / "models.json"
        result = self._train(group, place)
        self.begun_.pop(group.name, None)
        if not PartialState().is_main_process:  # of several processes the first writes
            return result
        remove(place / "start")
        if self.by_fold:
            kept = result.models or dict.fromkeys(map(str, group.folds), "model")
            models = read_json(file) if file.is_file() else {}
            models |= {fold: str(Path(group.name, at)) for fold, at in kept.items()}
            write_json(file, dict(sorted(models.items(), key=lambda item: int(item[0]))))
        return result

    def _train(self, group: FoldGroup, place: Path) -> Pretrained:
        if (place / "pretraining.json").is_file():
            return Pretrained(**read_json(place / "pretraining.json"))
        self.budget.check(place.name)
        begin = self.begin(group, place)
        tokenizer = self.tokenizer(begin)
        return pretrain(
            self.stage,
            begin,
            tokenizer,
            self.texts,
            place,
            masking=self.masking(group, place) if OBJECTIVES[self.stage.objective].hides_tokens else None,
            labels=self.labels_of(group),
            probe=self._probe(tokenizer),
            folds=group.folds,
            save_seconds=self.save_seconds,
            budget=self.budget,
            report_to=self.report_to,
        )

    def begin(self, group: FoldGroup, place: Path) -> str:
        """The folder or hub name that a group starts from; an average is made once below `place`, its folder."""
        if group.name not in self.begun_:
            self.begun_[group.name] = make_backbone(group.start, place) if group.start else find_backbone(self.backbone)
        return self.begun_[group.name]

    def tokenizer(self, begin: str):
        """The tokenizer of the model to start from, with the new tokens."""
        tokenizer = load_tokenizer(begin)
        add_tokens(tokenizer, self.stage.new_tokens)
        return tokenizer

    def masking(self, group: FoldGroup, place: Path) -> Masking:
        """The masking of a group. Its scorer is trained below `place` from the fold's own model at the first call."""
        if group.name not in self.maskings_:
            stage, tokenizer = self.stage, self.tokenizer(self.begin(group, place))
            options = dict(stage.masking_options)
            of_scorer = {name: options.pop(name) for name in OF_SCORER if name in options}
            scorer = self._scorer(group, place / "scorer", of_scorer) if self.scorer else None
            masking = make_masking(stage.masking, tokenizer, stage.mask_probability, options, scorer)
            self.maskings_[group.name] = masking
        return self.maskings_[group.name]

    def _scorer(self, group: FoldGroup, place: Path, options: dict[str, Any]):
        """The task model of the group's fold, or the token scorer that learned from it."""
        (fold,) = group.folds
        model, recipe = self.scorers_.models[fold][0], self.scorers_.record.recipe  # of several seeds the first
        task_model, tokenizer = Classifier.load(model), load_tokenizer(str(model))
        if self.stage.masking == "entropy" and not options:
            return task_model  # exact, but slow: every token is hidden once
        texts = self.train["text"].iloc[training_rows(self.table_, fold)].tolist()
        tokens = replace(tokenize(texts, tokenizer, recipe["max_length"]), columns=None)  # the pieces have none either
        options |= {"rule": self.stage.masking, "seed": self.stage.seed}
        how = {"save_seconds": self.save_seconds, "budget": self.budget}
        return train_token_scorer(task_model, tokens, tokenizer, place, **options, **how)

    def labels_of(self, group: FoldGroup) -> LabelledTexts | ImagePairs | None:
        if not OBJECTIVES[self.stage.objective].needs_labels or self.pairs_:
            return self.pairs_
        (fold,) = group.folds
        rows = training_rows(self.table_, fold)
        return LabelledTexts(self.train["text"].iloc[rows].tolist(), self.labels[rows])

    def _probe(self, tokenizer) -> Probe | None:
        if not self.probe_every:
            return None
        tokens = tokenize(self.train["text"].tolist(), tokenizer, self.stage.max_length)
        return Probe(tokens, self.labels, self.table_["fold"].to_numpy(), self.task, self.probe_every)
