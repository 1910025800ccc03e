"""Fine-tuning: one model a fold, its out-of-fold and test predictions, and the learning rates beforehand."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers import set_seed

from kagglekit.augment.catalogue import make_augmenter
from kagglekit.competition.task import Task
from kagglekit.data.batches import Examples
from kagglekit.data.features import check_features
from kagglekit.decoders.lora import check_tuning
from kagglekit.device import choose_device, choose_precision, keep_memory, random_state_kept, share_cores
from kagglekit.files import check_space, name_training, replacing
from kagglekit.model.backbones import check_max_length, load_config, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.model.pooling import choose_pooling
from kagglekit.progress import say
from kagglekit.runs.defaults import changed_defaults, fill_in_defaults, find_defaults
from kagglekit.runs.folder import Fitted
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tracking import report_callbacks
from kagglekit.scoring.metrics import is_higher_better, score
from kagglekit.time_budget import TimeBudget
from kagglekit.training.build_model import build_model, reopen_model
from kagglekit.training.callbacks import SaveEvery, ShowProgress, StopInTime, remove_checkpoints
from kagglekit.training.column_knobs import fill_in
from kagglekit.training.early_stopping import KeepBest, RecordEvaluations
from kagglekit.training.learning_rates import (
    FEATURES,
    HEAD,
    adamw,
    describe_rates,
    find_learning_rate,
    learning_rates,
    loss_weights_group,
    parameter_groups,
    suggest_learning_rate,
)
from kagglekit.training.model_inputs import (
    FeatureScaler,
    check_right_answers,
    read_inputs,
    vector_files,
    word_vector_options,
)
from kagglekit.training.predict import predict
from kagglekit.training.prompt import compare_with_descriptions, prompt_options
from kagglekit.training.recipe import Recipe
from kagglekit.training.targets import Targets, make_targets, read_labels
from kagglekit.training.trainer import Trainer, history, training_arguments
from kagglekit.training.training_rows import ExtraRows, TrainingRows, gather_rows
from kagglekit.tricks import make_tricks
from kagglekit.tricks.trick import Trick
from kagglekit.tricks.weights import trained

LOOP = ("epochs", "batch_size", "accumulation", "schedule", "warmup", "cycles", "cycle_growth", "max_grad_norm")
VALID_LOSS = {"regression": "mse", "ordinal": "mse"}  # of the held-out rows; of probabilities the log loss


@dataclass
class FineTuner:
    """Fine-tunes one model a fold. Texts are tokenised once.

    train, test: as of `read_train(task, recipe.train_columns)` and `read_test(task, recipe.columns)`. backbone: as of
    `find_backbone`. cache: folder for tokens. save_seconds: between checkpoints. vocabulary: folder with the tokenizer
    of the models that folds start from, where it has other tokens than the backbone's. budget: when it is over,
    training stops with a checkpoint and OutOfTime. report_to: see `report_callbacks`. keep: False where only the
    predictions of the fold count, as in a race: no model is saved, test is not predicted, and no score on the way that
    chooses nothing is computed.
    Raises ValueError for a recipe that does not fit the task or the backbone, before anything is trained.
    """

    task: Task = field(repr=False)
    train: pd.DataFrame = field(repr=False)
    test: pd.DataFrame = field(repr=False)
    backbone: str
    recipe: Recipe = field(default_factory=Recipe)
    cache: Path | None = field(default=None, repr=False)
    save_seconds: float = field(default=60.0, repr=False)
    vocabulary: str | None = field(default=None, repr=False)
    budget: TimeBudget = field(default_factory=TimeBudget, repr=False)
    report_to: str = field(default="", repr=False)
    keep: bool = field(default=True, repr=False)

    def __post_init__(self):
        self.recipe.check_task(self.task)
        self.recipe = recipe = fill_in(self.recipe, self.task)
        columns = [recipe.features.get(kind, ()) for kind in ("numbers", "categories")]
        images = [name for name in [recipe.features.get("images")] if name]
        check_features(self.task, self.train, self.test, columns[0], [*columns[1], *images])
        self.precision = choose_precision(wanted=recipe.precision)
        self.tokenizer = load_tokenizer(self.vocabulary or self.backbone)
        check_max_length(self.backbone, recipe.max_length)
        check_tuning(recipe.tuning, recipe.lora, load_config(self.backbone))
        self.all_labels = read_labels(self.task, self.train, recipe.auxiliary, recipe.soft_targets)
        self.labels = self.all_labels.values
        self.files = vector_files(recipe.features, self.train["id"], self.test["id"])
        self.rows, self.test_rows = (
            read_inputs(table, self.tokenizer, recipe, self.cache, file, self.task.data)
            for table, file in zip((self.train, self.test), self.files, strict=True)
        )
        if recipe.answers:
            check_right_answers(self.rows.tokens, self.labels, self.train["id"].tolist())
        self.augmenter = make_augmenter(recipe.augment, self.backbone) if recipe.augment else None
        at = recipe.features.get("word_vectors_at", "last")
        words, self.word_table = word_vector_options(recipe.features.get("word_vectors"), at, self.tokenizer)
        self.options = {**prompt_options(recipe, self.task.classes, self.tokenizer), **words}  # of `Classifier`
        self.options["pooling"] = choose_pooling(self.options["pooling"], load_config(self.backbone))
        make_targets(self.all_labels, recipe.loss, recipe.learned_weights)  # labels that do not fit are an error now
        self.asked_ = recipe

    @property
    def settings(self) -> dict[str, Any]:
        """The knobs of the run in params.json, without the backbone."""
        return self.asked_.as_dict()

    @property
    def defaults(self) -> dict[str, Any]:
        """What `settings` leave to this version, see `find_defaults`."""
        return find_defaults(self.asked_, self.task.kind, load_config(self.backbone))

    def go_on(self, begun: Mapping[str, Any]) -> None:
        """Take over the defaults with which a run began, where they are others now."""
        if changed := changed_defaults(begun, self.defaults):
            self.recipe = recipe = fill_in_defaults(self.asked_, changed)
            self.options["pooling"] = changed.get("pooling", self.options["pooling"])
            self.augmenter = make_augmenter(recipe.augment, self.backbone) if recipe.augment else None

    def fit(
        self,
        train_rows: np.ndarray,
        valid_rows: np.ndarray,
        folder: Path,
        seed: int,
        start: str | None = None,
        *,
        extra: ExtraRows | None = None,
        teacher: np.ndarray | None = None,
        tricks: Sequence[Trick] = (),
        reopened: bool = False,
    ) -> Fitted:
        """Train on `train_rows` (row numbers of train) and predict `valid_rows` and the test rows.

        start: a folder with a model of the same architecture, of `Classifier.save` or of transformers, whose weights
        the backbone begins with. extra: rows to learn from in addition to those of train; with some, `train_rows` may
        be empty. valid_rows: may be empty too, and then nothing is evaluated. teacher: see `gather_rows`. tricks:
        innermost, after all those of the recipe. reopened: the model of `start` goes on, with its head.

        The model goes to `folder/model`, with all that is needed to read new rows. Checkpoints go to
        `folder/checkpoints` and are removed at the end; training goes on from the last one that an interrupted run
        left. With keep_best, the predictions of each evaluation are returned too.
        """
        keep_memory()
        share_cores()
        set_seed(seed)
        recipe, rows = self.recipe, self._gather(train_rows, seed, extra=extra, teacher=teacher)
        targets, features = rows.targets, rows.features
        given = (Path(start), self.tokenizer, recipe) if reopened else (targets, features, start)
        model = (reopen_model if reopened else self._build)(*given)
        copies = 8 if recipe.epochs else 2  # Adam's state twice, the model twice; untrained, there are no checkpoints
        check_space(folder, copies * 4 * sum(x.numel() for x in trained(model).values()))
        scored, test = len(valid_rows) > 0, features.examples(self.test_rows)
        looks = scored and (self.keep or recipe.keep_best or any(one.chooses for one in make_tricks(recipe.tricks)))
        valid = features.examples(self.rows, valid_rows) if scored else None
        latest, groups = {}, self._groups(model, None if reopened else folder)
        metrics = (("score", self.task.metric), ("loss", VALID_LOSS.get(self.task.kind, "log_loss")))
        record = RecordEvaluations(latest)

        def evaluation(model):
            latest["step"], latest["predictions"] = trainer.state.global_step, predict(model, valid, self.precision)
            truth = self.labels[valid_rows]
            return {name: score(metric, truth, latest["predictions"]) for name, metric in metrics}

        classes = self.task.classes or self.task.labels
        described = compare_with_descriptions(recipe, classes, self.tokenizer, self.rows.pad_id)
        tricks = [*make_tricks(recipe.tricks), *described, *tricks]
        tricks = [*tricks, KeepBest(recipe.patience), record] if recipe.keep_best else tricks
        how = folder, seed, tricks, evaluation, (valid, test), looks
        trainer = self._trainer(model, groups, rows.examples, targets.loss, *how)
        zero_shot = {"before training": evaluation(model)} if recipe.verbalizer and scored else {}
        receipts = zero_shot | (trainer.fit() if recipe.epochs else {})
        receipts = {"learning rates": trainer.rates_, "precision": ", then ".join(trainer.precisions_)} | receipts
        with trainer.evaluating():
            chosen = any(trick.chooses for trick in trainer.tricks)
            if scored and (chosen or latest.get("step") != trainer.state.global_step):
                evaluation(model)
            if recipe.learned_weights:
                names = [*self.task.labels, *(target.name for target in self.all_labels.auxiliary)]
                learned = (-model.log_variances.detach()).exp().tolist()  # what each loss is multiplied by
                receipts["loss weights"] = dict(zip(names, learned, strict=True))
            if self.keep and trainer.args.should_save:  # the first of several processes
                with replacing(folder / "model") as part:
                    model.save(part, self.tokenizer)
                    features.save(part)
            began = time.monotonic()
            predictions = predict(model, test, self.precision) if self.keep else latest["predictions"][:0]
            predicting = time.monotonic() - began if self.keep else None
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            remove_checkpoints(folder / "checkpoints")
        logged = history(trainer.state.log_history)
        own = latest["predictions"] if scored else predictions[:0]
        return Fitted(own, predictions, logged, receipts, record.evaluations, predicting)

    def _trainer(
        self,
        model: Classifier,
        groups: list[dict],
        examples: Examples,
        loss: Callable,
        folder: Path,
        seed: int,
        tricks: Sequence[Trick],
        evaluation: Callable,
        texts: tuple[Examples | None, Examples],
        looks: bool,
    ) -> Trainer:
        """The training loop of a model. texts: those of an evaluation, and those that are predicted in the end."""
        recipe, phase, epoch = self.recipe, name_training(folder), self._steps(len(examples))
        step = examples.tokens.lengths.sum() / epoch
        costs = [0.0 if one is None else one.tokens.lengths.sum() / 3 / step for one in texts]  # forward: a third
        arguments = training_arguments(
            folder / "checkpoints",
            **{knob: getattr(recipe, knob) for knob in LOOP},
            precision=self.precision,
            seed=seed,
            log_every=max(1, round(epoch * recipe.epochs / 40)),
            evaluate_every=(recipe.evaluate_every or epoch) if looks else None,
            higher_is_better=is_higher_better(self.task.metric),
        )
        callbacks = [
            SaveEvery(self.save_seconds),
            ShowProgress(phase, *costs),
            *report_callbacks(self.report_to, arguments, folder),
            StopInTime(self.budget, phase),
        ]
        optimizer = adamw([*groups, *loss_weights_group(model)])
        return Trainer(model, arguments, examples, loss, optimizer, tricks, evaluation, callbacks)

    def find_learning_rate(self, train_rows: np.ndarray, seed: int, start: str | None = None) -> pd.DataFrame:
        """The loss in a short trial while the learning rate grows; all of it is undone."""
        with random_state_kept():
            set_seed(seed)
            rows = self._gather(train_rows, seed)
            model = self._build(rows.targets, rows.features, start).to(choose_device())
            groups, size = self._groups(model), self.recipe.batch_size
            return find_learning_rate(model, groups, rows.examples, rows.targets.loss, size, self.precision, seed=seed)

    def untrained(self, train_rows: np.ndarray) -> Classifier:
        """A model as a fold begins with it, but for a run to start from; random numbers stay as they were."""
        recipe, features = self.recipe, FeatureScaler.fit(self.rows, train_rows, self.recipe.features)
        with random_state_kept():
            targets = make_targets(self.all_labels[train_rows], recipe.loss, recipe.learned_weights)
            return self._build(targets, features, untrained=True)

    def plan_rates(self, train_rows: np.ndarray, folder: Path | None = None) -> pd.DataFrame:
        """The learning rate of each group of parameters at each step of training on some rows. folder: see `rates`."""
        recipe, model = self.recipe, self.untrained(train_rows)
        groups, (begun, usual) = self._groups(model, folder), (self.rates(model, one) for one in (folder, None))
        if begun != usual:
            say(f"this run {describe_rates(begun, usual)}")
        steps = max(1, math.ceil(self._steps(self._learned(train_rows)) * recipe.epochs))
        return learning_rates(groups, recipe.schedule, recipe.warmup, recipe.cycles, steps, recipe.cycle_growth)

    def _learned(self, train_rows: np.ndarray) -> int:
        """Rows of an epoch of training on `train_rows`."""
        return len(train_rows) * (1 + (self.recipe.augment_copies if self.recipe.augment else 0))

    def _gather(self, rows: np.ndarray, seed: int, **more) -> TrainingRows:
        known = self.rows, self.all_labels, self.recipe, self.tokenizer
        more |= {"augmenter": self.augmenter, "cache": self.cache, "extra_vectors": self.files[1], "seed": seed}
        return gather_rows(rows, *known, images=self.task.data, **more)

    def _build(self, targets: Targets, features: FeatureScaler, start: str | None = None, untrained: bool = False):
        given = self.backbone, self.tokenizer, self.recipe, targets, {**self.options, **features.options()}
        return build_model(*given, self.word_table, start, untrained)

    def rates(self, model: Classifier, folder: Path | None = None) -> dict[str, float]:
        """The learning rate of each group of parameters. folder: in that of a run, which goes on at those that it began
        with: rates that no knob names were others in earlier versions."""
        return {group["name"]: group["lr"] for group in self._groups(model, folder)}

    def _groups(self, model: Classifier, folder: Path | None = None) -> list[dict]:
        """Parameter groups, without the weights of losses. folder: see `rates`."""
        recipe, run = self.recipe, None if folder is None else RunRecord.around(folder / "model")
        rate = recipe.learning_rate or suggest_learning_rate(model.backbone, recipe.tuning)
        groups = parameter_groups(model, rate, recipe.head_learning_rate, recipe.layer_decay, recipe.weight_decay)
        begun = run.rates if run else {}
        begun = {FEATURES: begun[HEAD], **begun} if HEAD in begun else begun  # features had the rate of the head once
        for group in groups:
            group["lr"] = begun.get(group["name"], group["lr"])
            group["params"] = [parameter for parameter in group["params"] if parameter is not model.log_variances]
        return groups

    def _steps(self, rows: int) -> int:
        """Optimizer steps of an epoch."""
        return math.ceil(math.ceil(rows / self.recipe.batch_size) / self.recipe.accumulation)
