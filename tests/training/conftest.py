"""A fine-tuner of a tiny model, and training that is stopped and goes on."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.model.classifier import Classifier
from kagglekit.time_budget import OutOfTime, TimeBudget
from kagglekit.training.callbacks import StopInTime, last_checkpoint
from kagglekit.training.early_stopping import RecordEvaluations
from kagglekit.training.finetune import FineTuner
from kagglekit.training.model_inputs import FeatureScaler, read_inputs
from kagglekit.training.predict import predict
from kagglekit.training.recipe import Recipe
from kagglekit.training.trainer import history

TRAIN, VALID = np.arange(6, 24), np.arange(6)
COLUMNS = {"binary": 2, "multiclass": 3, "multilabel": 2, "regression": 2, "ordinal": 1}  # of predictions
AUXILIARY = {"colour": 0.5, "price": 2.0}
EVERYTHING = {"numbers": ["stars"], "categories": ["place"], "vectors": "vectors.csv", "word_vectors": "words.txt"}
AT_EMBEDDINGS = {**EVERYTHING, "vectors_at": "embeddings", "word_vectors_at": "embeddings"}


@dataclass(frozen=True)
class Scripted(TimeBudget):
    """Hours that are over after so many questions, of which the first is asked before the first step."""

    hours: float = 1.0
    answers: Iterator[bool] = field(default_factory=itertools.count)

    def over(self):
        return next(self.answers)


@pytest.fixture
def tuner(task, tables, backbone):
    """tuner(kind, **knobs): a FineTuner in float32 of the tiny model, 3 steps an epoch on 18 of the 24 rows.

    options: of the task. Its tables have other columns too: number, other number, stars; colour and shape, with gaps,
    and shop; bad, mixed and good with votes for these classes.
    """

    def make(kind="multiclass", options=None, rows=24, save_seconds=60.0, **knobs):
        what = task(kind, files={"train": "train.csv", "test": "test.csv"}, **(options or {}))
        train, test = tables(what, rows)
        random = np.random.default_rng(0)
        for table in (train, test):
            table["number"] = table["other number"] = random.normal(size=len(table)).astype(str)
            table["colour"] = table["shape"] = random.choice(["red", "blue", ""], size=len(table))
            table["stars"], table["shop"] = [str(n) for n in range(len(table))], "b"
        train[["bad", "mixed", "good"]] = random.integers(1, 5, (len(train), 3)).astype(str)
        knobs = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 5e-3, **knobs}
        made = FineTuner(what, train, test, backbone, Recipe(**knobs), save_seconds=save_seconds)
        made.precision = "fp32"
        return made

    return make


@pytest.fixture
def over_after():
    """over_after(questions): a time budget that is over after so many questions."""
    return lambda questions: Scripted(answers=itertools.chain([False] * questions, itertools.repeat(True)))


@pytest.fixture
def alike(trainer, weights, same, tmp_path, over_after):
    """alike(make, stops, scores, hours, **options): a run that is stopped and goes on is the run that never stopped.

    make: its tricks. stops: each a step, or several at which the same run is stopped. scores: of its evaluations; none:
    of its weights. hours: it is stopped by them, not by a kill after a checkpoint. Returns the run and its receipts.
    """

    def check(make, stops, scores=(), hours=False, **options):
        def run(folder, **more):
            def evaluation(model):
                for trick in tricks:
                    if isinstance(trick, RecordEvaluations):
                        trick.latest["predictions"] = model.head.weight.detach().numpy()[:, :4].T.copy()
                step = made.state.global_step
                return {"score": scores[step // options["evaluate_every"] - 1] if scores else model.head.bias[0].item()}

            tricks = make()
            made = trainer(tricks, folder, evaluation=evaluation, **{"dropout": 0.1, **options, **more})
            return made

        straight = run("straight")
        receipts, last = straight.fit(), straight.state.max_steps
        for number, steps in enumerate(stops):
            done, folder = 0, f"stopped{number}"
            for step in [steps] if isinstance(steps, int) else steps:
                if hours:
                    watch = StopInTime(over_after(step - done), "fold 2")
                    with pytest.raises(
                        OutOfTime, match=f"^stopped at step {step} of {last} of fold 2: the checkpoint is"
                    ):
                        run(folder, callbacks=[watch]).fit()
                else:
                    run(folder, stop=step).train(resume_from_checkpoint=done > 0)
                assert last_checkpoint(tmp_path / folder).name == f"checkpoint-{step}"
                done = step
            resumed = run(folder)
            assert resumed.fit() == receipts and list(receipts) == [type(trick).__name__ for trick in resumed.tricks]
            assert resumed.state.global_step == straight.state.global_step
            assert history(resumed.state.log_history) == history(straight.state.log_history)
            assert same(weights(resumed.model), weights(straight.model))
            with straight.evaluating(), resumed.evaluating():
                assert same(weights(resumed.model), weights(straight.model))
            for one, other in zip(straight.tricks, resumed.tricks, strict=True):
                assert same(one.state_dict(), other.state_dict())
        return straight, receipts

    return check


@pytest.fixture
def files(tmp_path, monkeypatch):
    """vectors.csv and words.txt in the working directory."""
    monkeypatch.chdir(tmp_path)
    ids = [*(str(n) for n in range(24)), *(f"t{n}" for n in range(7))]
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(31, 3)), columns=["x", "y", "z"])
    vectors.insert(0, "id", ids)
    vectors.to_csv("vectors.csv", index=False)
    (tmp_path / "words.txt").write_text("good 1 2\nbad -1 -2\nfilm 0 3\n")


@pytest.fixture
def feature_tuner(task, tables, backbone, files):
    """feature_tuner(kind, **knobs): a FineTuner of the tiny model on 24 rows, three steps an epoch, with features."""

    def make(kind="multiclass", folder=backbone, pair=False, **knobs):
        labels = {"labels": ["x", "y"], "metric": "mcrmse"} if kind == "regression" else {}
        what = task(kind, files={"train": "train.csv", "test": "test.csv"}, **labels)
        train, test = tables(what)
        if pair:
            what = replace(what, text=["text", "other"], text_separator=SEPARATOR)
            train["text"], test["text"] = (
                table["text"] + SEPARATOR + table["text"][::-1].to_numpy() for table in (train, test)
            )
        for table in (train, test):
            rows = np.arange(len(table))
            table["text"] = table["text"].str.replace("!", "！")
            table["stars"], table["place"] = (rows % 5).astype(str), np.array(["a", "b", "c"])[rows % 3]
        rows = np.arange(24)
        train["colour"] = np.array(["red", "blue", ""])[rows % 3]
        train["price"] = [str(n * n) if n % 12 else "" for n in rows]
        for n, name in enumerate(what.classes):
            train[f"votes {name}"] = ((rows + n) % 4 + 1).astype(str)
        knobs = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 5e-3, **knobs}
        if knobs.get("chunks"):
            knobs.setdefault("chunk_stride", 2)
        made = FineTuner(what, train, test, folder, Recipe(**knobs))
        made.precision = "fp32"
        return made

    return make


def fit_and_load(fine, folder, seed=0, **options):
    """Fit one fold; its predictions are finite, and those of the saved model, which reads the rows anew."""
    fitted = fine.fit(TRAIN, VALID, folder / "fold0", seed, **options)
    columns = COLUMNS[fine.task.kind]
    assert fitted.oof.shape == (6, columns) and fitted.test.shape == (7, columns)
    assert np.isfinite(fitted.oof).all() and np.isfinite(fitted.test).all()
    place = folder / "fold0" / "model"
    model, beside, vectors = Classifier.load(place), FeatureScaler.load(place), fine.recipe.features.get("vectors")
    test = beside.examples(read_inputs(fine.test, fine.tokenizer, fine.recipe, vectors=vectors))
    assert np.allclose(predict(model, test, "fp32"), fitted.test, rtol=1e-4, atol=1e-5)
    assert np.allclose(predict(model, beside.examples(fine.rows, VALID), "fp32"), fitted.oof, rtol=1e-4, atol=1e-5)
    json.dumps(fitted.receipts)
    return fitted
