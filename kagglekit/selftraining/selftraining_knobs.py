"""The options of self-training and distillation, `pseudo` and `distill` of `3_train`, and `learn` of `5_submit`."""

from __future__ import annotations  # the types of knobs are texts

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kagglekit.files import read_json
from kagglekit.options import Knobs, documented, knob, names_file
from kagglekit.scoring import CLASSES

if TYPE_CHECKING:
    import pandas as pd

    from kagglekit.runs.record import RunRecord
    from kagglekit.training.recipe import Recipe

DRAWN = {"passes": 10, "sample": "easy", "size": 0, "dropout": None}  # knobs of ust alone -> how they are left
REPLAY = "learn.json"  # in the folder of a run: what the replay of learning from test found
KEPT = 0.9  # the usual threshold
PROBABLE = ("binary", "multiclass", "multilabel")  # kinds of task whose predictions are probabilities


@documented
@dataclass(frozen=True)
class SelfTrainingOptions(Knobs):
    """What is labelled by whom, which of it is kept, and how it is learned.

    For several labels each must be as sure as the threshold, of being there or not. Values do not say how sure they
    are: all rows are kept. `top` keeps a class that the teacher prefers from taking over.
    Raises ValueError for a value of another type or out of range, and for two that contradict each other.
    """

    owner = "pseudo"

    teacher: str = knob("", "a run or a blend; empty: the first model is trained here", names="run")
    labels: str = knob("hard", "labels, probabilities, or rows drawn by uncertainty", choices=("hard", "soft", "ust"))
    threshold: float | None = knob(
        None,
        "probability from which on a row is kept; 0: all; near 1: few, with fewer wrong labels, which teach less that "
        "is new; None: 0.9 where there are probabilities",
        least=0,
        most=1,
    )
    top: int = knob(
        0,
        "rows of each class, at most, the surest ones (of several labels: of each, and of none); 0: all; ust draws as "
        "many",
        least=0,
    )
    weight: float | str = knob(
        1.0,
        'of a row in the loss, where a row of train has 1; "confidence": its probability; 0: training without pseudo '
        "labels; ust multiplies it with weights by variance, whose mean is 1",
        choices=("confidence",),
        least=0,
    )
    rounds: int = knob(1, "the student of a round labels the next one", least=1)
    unlabelled: list[str] = knob([], "files with the text columns of the task", names="file")
    test: bool = knob(True, "label the rows of test")
    order: str = knob(
        "mixed", "together with train; or pseudo rows first, then those of train alone", choices=("mixed", "first")
    )
    begin: str = knob(
        "start",
        "where students start: as the fold does, or with the weights of the model before them",
        choices=("start", "teacher"),
    )
    passes: int = knob(10, "of ust, with dropout, over the pool", least=2)
    sample: str = knob("easy", "of ust: rows that the model is sure of, or unsure", choices=("easy", "hard"))
    size: int = knob(0, "of ust: rows of the pool, drawn again in each round, that are asked; 0: all", least=0)
    dropout: float | None = knob(
        None, "of ust, during the passes; None: what the model was trained with", above=0, below=1
    )

    def __post_init__(self):
        super().__post_init__()
        if not self.test and not self.unlabelled:
            raise ValueError("pseudo: there is nothing to label: set test=True, or name files in unlabelled")
        self._check_labels()

    def _check_labels(self):
        if self.labels != "ust":
            changed = [name for name, left in DRAWN.items() if getattr(self, name) != left]
            if changed:
                raise ValueError(f"pseudo: {changed[0]} is a knob of labels='ust', and labels={self.labels!r}")
            return
        if not self.top:
            raise ValueError("pseudo: ust draws rows of each class: say how many, such as top=100")
        if self.threshold:
            raise ValueError(f"pseudo: ust draws rows by BALD, not by threshold={self.threshold}: leave it out")
        if self.weight == "confidence":
            raise ValueError("pseudo: ust has weights of its own, by variance: leave weight='confidence' out")

    def check_kind(self, kind: str) -> None:
        """Raise ValueError for knobs that a kind of task has no use for."""
        if kind in PROBABLE:
            return
        if self.threshold or self.weight == "confidence":
            raise ValueError(
                f"pseudo: threshold and confidence are of probabilities, and predictions of a task of kind {kind} are "
                "values, which do not say how sure they are: leave them out, or set labels='ust', which measures it"
            )
        if self.top and self.labels != "ust":
            raise ValueError(f"pseudo: top={self.top} takes the surest rows, and values do not say how sure they are")
        if kind == "ordinal" and self.labels == "soft":
            raise ValueError("pseudo: ordered classes are learned as whole numbers: labels='soft' does not fit")

    def least(self, kind: str) -> float:
        """The threshold that counts for a kind of task."""
        probable = kind in PROBABLE and self.labels != "ust"
        return KEPT if self.threshold is None and probable else self.threshold or 0.0


@documented
@dataclass(frozen=True)
class DistillationOptions(Knobs):
    """Who teaches, what of, and how much it counts; see `Distiller` and `Distillation`.

    Raises ValueError for options out of range or against each other.
    """

    owner = "distill"

    teacher: str = knob(
        "",
        "a run or a blend of the work folder, or a file with predictions of any model; empty: the run itself",
        names="run or file",
    )
    seen: bool | None = knob(
        None, "of a file without folds: False: its model never saw a label of train; see teacher_files.py"
    )
    by: str = knob(
        "",
        "whose predictions of a training row count; empty: fold for a run, nested for the run itself",
        choices=("", "fold", "nested", "oof"),
    )
    loss: str = knob(
        "",
        "between student and teacher; empty: kl for probabilities",
        choices=("", "cross_entropy", "kl", "cosine", "mse"),
    )
    temperature: float = knob(1.0, "of the probabilities of both, for kl", above=0)
    weight: float = knob(0.5, "of the teacher's loss, that of the labels has the rest", least=0, most=1)
    hidden: float = knob(0.0, "weight of the distance between the vectors of student and teacher", least=0)
    rounds: int = knob(
        1, "1: a student of the teacher; 2: a student of this student; ... (born-again networks)", least=1
    )

    def __post_init__(self):
        super().__post_init__()
        if self.teacher and self.source == "nested":
            raise ValueError("distill: by='nested' trains teachers of its own: leave teacher empty, or set by='fold'")
        if self.seen is not None and not names_file(self.teacher):
            raise ValueError(f"distill: seen={self.seen} is of a teacher from a file, and teacher={self.teacher!r}")
        if not self.teacher and self.source == "oof":
            raise ValueError("distill: by='oof' are predictions of a run that is there: name it as teacher")
        if self.hidden and self.source == "nested":
            raise ValueError("distill: hidden needs one teacher with all rows of the student: set by='fold'")
        if self.temperature != 1 and self.loss not in ("", "kl"):
            raise ValueError(f"distill: temperature={self.temperature} is of loss='kl', not of {self.loss!r}")

    @property
    def source(self) -> str:
        """By what a row is labelled: fold, nested or oof."""
        return self.by or ("fold" if self.teacher else "nested")

    @property
    def taught_by(self) -> str:
        """Who labels the rows of the first student, in words."""
        return f"{self.source} of {self.teacher or 'the run itself'}"

    def check_kind(self, kind: str) -> None:
        """Raise ValueError when the loss does not fit a kind of task."""
        if kind in PROBABLE:
            return
        if self.loss not in ("", "mse") or self.temperature != 1:
            raise ValueError(
                f"distill: loss={self.loss or 'kl'!r} and a temperature are of probabilities, and the task is {kind}: "
                "set loss='mse' and leave temperature=1"
            )

    @property
    def crosses(self) -> bool:
        """Whether a student hears of the labels of its own fold."""
        return self.source == "oof"


@documented
@dataclass(frozen=True)
class LearningOptions(Knobs):
    """What the saved models of a run learn once more before they predict test, and for how long.

    Raises ValueError for a value of another type or out of range, and where there is nothing to learn.
    """

    owner = "learn"

    support: dict[str, list[str]] = knob(
        {},
        'columns of test with labelled examples of each class: {"positive": ["example_1"], "negative": [...]}',
        names={"*": "column"},
    )
    column: str = knob(
        "",
        "text column that an example takes the place of; empty: the one with most different values",
        names="column",
        only={"support": True},
    )
    pseudo: float = knob(0.0, "predictions of test that are at least so sure are learned too; 0: none", least=0, most=1)
    minutes: float = knob(0.0, "for all of it, within hours; 0: as long as it takes", least=0)
    epochs: float | None = knob(
        None, "passes over these rows; None: 3 over examples, 1 over sure predictions alone", above=0
    )
    learning_rate: float | None = knob(None, "None: that of the run", above=0, below=1)
    force: bool = knob(False, "submit what was learned also where the replay at home could not tell that it helps")

    def __post_init__(self):
        super().__post_init__()
        if not self.support and not self.pseudo:
            raise ValueError("learn: there is nothing to learn: name columns in support, or set pseudo=0.95")

    def check_run(self, kind: str, record: RunRecord) -> Recipe:
        """The recipe of a run that can learn. Raises ValueError for a task without classes, a run without saved models
        of fine-tuning, and one that reads features or learned further targets, which examples do not have."""
        from kagglekit.training.recipe import Recipe

        if kind not in CLASSES:
            raise ValueError(f"learn: examples are of classes, and the task is {kind}: leave learn out")
        if not record.saved_models or record.recipe.get("learner") != "finetune":
            raise ValueError(f"learn: run={record.name!r} has no fine-tuned models that could learn: name another run")
        found = Recipe.read(record.recipe)
        if found.columns or any(found.features.values()) or any(found.auxiliary.values()) or found.soft_targets:
            raise ValueError(
                f"learn: run={record.name!r} reads features or candidates, or learned further targets, and examples "
                "have none: leave learn out, or name another run"
            )
        return found

    @property
    def passes(self) -> float:
        """Over what is learned. Three bring more than one over examples: tests.benchmarks.learning."""
        return self.epochs or (3.0 if self.support else 1.0)

    def settings(self, record: RunRecord) -> dict[str, Any]:
        """What a replay depends on: the options that count, and what the models of a run predict."""
        options = {name: one for name, one in asdict(self).items() if name not in ("minutes", "force")}
        return {"options": options | {"epochs": self.passes}, "tables": record.hash_tables()}

    def read_replay(self, record: RunRecord) -> dict[str, Any]:
        """What the replay of these settings found, see `TestTimeLearner.replay`; empty: there was none."""
        file = record.folder / REPLAY
        written = read_json(file) if file.is_file() else {}
        return written["found"] if written.get("settings") == self.settings(record) else {}

    def pays(self, found: dict[str, Any]) -> bool:
        """Whether predictions of models that have learned are submitted."""
        return self.force or found.get("verdict") == "helps"

    def check_replay(self, metric: str, record: RunRecord) -> None:
        """Raise ValueError, with what the replay found, where a kernel with these options would not learn."""
        if not self.pays(found := self.read_replay(record)):
            more = ': leave learn out, or say learn={..., "force": true}' if found else ""
            raise ValueError(f"learn: {describe_replay(metric, found)}{more}")


def describe_replay(metric: str, found: dict[str, Any]) -> str:
    """What a replay found, in a sentence; empty: there was none."""
    if not found:
        return (
            "whether learning from test helps was not checked at home: predict there once with the same learn=, or say "
            'learn={..., "force": true}'
        )
    low, high = found["interval"]
    what = {"helps": "learning from test helps", "hurts": "learning from test hurts"}.get(
        found["verdict"], "learning from test: cannot tell whether it helps"
    )
    return (
        f"{what}: {metric} {found['with']:.4f} with and {found['without']:.4f} without, on held-out rows; the gain is "
        f"{found['gain']:+.4f} (95 % interval {low:+.4f} to {high:+.4f})"
    )


def replay_table(metric: str, found: dict[str, Any]) -> pd.DataFrame:
    """What a replay found, as a table of one row; none where there was none."""
    import pandas as pd  # here: options are checked before a kernel starts

    if not found:
        return pd.DataFrame()
    shown = {"as trained": found["without"], "learned": found["with"], "gain": found["gain"]}
    shown |= {"low, 95 %": found["interval"][0], "high, 95 %": found["interval"][1]}
    return pd.DataFrame(shown, index=[metric]).round(4)
