"""The knobs of fine-tuning: what a `Recipe` says of the text, the model, the loss and the training.

In `3_train`, the most used of them stand in the parameter cell; any other goes into `recipe`, such as
`recipe = {"head_dropout": 0.1}`. On the command line all are alike: `kagglekit run 3_train head_dropout=0.1`.
"""

from __future__ import annotations  # the types of knobs are texts: a notebook's parameters are checked in the same way

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kagglekit.declared import read_names
from kagglekit.decoders.lora_options import ADAPTED, TUNINGS
from kagglekit.losses.catalogue import check_loss
from kagglekit.options import Knobs, check_range, documented, knob
from kagglekit.scoring import CLASSES
from kagglekit.training.prompt import check_descriptions, check_prompt, check_words
from kagglekit.training.recipe_checks import FEATURES, NAMES, check_contradictions, check_features

if TYPE_CHECKING:  # pandas comes with it: a recipe is checked before a kernel starts
    from kagglekit.competition.task import Task

CLEANERS = read_names("data/clean.py", "CLEANERS")
SCHEDULES = (
    *("linear", "cosine", "constant_with_warmup", "constant", "polynomial"),
    *("cosine_with_restarts", "cosine_warm_restarts"),
)
RISING = tuple(name for name in SCHEDULES if name != "constant")
RESTARTING = ("cosine_with_restarts", "cosine_warm_restarts")


@documented
@dataclass(frozen=True)
class Recipe(Knobs):
    """The knobs of one run of fine-tuning. The defaults are a plain, fast run; each trick is a change of one of them.

    Raises ValueError for an unknown name, for a value of another type or out of range, and for two that contradict
    each other: a knob that would have no effect is an error.
    """

    # the text
    clean: list[str] = knob(
        [], "cleaners of the text, in order, see 1_eda; empty: as it is", choices=CLEANERS, shown="text"
    )
    max_length: int = knob(192, "tokens of a text, or of a chunk, that are read", above=0, shown="text")
    truncation: str | dict[str, str] = knob(
        "head",
        "what is kept of longer texts; of each text column, where it is a dict",
        choices=("head", "tail", "head_tail", "middle", "key_parts"),
        shown="text",
    )
    budget: dict[str, int] = knob(
        {}, 'tokens of each text column: {"question": 64}; what one leaves goes to the others', names="column"
    )
    swap: list[str] | dict[str, Any] = knob(
        [], 'two text columns that change places at random: ["a", "b"]; both orders are predicted'
    )
    chunks: int = knob(0, "chunks of a text, at most, that are encoded together; 0: texts are truncated", least=0)
    chunk_stride: int = knob(32, "tokens that a chunk repeats of the one before it", least=0, only={"chunks": True})
    chunk_pooling: str = knob(
        "mean",
        "vectors of chunks to a text vector",
        choices=("mean", "max", "attention", "lstm", "gru", "transformer"),
        only={"chunks": True},
    )
    answers: list[str] = knob(
        [],
        'text columns with candidate answers, of which the label names one: each gets a score: ["A", "B", "C", "D"]',
        names="column",
    )
    augment: dict[str, dict[str, Any]] = knob(
        {},
        'changed copies of training rows: {"EDA": {}}, AEDA, MLMSynonyms, Dictionary, BackTranslation',
        names={"*": "model"},
        contents="kagglekit.declared:check_augmenters",
        shown="text",
    )
    augment_copies: int = knob(
        1, "changed copies of each row, made ahead; 0: rows are changed on the fly", least=0, only={"augment": True}
    )
    augment_share: float = knob(
        0.5,
        "share of the rows that are changed at each visit, on the fly",
        above=0,
        most=1,
        only={"augment": True, "augment_copies": False},
    )
    pattern: str = knob(
        "",
        'around each text, "{text} It was {mask}.", or its columns, "{title}: {body}\\n{classes}\\nAnswer: {mask}"; '
        "empty: nothing",
    )
    chat: bool = knob(
        False, "the pattern is what the user says in the backbone's chat template", only={"pattern": True}
    )
    system: str = knob("", "what the system says before, in the chat", only={"chat": True})
    # the model
    tuning: str = knob(
        "full",
        "full: all weights; lora: adapters; qlora: on a backbone of 4 bits; head: the head alone",
        choices=TUNINGS,
        shown="model",
    )
    lora: dict[str, Any] = knob(
        {},
        'adapters: {"r": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}',
        options="kagglekit.decoders.lora_options:LoraOptions",
        only={"tuning": ADAPTED},
    )
    pooling: str = knob(
        "auto",
        "token vectors to text vector: auto (mean; of a decoder last_token), cls, max, ...",
        choices=("auto", *read_names("model/pooling/__init__.py", "POOLINGS")),
        shown="model",
    )
    head: str = knob(
        "linear",
        "text vector to logits; answer: words, as verbalizer",
        choices=("linear", "separate", "queries", "flat", "answer"),
    )
    verbalizer: dict[str, list[str]] = knob(
        {},
        'words of each class at the mask, in place of a head: {"1": ["great"], "0": ["terrible"]}; empty for '
        "head='answer': A, B, ...",
    )
    dropout: float | None = knob(
        0.0,
        "of hidden states; None: as the backbone was trained; R-Drop needs some",
        least=0,
        below=1,
        shown="model",
    )
    attention_dropout: float | None = knob(0.0, "of attention weights; None: the same as `dropout`", least=0, below=1)
    head_dropout: float = knob(0.0, "before the last layer", least=0, below=1)
    dropout_samples: int = knob(
        1,
        "draws of head_dropout whose logits are averaged: 5 is multi-sample dropout",
        above=0,
        only={"head_dropout": True},
    )
    reinit_layers: int = knob(
        0, "topmost layers that start again from random weights", least=0, only={"tuning": ("full",)}
    )
    freeze_layers: int = knob(0, "lowest layers that are not trained", least=0, only={"tuning": ("full", *ADAPTED)})
    freeze_embeddings: bool = knob(False, "the word embeddings are not trained", only={"tuning": ("full",)})
    features: dict[str, Any] = knob(
        {},
        'besides the text: {"numbers": ["age"], "categories": ["site"], "images": "photo", "vectors": "file", ...}',
        choices=tuple(FEATURES),
        names=NAMES,
    )
    # what it learns
    loss: dict[str, dict[str, Any]] = knob(
        {},
        'empty: cross-entropy, or what fits the task; such as {"focal": {"gamma": 2.0}}; several add up',
        contents="kagglekit.losses.catalogue:check_loss_names",
        shown="model",
    )
    soft_targets: list[str] = knob(
        [], "columns of train with votes or probabilities, one a class, in place of the label", names="column"
    )
    auxiliary: dict[str, float] = knob(
        {}, 'other columns of train to learn too, with the weight of their loss: {"topic": 0.3}', names="column"
    )
    auxiliary_descriptions: dict[str, str] = knob(
        {},
        'a text shall be more like the description of its class than of others: {"sport": "matches, players, results"}',
        only={"chunks": False, "answers": False, "pattern": False, "features": False},
    )
    descriptions_weight: float = knob(0.1, "of that loss", above=0, only={"auxiliary_descriptions": True})
    descriptions_temperature: float = knob(
        0.1,
        "divides the cosines of texts and descriptions; lower: only the nearest ones count",
        above=0,
        only={"auxiliary_descriptions": True},
    )
    learned_weights: bool = knob(False, "learn the weights of the losses of several targets")
    candidates: str = knob(
        "",
        "column whose groups have few of the classes each: one that a group never has in training is not predicted",
        names="column",
        only={"swap": False, "answers": False},
    )
    candidates_loss: bool = knob(False, "nor is it learned: the loss leaves it out too", only={"candidates": True})
    # how it learns
    epochs: float = knob(
        3.0, "passes over the training rows; 0: words answer as the backbone knows them", least=0, shown="training"
    )
    batch_size: int = knob(
        16, "texts in a batch, on average: batches have equal numbers of tokens", above=0, shown="training"
    )
    accumulation: int = knob(1, "batches to an optimizer step", above=0)
    learning_rate: float | None = knob(
        None, "of the topmost layer; None: by the size of the backbone", above=0, below=1, shown="training"
    )
    head_learning_rate: float | None = knob(None, "of the head; None: the same, and 3e-3 of features", above=0, below=1)
    layer_decay: float = knob(
        0.95,
        "rate of a layer to that of the layer above it; 1: no difference",
        above=0,
        most=1,
        only={"tuning": ("full", *ADAPTED)},
        shown="training",
    )
    weight_decay: float = knob(0.01, "of matrices; biases and norms have none", least=0)
    schedule: str = knob("linear", "how the learning rate falls", choices=SCHEDULES)
    warmup: float = knob(
        0.1, "share of the steps in which the learning rate rises", least=0, below=1, only={"schedule": RISING}
    )
    cycles: int = knob(1, "of schedules with restarts", above=0, only={"schedule": RESTARTING})
    cycle_growth: int = knob(
        1,
        "of cosine_warm_restarts: 2 makes each cycle twice as long as the last one",
        above=0,
        only={"schedule": ("cosine_warm_restarts",)},
    )
    max_grad_norm: float = knob(1.0, "longer gradients are shortened to it; 0: never", least=0)
    checkpointing: bool | None = knob(
        None, "compute activations again in the backward pass: less memory, more time; None: of a decoder on a GPU"
    )
    precision: str = knob(
        "auto",
        "of the arithmetic; auto: bf16 where the hardware has it, else fp16 on a GPU, else fp32",
        choices=("auto", "bf16", "fp16", "fp32"),
    )
    evaluate_every: int = knob(0, "steps between evaluations; 0: once an epoch", least=0)
    keep_best: bool = knob(
        False, "the weights with the best score on the fold, whose score is then too good; False: the last ones"
    )
    patience: int = knob(
        0, "evaluations without a better score before training ends; 0: to the end", least=0, only={"keep_best": True}
    )
    tricks: dict[str, dict[str, Any]] = knob(
        {},
        'such as {"FGM": {"epsilon": 0.5, "start": 0.5}, "EMA": {"decay": 0.99}}, the outermost first',
        contents="kagglekit.declared:check_tricks",
        shown="training",
    )

    def __post_init__(self):
        super().__post_init__()
        for column, weight in self.auxiliary.items():
            check_range(f"auxiliary: {column}", weight, 0 <= weight < math.inf, "a weight, 0 or more")
        if self.clean:
            from kagglekit.data.clean import check_cleaners

            check_cleaners(self.clean)
        if self.budget or self.swap or isinstance(self.truncation, dict):
            from kagglekit.training.column_knobs import check_rules

            check_rules(self)
        check_features(self)
        check_contradictions(self)
        check_prompt(self)

    def check_task(self, task: Task) -> None:
        """Raise ValueError when the loss, or what else is learned, does not fit a task."""
        check_loss(self.loss, task.kind)
        check_words(self, task)
        if self.soft_targets and task.kind not in CLASSES:
            raise ValueError(f"soft_targets are probabilities of classes, and the task is {task.kind}")
        for name in (*self.soft_targets, *self.auxiliary):
            if name in (task.id, *task.labels, *task.text) or name in {*self.auxiliary} & {*task.label_columns}:
                raise ValueError(
                    f"column {name!r} is the id, a label or part of the text: it cannot be learned besides the labels"
                )
        if self.candidates and (task.kind not in CLASSES or check_loss(self.loss, task.kind) != "softmax"):
            raise ValueError(f"candidates are of one label with classes, learned by a softmax; the task is {task.kind}")
        if self.candidates and self.candidates == task.group:
            raise ValueError(
                f"candidates={self.candidates!r} is the group of the folds: none of its groups is in training and in "
                "validation, so that nothing would be known of any"
            )
        check_descriptions(self.auxiliary_descriptions, task)
        several = len(task.labels) + sum(weight > 0 for weight in self.auxiliary.values())
        if self.learned_weights and several < 2:
            raise ValueError("learned_weights are of several targets, and there is one: name others in auxiliary")

    @property
    def columns(self) -> list[str]:
        """The columns of test that are read besides those of the task."""
        read = [*self.features.get("numbers", []), *self.features.get("categories", [])]
        read += [name for name in [self.features.get("images")] if name]
        return read + [self.candidates] * bool(self.candidates and self.candidates not in read)

    @property
    def train_columns(self) -> list[str]:
        """The columns of train that are read besides those of the task: the same, and those that are learned."""
        return [*self.columns, *self.soft_targets, *self.auxiliary]
