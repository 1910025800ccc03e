"""What every evaluation predicted is there at the end, also when training was stopped in between."""

import numpy as np
import pytest

from kagglekit.scoring.metrics import score
from kagglekit.training.best import KeepBest, RecordEvaluations
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from kagglekit.tricks import EMA

TRAIN, VALID = np.arange(6, 24), np.arange(6)


@pytest.fixture
def recorded(trainer):
    """recorded(folder, **options): a trainer, evaluated every 2 of 12 steps, and what records it; what an evaluation
    predicts is a few numbers of the head."""

    def make(folder="run", patience=0, **options):
        latest = {}

        def evaluation(model):
            latest["predictions"] = model.head.weight.detach().numpy()[:, :4].T.copy()
            return {"score": float(-abs(latest["predictions"]).sum())}

        record = RecordEvaluations(latest)
        tricks = [EMA(0.8, start=0.0), KeepBest(patience), record]
        return trainer(tricks, folder, evaluation=evaluation, evaluate_every=2, dropout=0.1, **options), record

    return make


@pytest.mark.parametrize("stops", [(3,), (4,), (1, 7), (6, 9)])
def test_stopped_and_resumed_it_has_every_evaluation_once(recorded, stops):
    straight, whole = recorded("straight")
    straight.fit()
    for stop in stops:
        run, _ = recorded(stop=stop)
        run.train(resume_from_checkpoint=stop != stops[0])
    run, parts = recorded()
    run.fit()
    assert list(whole.evaluations) == list(parts.evaluations) == [2, 4, 6, 8, 10, 12]
    assert all(np.array_equal(whole.evaluations[step], parts.evaluations[step]) for step in whole.evaluations)
    assert not np.array_equal(whole.evaluations[2], whole.evaluations[4])


def test_its_state_survives_saving_also_before_the_first_evaluation():
    made, other = RecordEvaluations({}), RecordEvaluations({})
    other.load_state_dict(made.state_dict())
    assert other.evaluations == {} and other.steps_ == 0
    made.steps_, made.at_, made.predictions_ = 2, [20, 100], [np.ones((2, 3)), np.zeros((2, 3))]
    other.load_state_dict(made.state_dict())
    assert list(other.evaluations) == [20, 100] and other.steps_ == 2
    assert np.array_equal(other.predictions_, made.predictions_)


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_the_evaluation_that_was_kept_is_among_those_that_come_back(task, tables, backbone, tmp_path, kind):
    what = task(kind)
    knobs = {"max_length": 24, "epochs": 3, "batch_size": 6, "learning_rate": 5e-3}
    for keep_best in (True, False):
        tuner = FineTuner(what, *tables(what), backbone, Recipe(**knobs, keep_best=keep_best))
        fitted = tuner.fit(TRAIN, VALID, tmp_path / str(keep_best), 0)
        if not keep_best:
            assert fitted.evaluations == {}
            continue
        best = fitted.receipts["KeepBest"]["best step"]
        assert list(fitted.evaluations) == [row["step"] for row in fitted.history if "score" in row]
        assert np.allclose(fitted.evaluations[best], fitted.oof, atol=1e-6)
        for row in fitted.history:
            if "score" in row:
                again = score(what.metric, tuner.labels[VALID], fitted.evaluations[row["step"]])
                assert again == pytest.approx(row["score"])
