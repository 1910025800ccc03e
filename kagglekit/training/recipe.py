"""What is trained and how: every knob of fine-tuning, its meaning and its range, in one place.

The knobs `pattern` and `verbalizer` of a recipe: what they go with, and what becomes of them in a model.
"""

from __future__ import annotations  # the types of knobs are texts: a notebook's parameters are checked in the same way

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from kagglekit.competition.task import Task
from kagglekit.data.clean import check_cleaners
from kagglekit.data.patterns import count_masks, find_words, make_pattern
from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.losses.catalogue import check_loss
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.options import accepts, check_range
from kagglekit.scoring.metrics import CLASSES
from kagglekit.training.optim import SCHEDULES
from kagglekit.tricks import make_tricks

if TYPE_CHECKING:
    from kagglekit.training.recipe import Recipe


BESIDE = {  # what may stand beside the text -> its type
    "numbers": "list[str]",  # columns of train and test
    "categories": "list[str]",
    "vectors": "str",  # a file with a vector for each document, see `read_document_vectors`
    "test_vectors": "str",  # that of the rows of test, where it is another one
    "vectors_at": "Literal['last', 'embeddings']",  # joined before the head, or added to the word embeddings
    "word_vectors": "str",  # a file with a vector for each word, see `read_word_vectors`
    "word_vectors_at": "Literal['last', 'embeddings']",
}
GOES_WITH = {"vectors_at": "vectors", "test_vectors": "vectors", "word_vectors_at": "word_vectors"}
NAMED = {  # knobs that are names -> what they may name
    "cut": TRUNCATIONS,
    "chunk_pooling": ("mean", "max", "attention"),
    "pooling": POOLINGS,
    "head": HEADS,
    "schedule": SCHEDULES,
}
RANGES = [  # knobs that are numbers, which numbers fit, and the same in words
    (("epochs",), lambda value: 0 < value < math.inf, "above 0"),
    (("batch_size", "accumulation", "dropout_samples", "cycles", "cycle_growth"), lambda n: n > 0, "above 0"),
    (("learning_rate", "head_learning_rate"), lambda rate: 0 < rate < 1, "above 0 and below 1"),
    (("dropout", "attention_dropout", "head_dropout", "warmup"), lambda share: 0 <= share < 1, "from 0 to below 1"),
    (("layer_decay",), lambda value: 0 < value <= 1, "above 0, and at most 1"),
    (("weight_decay", "max_grad_norm"), lambda value: 0 <= value < math.inf, "0 or more"),
    (("augment_share",), lambda share: 0 < share <= 1, "above 0, and at most 1"),
    (("augment_copies", "chunks", "chunk_stride", "reinit_layers", "freeze_layers"), lambda n: n >= 0, "0 or more"),
    (("evaluate_every", "patience"), lambda n: n >= 0, "0 or more"),
]


@dataclass(frozen=True)
class Recipe:
    """The knobs of one run of fine-tuning. The defaults are a plain, fast run; each trick is a change of one of them.

    Raises ValueError for a value of another type or out of range, and for two that contradict each other: a knob that
    would have no effect is an error.
    """

    # the text
    clean: list[str] = field(default_factory=list)  # names of CLEANERS, in order
    max_length: int = 256  # tokens of a text, or of a chunk, that are read
    cut: str = "head"  # what is kept of longer texts, a name of TRUNCATIONS
    chunks: int = 0  # at most so many chunks of a text, encoded together; 0: texts are cut
    chunk_stride: int = 32  # tokens that a chunk repeats of the one before it
    chunk_pooling: str = "mean"  # vectors of chunks to one: mean, max or attention
    augment: dict[str, dict[str, Any]] = field(default_factory=dict)  # of training rows: name of AUGMENTERS -> options
    augment_copies: int = 1  # changed copies of each row, made ahead; 0 changes rows on the fly
    augment_share: float = 0.5  # of the rows that are changed at each visit, on the fly
    pattern: str = ""  # what stands around each text, such as "{text} It was {mask}."; nothing: the text alone
    # the model
    pooling: str = "mean"  # a name of POOLINGS
    head: str = "linear"  # a name of HEADS
    verbalizer: dict[str, list[str]] = field(default_factory=dict)  # class -> its words at the mask, in place of a head
    dropout: float | None = 0.0  # of hidden states; None as the backbone was trained
    attention_dropout: float | None = 0.0  # of attention weights; None is the same as `dropout`
    head_dropout: float = 0.0
    dropout_samples: int = 1  # draws of the head's dropout whose logits are averaged
    reinit_layers: int = 0  # topmost layers that start anew
    freeze_layers: int = 0  # lowest layers that are not trained
    freeze_embeddings: bool = False
    beside: dict[str, Any] = field(default_factory=dict)  # what stands beside the text, by the names of BESIDE
    # what it learns
    loss: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> options, added up; none: the kind's own
    soft_targets: list[str] = field(default_factory=list)  # columns of train with a probability per class
    auxiliary: dict[str, float] = field(default_factory=dict)  # other columns of train to learn -> weight of their loss
    learned_weights: bool = False  # of the losses of several targets
    # how it learns
    epochs: float = 3
    batch_size: int = 16  # texts on average, see `training_batches`
    accumulation: int = 1
    learning_rate: float | None = None  # of the topmost layer; None by the size of the backbone
    head_learning_rate: float | None = None  # None is the same
    layer_decay: float = 0.95  # 1 is one rate for all layers
    weight_decay: float = 0.01
    schedule: str = "linear"  # a name of SCHEDULES
    warmup: float = 0.1  # share of the steps
    cycles: int = 1  # of schedules with restarts
    cycle_growth: int = 1  # how many times as long as the last one each cycle of cosine_warm_restarts is
    max_grad_norm: float = 1.0  # longer gradients are shortened to it; 0 leaves them
    checkpointing: bool = False  # compute activations again in the backward pass: less memory, more time
    evaluate_every: int = 0  # steps; 0 is once an epoch
    keep_best: bool = False  # the weights of the best evaluation, not the last ones
    patience: int = 0  # evaluations without a better score before training ends; 0 trains to the end
    tricks: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> options, the first is the outermost

    def __post_init__(self):
        for knob in fields(self):
            _check_type(knob.name, getattr(self, knob.name), knob.type)
        for names, fits, rule in RANGES:
            for name in names:
                value = getattr(self, name)
                check_range(name, value, value is None or fits(value), rule)
        for name, known in NAMED.items():
            check_range(name, getattr(self, name), getattr(self, name) in known, f"one of {', '.join(known)}")
        for column, weight in self.auxiliary.items():
            check_range(f"auxiliary: {column}", weight, 0 <= weight < math.inf, "a weight, 0 or more")
        check_cleaners(self.clean)
        make_tricks(self.tricks)
        self._check_beside()
        self._check_contradictions()
        check_prompt(self)

    def _check_beside(self):
        for name, value in self.beside.items():
            check_range("beside", name, name in BESIDE, f"one of {', '.join(BESIDE)}")
            _check_type(f"beside: {name}", value, BESIDE[name])
        for name, needed in GOES_WITH.items():
            if self.beside.get(name) and not self.beside.get(needed):
                raise ValueError(f"beside: {name} goes with {needed}, and there are none: name their file")
        if self.chunks and self.beside.get("vectors_at") == "embeddings":
            raise ValueError("beside: vectors of documents cannot be added to the embeddings of chunks: set chunks=0")
        twice = [name for name, times in Counter(self.train_columns).items() if times > 1]
        if twice:
            raise ValueError(f"column {twice[0]!r} is named twice, beside the text or among what is learned")

    def _check_contradictions(self):
        drops = self.dropout != 0 or self.attention_dropout not in (0, None) or self.head_dropout != 0
        if "RDrop" in self.tricks and not drops:
            raise ValueError("tricks: RDrop compares two passes through dropout, and dropout=0: set dropout=0.1")
        if self.dropout_samples > 1 and not self.head_dropout:
            raise ValueError(f"dropout_samples={self.dropout_samples} draws the head's dropout: set head_dropout=0.2")
        if self.patience and not self.keep_best:
            raise ValueError("patience waits for a better score: set keep_best=True, so that the best one is kept")
        if self.keep_best and "CheckpointSoup" in self.tricks:
            raise ValueError("keep_best and CheckpointSoup both say which weights are kept in the end: choose one")
        if self.chunks and "Mixup" in self.tricks:
            raise ValueError("tricks: Mixup mixes token by token, and chunks are several texts: set chunks=0")
        if self.chunks and self.cut != "head":
            raise ValueError(f"cut={self.cut!r} and chunks={self.chunks} are two ways to read a long text: choose one")
        if self.chunks and self.chunk_stride >= self.max_length:
            raise ValueError(f"chunk_stride={self.chunk_stride} must be below max_length={self.max_length}, of a chunk")
        if self.chunks and self.augment and not self.augment_copies:
            raise ValueError("augment: texts in chunks are changed ahead only: set augment_copies=1, or chunks=0")
        if self.cycles > 1 and not self.schedule.endswith("restarts"):
            raise ValueError(f"cycles={self.cycles}: the schedule {self.schedule!r} has none: set cosine_with_restarts")
        if self.cycle_growth > 1 and (self.schedule != "cosine_warm_restarts" or self.cycles == 1):
            raise ValueError(f"cycle_growth={self.cycle_growth} is of cosine_warm_restarts with two cycles or more")

    def check_task(self, task: Task) -> None:
        """Raise ValueError when the loss, or what else is learned, does not fit a task."""
        check_loss(self.loss, task.kind)
        check_words(self, task)
        if self.soft_targets and task.kind not in CLASSES:
            raise ValueError(f"soft_targets are probabilities of classes, and the task is {task.kind}")
        for name in (*self.soft_targets, *self.auxiliary):
            if name in (task.id, *task.labels, *task.text):
                raise ValueError(
                    f"column {name!r} is the id, a label or part of the text: it cannot be learned beside the labels"
                )
        several = len(task.labels) + sum(weight > 0 for weight in self.auxiliary.values())
        if self.learned_weights and several < 2:
            raise ValueError("learned_weights are of several targets, and there is one: name others in auxiliary")

    @property
    def columns(self) -> list[str]:
        """The columns of test that are read beside those of the task."""
        return [*self.beside.get("numbers", []), *self.beside.get("categories", [])]

    @property
    def train_columns(self) -> list[str]:
        """The columns of train that are read beside those of the task: the same, and those that are learned."""
        return [*self.columns, *self.soft_targets, *self.auxiliary]

    def as_dict(self) -> dict[str, Any]:
        """The knobs as plain data."""
        return asdict(self)

    @classmethod
    def choose(cls, parameters: Mapping[str, Any]) -> Recipe:
        """The recipe that a notebook's parameters spell out; those that are no knobs are left aside."""
        return cls(**{knob.name: parameters[knob.name] for knob in fields(cls)})

    @classmethod
    def read(cls, recipe: Mapping[str, Any]) -> Recipe:
        """The knobs in a recipe of params.json, which may have other names too; those that it lacks are plain."""
        return cls(**{knob.name: recipe[knob.name] for knob in fields(cls) if knob.name in recipe})


def _check_type(name: str, value: Any, kind: str) -> None:
    check_range(name, value, accepts(kind, value), kind)


EXAMPLE = "pattern='{text} It was {mask}.'"


def check_prompt(recipe: Recipe) -> None:
    """Raise ValueError where a pattern, the words for its masks and the other knobs contradict each other."""
    if recipe.verbalizer and not recipe.pattern:
        raise ValueError(f"verbalizer has words for the mask of a pattern, and there is no pattern: set {EXAMPLE}")
    if recipe.pooling == "mask" and not recipe.pattern:
        raise ValueError(f"pooling='mask' reads the masks of a pattern, and there is no pattern: set {EXAMPLE}")
    if not recipe.pattern:
        return
    masks, reads = count_masks(recipe.pattern), "mask" if recipe.verbalizer else recipe.pooling
    if recipe.pattern.strip() == "{text}":
        raise ValueError(f"pattern={recipe.pattern!r} adds nothing to the text: set {EXAMPLE}, or pattern=''")
    if recipe.chunks:
        raise ValueError(f"pattern stands around a text, and chunks={recipe.chunks} are several: set chunks=0")
    if reads == "mask" and not masks:
        knob = "verbalizer" if recipe.verbalizer else "pooling='mask'"
        raise ValueError(f"{knob} goes with the mask of a pattern, and {recipe.pattern!r} has none: set {EXAMPLE}")
    if masks and reads != "mask":
        raise ValueError(
            f"pattern={recipe.pattern!r} has a mask that pooling={reads!r} does not look for: name the words of each "
            "class in verbalizer, or set pooling='mask'"
        )
    if recipe.verbalizer:
        _check_alone(recipe)


def _check_alone(recipe: Recipe) -> None:
    """A verbalizer is the head, reads the masks and nothing else, and has words for the task's classes alone."""
    for knob, rest in (("head", ("linear",)), ("pooling", ("mean", "mask"))):
        value = getattr(recipe, knob)
        if value not in rest:
            raise ValueError(f"verbalizer is a head of its own, over the masks, and {knob}={value!r} has no effect")
    at = {name: recipe.beside.get(f"{name}_at") for name in ("vectors", "word_vectors")}
    joined = [name for name in ("numbers", "categories", *at) if recipe.beside.get(name) and not at.get(name)]
    joined += [name for name, where in at.items() if recipe.beside.get(name) and where == "last"]
    if joined:
        raise ValueError(
            f"beside: {joined[0]} are joined to the text vector, and a verbalizer reads the masks alone: leave them out"
            + (f", or set {joined[0]}_at to 'embeddings'" if joined[0] in at else "")
        )
    if any(recipe.auxiliary.values()):
        raise ValueError("auxiliary targets have no words in a verbalizer: leave them out, or set verbalizer={}")


def check_words(recipe: Recipe, task: Task) -> None:
    """Raise ValueError where a recipe has words for classes and the loss of the task is of something else."""
    if recipe.verbalizer and check_loss(recipe.loss, task.kind) not in ("softmax", "expectation"):
        how = "set loss={'cross_entropy': {}}" if task.kind == "ordinal" else "set verbalizer={}"
        raise ValueError(
            f"verbalizer gives one distribution over the classes of a task, and this one ({task.kind}) is learned by "
            f"{', '.join(recipe.loss) or 'a loss of values or labels'}: {how}"
        )


def prompt_options(recipe: Recipe, classes: Sequence[str], tokenizer) -> dict[str, Any]:
    """What `Classifier` must know of them, its pooling and its head among it.

    Raises ValueError as `make_pattern` and `find_words` do.
    """
    options: dict[str, Any] = {"pooling": recipe.pooling, "head": recipe.head}
    if recipe.pattern:
        options["mask_places"] = make_pattern(recipe.pattern, tokenizer).masks or None
    if recipe.verbalizer:
        words = find_words(recipe.verbalizer, classes, recipe.pattern, tokenizer)
        options |= {"pooling": "mask", "head": "verbalizer", "label_words": words}
    return options
