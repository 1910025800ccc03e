"""A run of 2_pretrain: one training for all folds, or where labels had a say, one for each fold or group of folds."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kagglekit.competition.task import Task, encode_labels
from kagglekit.data.tokens import tokenize
from kagglekit.files import read_json, remove, write_json
from kagglekit.model.backbones import check_max_length, find_backbone, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.vocabulary import add_tokens
from kagglekit.options import check_range
from kagglekit.pretraining.masking_catalogue import Masking, make_masking, masking_options
from kagglekit.pretraining.objective import SCORED, Stage, check_options
from kagglekit.pretraining.pairs import LabelledTexts, read_pairs
from kagglekit.pretraining.probe import Probe
from kagglekit.pretraining.selective import train_token_scorer
from kagglekit.pretraining.stages import HIDING, OBJECTIVES, Pretrained, pretrain
from kagglekit.runs.record import split_start
from kagglekit.runs.starts import find_scorer, find_starts, make_backbone, read_sources
from kagglekit.runs.tables import choose_folds, goes_forward, read_folds, training_rows
from kagglekit.time_budget import TimeBudget

OF_SCORER = [k.name for k in inspect.signature(train_token_scorer).parameters.values() if k.kind is k.KEYWORD_ONLY]
OF_SCORER = [name for name in OF_SCORER if name not in ("rule", "seed", "save_seconds", "budget")]  # masking_options


@dataclass(frozen=True)
class FoldGroup:
    """Folds that share a training: they begin from the same models, and no label of theirs is looked at.

    name: of its folder in that of the run, "" is the run's own. start: folder of a model -> its weight, none for the
    backbone as it is.
    """

    name: str
    folds: tuple[int, ...]
    start: dict[str, float] = field(default_factory=dict)


@dataclass
class StageRun:
    """What a stage reads, begins from and asks, for the folds of a work folder.

    train: as from `read_train`. texts: what is pretrained on. backbone, start, folds, scorer: as in the notebook.
    pairs: a file for supervised SimCSE, see `read_pairs`; without one it takes texts of a class for alike. probe_every:
    steps, 0 is no probe. budget: when it is over, training stops with a checkpoint and OutOfTime.
    Supervised SimCSE by classes, and masking by a scorer, know the labels of training rows: then there is a training
    for each fold, which has seen nothing of that fold. So there is where the start goes by folds; folds that begin from
    the same model share one. With a probe the training is shared, and the best step is each fold's own; folds that go
    forward in time take no probe. Texts are read whatever their time: they are known when the competition begins.
    Raises ValueError and FileNotFoundError for what does not fit, before anything is trained.
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
    probe_every: int = 0
    save_seconds: float = field(default=60.0, repr=False)
    budget: TimeBudget = field(default_factory=TimeBudget, repr=False)

    def __post_init__(self):
        stage = self.stage
        check_range("objective", stage.objective, stage.objective in OBJECTIVES, f"one of {', '.join(OBJECTIVES)}")
        check_range("probe_every", self.probe_every, self.probe_every >= 0, "a number of steps, or 0")
        self._check_contradictions()
        sources = read_sources(self.work, split_start(self.start))
        matched = [source for source in sources if source.by_fold]
        by_class = stage.objective == "simcse_supervised" and not self.pairs
        self.apart = by_class or bool(self.scorer)
        self.by_fold = bool(self.apart or matched or self.probe_every)
        self.scorers_ = find_scorer(self.work, self.scorer, self.backbone) if self.scorer else None
        self.pairs_ = read_pairs(self.pairs) if self.pairs else None
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
        self.groups = self._share(chosen, there, starts, bool(matched))
        self.begun_: dict[str, str] = {}
        self.maskings_: dict[str, Masking] = {}
        check_max_length(next(iter(self.groups[0].start), "") or find_backbone(self.backbone), stage.max_length)

    def _check_contradictions(self):
        stage = self.stage
        if stage.objective not in HIDING and (stage.masking != "dynamic" or stage.masking_options):
            raise ValueError(f"the objective {stage.objective} hides no tokens: leave masking as it is")
        known = [*masking_options(stage.masking), *(OF_SCORER if stage.masking in SCORED else [])]
        check_options("masking_options", stage.masking, stage.masking_options, known)
        if stage.masking in SCORED and not self.scorer:
            raise ValueError(f"masking={stage.masking!r} asks a model what matters: set scorer to a run of 3_train")
        if self.scorer and stage.masking not in SCORED:
            what = f"masking={stage.masking!r} asks no scorer"
            raise ValueError(f"{what}: leave scorer={self.scorer!r} out, or set masking to {' or '.join(SCORED)}")
        if self.pairs and stage.objective != "simcse_supervised":
            raise ValueError(f"pairs are for simcse_supervised, and the objective is {stage.objective}")

    def _share(self, chosen: list[int], there: list[int], starts: dict[int, dict], matched: bool) -> list[FoldGroup]:
        """The trainings: for the `chosen` folds, with the others of `there` that share them."""
        if self.apart:
            return [FoldGroup(f"part{fold}", (fold,), starts.get(fold, {})) for fold in chosen]
        if not matched:
            return [FoldGroup("", tuple(there) if self.by_fold else (), starts.get(chosen[0], {}))]
        parts: dict[tuple, list[int]] = {}
        for fold in there:
            parts.setdefault(tuple(starts[fold].items()), []).append(fold)
        parts = {start: folds for start, folds in parts.items() if set(folds) & set(chosen)}
        return [FoldGroup(f"part{folds[0]}", tuple(folds), dict(start)) for start, folds in parts.items()]

    @property
    def settings(self) -> dict[str, Any]:
        """What params.json says of the run; the texts are the notebook's to add."""
        given = {name: getattr(self, name) for name in ("backbone", "start", "scorer", "pairs", "probe_every")}
        return given | asdict(self.stage)

    def fit(self, folder: Path) -> dict[str, Pretrained]:
        """Train all parts, one after the other."""
        return {part.name: self.fit_group(part, folder) for part in self.groups}

    def fit_group(self, part: FoldGroup, folder: Path) -> Pretrained:
        """Train a part in its place below `folder`, that of the run; one that is done is read back.

        Where there is a model for each fold, models.json says where: fold -> folder below that of the run.
        """
        place, file = folder / part.name, folder / "models.json"
        result = self._train(part, place)
        remove(place / "start")
        self.begun_.pop(part.name, None)
        if self.by_fold:
            kept = result.models or dict.fromkeys(map(str, part.folds), "model")
            models = read_json(file) if file.is_file() else {}
            models |= {fold: str(Path(part.name, at)) for fold, at in kept.items()}
            write_json(file, dict(sorted(models.items(), key=lambda item: int(item[0]))))
        return result

    def _train(self, part: FoldGroup, place: Path) -> Pretrained:
        if (place / "pretraining.json").is_file():
            return Pretrained(**read_json(place / "pretraining.json"))
        self.budget.check(place.name)
        begin = self.begin(part, place)
        tokenizer = self.tokenizer(begin)
        masking = self.masking(part, place) if self.stage.objective in HIDING else None
        return pretrain(
            self.stage,
            begin,
            tokenizer,
            self.texts,
            place,
            masking=masking,
            labels=self.labels_of(part),
            probe=self._probe(tokenizer),
            folds=part.folds,
            save_seconds=self.save_seconds,
            budget=self.budget,
        )

    def begin(self, part: FoldGroup, place: Path) -> str:
        """What a part begins from, as transformers reads it; an average is made once below `place`, its folder."""
        if part.name not in self.begun_:
            self.begun_[part.name] = make_backbone(part.start, place) if part.start else find_backbone(self.backbone)
        return self.begun_[part.name]

    def tokenizer(self, begin: str):
        """The tokenizer of what a part begins from, with the new tokens."""
        tokenizer = load_tokenizer(begin)
        add_tokens(tokenizer, self.stage.new_tokens)
        return tokenizer

    def masking(self, part: FoldGroup, place: Path) -> Masking:
        """The masking of a part. A scorer of tokens is trained below `place` from the fold's own model, when it is
        first asked for."""
        if part.name not in self.maskings_:
            stage, tokenizer = self.stage, self.tokenizer(self.begin(part, place))
            options = dict(stage.masking_options)
            of_scorer = {name: options.pop(name) for name in OF_SCORER if name in options}
            scorer = self._scorer(part, place / "scorer", of_scorer) if self.scorer else None
            masking = make_masking(stage.masking, tokenizer, stage.mask_probability, options, scorer)
            self.maskings_[part.name] = masking
        return self.maskings_[part.name]

    def _scorer(self, part: FoldGroup, place: Path, options: dict[str, Any]):
        """A task model of the part's fold, or what learned from it which tokens matter."""
        (fold,) = part.folds
        model, recipe = self.scorers_.models[fold], self.scorers_.record.recipe
        task_model, tokenizer = Classifier.load(model), load_tokenizer(str(model))
        if self.stage.masking == "entropy" and not options:
            return task_model  # exact, but slow: every token is hidden once
        texts = self.train["text"].iloc[training_rows(self.table_, fold)].tolist()
        tokens = tokenize(texts, tokenizer, recipe["max_length"])
        return train_token_scorer(
            task_model,
            tokens,
            tokenizer,
            place,
            rule=self.stage.masking,
            seed=self.stage.seed,
            save_seconds=self.save_seconds,
            budget=self.budget,
            **options,
        )

    def labels_of(self, part: FoldGroup) -> LabelledTexts | None:
        if self.stage.objective != "simcse_supervised" or self.pairs_:
            return self.pairs_
        (fold,) = part.folds
        rows = training_rows(self.table_, fold)
        return LabelledTexts(self.train["text"].iloc[rows].tolist(), self.labels[rows])

    def _probe(self, tokenizer) -> Probe | None:
        if not self.probe_every:
            return None
        tokens = tokenize(self.train["text"].tolist(), tokenizer, self.stage.max_length)
        return Probe(tokens, self.labels, self.table_["fold"].to_numpy(), self.task, self.probe_every)
