"""Hours: the arithmetic against a count by hand, and a real sample of a tiny model."""

from dataclasses import replace

import numpy as np
import pytest

from kagglekit.competition.infer import infer
from kagglekit.decoders.memory import what_fits
from kagglekit.kaggle.budget import Budget, measure
from kagglekit.runs.tables import write_folds

BUDGET = Budget(
    device="a made-up GPU", step=0.5, spread=0.01, startup=20.0, tokenise=0.001, row=0.01, load=3.0, batch=16, copies=1,
    rows=10_000, test_rows=1000, folds=5, epochs=3.0,
)  # fmt: skip


def test_hours_are_those_of_a_count_by_hand():
    fold = 20 + 1500 * 0.5 + (3 * 2000 + 1000) * 0.01  # 8,000 rows in batches of 16, three times
    hours = BUDGET.hours()
    assert hours["a fold"] == pytest.approx((11 + fold) / 3600)
    assert hours["training"] == pytest.approx((11 + 5 * fold) / 3600)
    assert hours["predicting"] == pytest.approx(5 * 70 / 3600)
    assert hours["inference"] == pytest.approx(5 * (3 + 1000 * 0.011) / 3600)
    assert BUDGET.hours(gpus=2)["training"] == pytest.approx((11 + 3 * fold) / 3600)  # two, two and one fold
    assert replace(BUDGET, test_rows=100_000).hours()["inference"] == pytest.approx(5 * (3 + 1100) / 3600)
    assert replace(BUDGET, copies=2).hours()["training"] > 1.8 * hours["training"]
    assert replace(BUDGET, evaluate_every=100).hours()["predicting"] == pytest.approx(5 * (15 * 20 + 10) / 3600)
    three = replace(BUDGET, seeds=3).hours()
    assert three["training"] == pytest.approx((11 + 5 * 3 * fold) / 3600)
    assert [three[name] / hours[name] for name in ("predicting", "inference")] == pytest.approx([3, 3])
    with pytest.raises(ValueError, match="gpus=0 is out of range"):
        BUDGET.hours(gpus=0)


def test_what_fits_is_no_warning_and_what_does_not_is_one_with_what_would():
    assert BUDGET.advice() == [] and "WARNING" not in str(BUDGET)
    assert "made-up GPU: 500 ms a step (± 10), 11 ms a row of test" in str(BUDGET)
    assert list(BUDGET.table().columns) == ["1 at a time", "2 at a time"]
    assert BUDGET.table().loc["training", "1 at a time"] == pytest.approx(60 * BUDGET.hours()["training"])
    units = [replace(BUDGET, epochs=epochs).table().index.name for epochs in (0.05, 3.0, 30.0)]
    assert units == ["minutes", "minutes", "hours"] and replace(BUDGET, rows=9, test_rows=9).table().max(axis=None) > 1
    long = replace(BUDGET, step=8.0, limit=9.0)  # 3.4 hours a fold, 16.8 for all
    told = str(long)
    assert "WARNING: training takes 16.8 hours of 9, a fold at a time" in told
    assert "one kernel a fold: 3.4 hours each" in told and "2 of 5 folds in a kernel" in told
    assert "two GPUs" not in told and "two GPUs: 10.1 hours" in str(replace(long, limit=12.0))
    assert "a smaller backbone, or about 1 epochs" in str(replace(long, step=64.0))
    assert "a smaller backbone: predicting alone takes longer" in str(replace(BUDGET, test_rows=5_000_000, limit=9.0))
    hidden = replace(BUDGET, test_rows=1_000_000, limit=9.0)
    assert "inference takes 15.3 hours of 9. What fits: the models of 2 folds" in str(hidden)


@pytest.fixture
def work(tmp_path, task, tables):
    """A work folder with a task of 48 rows and three folds."""
    train, test = tables(task("multiclass"), 48, 40)
    (tmp_path / "data").mkdir()
    for name, table in (("train", train), ("test", test), ("sample_submission", test[["id"]].assign(label="bad"))):
        table.to_csv(tmp_path / f"data/{name}.csv", index=False)
    made, _ = infer(tmp_path / "data")
    made.save(tmp_path / "work")
    write_folds(tmp_path / "work", train["id"], np.arange(48) % 3)
    return tmp_path / "work"


def test_a_sample_of_a_tiny_model_gives_seconds_that_a_training_of_the_same_recipe_takes(work, backbone, tiny_decoder):
    knobs = dict(max_length=24, epochs=2.0, batch_size=4, tricks={"FGM": {"epsilon": 0.5}}, evaluate_every=5)
    budget = measure(work, {"backbone": backbone, "start": "mlm", **knobs}, 2.0, limit=9.0)
    assert (budget.rows, budget.test_rows, budget.folds, budget.batch, budget.limit) == (48, 40, 3, 4, 9.0)
    assert 0 < budget.step < 1 and budget.tokenise > 0 and 0 < budget.row < 0.1 and 0 < budget.load < 10
    assert budget.hours()["training"] * 3600 < 120 and "CPU" in budget.device
    assert not budget.fits and "memory" not in str(budget)
    lines = str(replace(budget, fits=what_fits(7568)))
    assert "memory, by arithmetic" in lines and "T4 qlora / int8, two T4s lora / predict" in lines
    decoder = {"backbone": tiny_decoder("llama"), "tuning": "lora"}
    plain = measure(work, {**decoder, **knobs, "tricks": {}}, 2.0, test_rows=7)
    assert plain.test_rows == 7 and 0 < plain.step < 1 and set(plain.fits.values()) == {"full / predict"}


def test_what_is_not_one_fine_tuning_is_refused(work, backbone):
    for given in (
        {"learner": "frozen"},
        {"pseudo": {"teacher": "base"}},
        {"distill": {"by": "nested"}},
        {"backbone": "tfidf"},
        {"epochs": 0.0, "head": "answer", "pattern": "{text} It was {mask}."},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(given))}=.* is out of range"):
            measure(work, {"backbone": backbone, **given})
    with pytest.raises(FileNotFoundError, match="did you mean deberta-v3-base"):
        measure(work, {"backbone": "deberta-v3-bas"})
