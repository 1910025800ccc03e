"""One model of several tasks: its batches and loss, a run in each work folder, and what it refuses."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from kagglekit.learners.joint import DRAWS, JointSampler, JointTuner, as_task, join, shared_rows
from kagglekit.learners.joint_check import check_joint
from kagglekit.model.classifier import Classifier
from kagglekit.runs.record import RunRecord, with_ancestors
from kagglekit.runs.tables import write_folds
from kagglekit.training.callbacks import SaveEvery
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe
from kagglekit.training.targets import MultiTaskLoss, Part


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("draw", DRAWS)
def test_batches_are_as_many_as_of_one_task_and_drawn_as_asked(draw, mixed):
    lengths = np.random.default_rng(0).integers(3, 40, 130)
    s = JointSampler(lengths, 8, 0, lambda: 0, rows=[100, 30], draw=draw, mixed=mixed, epochs=3)
    for e in range(3):
        b = s.batches(e)
        rows = np.concatenate(b)
        assert len(b) == len(s) and len(rows) == 130
        if not mixed:
            assert all(len({r < 100 for r in x}) == 1 for x in b)
        if draw == "size":
            assert sorted(rows) == list(range(130))
        if draw == "even":
            assert abs((rows < 100).sum() - 65) <= 1


@pytest.mark.parametrize("draw", DRAWS)
def test_no_batch_is_lost_however_unequal_the_tasks(draw):
    cases = [[4, 4, 4, 4, 4, 4, 4, 4, 4, 4000]]  # a share of one in a thousand, and batches for a few more than tasks
    random = np.random.default_rng(0)
    cases += [np.ceil(10 ** random.uniform(0, 3.5, random.integers(2, 10))).astype(int).tolist() for _ in range(200)]
    for rows in cases:
        batch_size = max(1, min(32, sum(rows) // (2 * len(rows))))
        lengths = random.integers(3, 40, sum(rows))
        sampler = JointSampler(lengths, batch_size, 0, lambda: 0, rows=rows, draw=draw, mixed=False, epochs=3)
        batches, ends = sampler.batches(1), np.cumsum(rows)
        assert len(batches) == len(sampler) and sum(map(len, batches)) == len(lengths), rows
        assert all(len(batch) for batch in batches), rows
        assert {int(np.searchsorted(ends, batch[0], "right")) for batch in batches} == set(range(len(rows))), rows


def test_in_a_mixed_batch_all_rows_count_alike():
    nan, squares = float("nan"), lambda ours, theirs: ((ours - theirs) ** 2).mean()
    parts = [Part(squares, slice(0, 1), partial=True), Part(squares, slice(1, 2), partial=True)]
    labels = torch.tensor([[1.0, nan], [1.0, nan], [1.0, nan], [nan, 4.0]])
    assert MultiTaskLoss(parts, by_rows=True)(torch.zeros(4, 2), labels) == (3 * 1 + 16) / 4
    assert MultiTaskLoss(parts, by_rows=True)(torch.zeros(2, 2), labels[2:].flip(0)[:1].repeat(2, 1)) == 16
    assert MultiTaskLoss(parts)(torch.zeros(4, 2), labels) == 1 + 16


def test_a_text_that_another_task_holds_out_is_not_learned():
    a, b = ["One  text", "two", "x"], ["one text", "y", ""]
    got = shared_rows([(a, np.array([1, 2])), (b, np.array([0, 1]))], [(a, np.array([0])), (b, np.array([2]))])
    assert [g.tolist() for g in got] == [[1, 2], [1]]


@pytest.mark.parametrize("head", ["linear", "separate", "queries"])
def test_each_task_of_a_joint_model_is_saved_as_an_ordinary_one(tmp_path, classifier, batch, head):
    def scaled(n):
        return SimpleNamespace(center=np.full(n, 2, np.float32), scale=np.full(n, 3, np.float32), outputs=n)

    one, two = classifier(head=head), classifier("regression", 2, head=head, seed=1)
    m, tasks = join([one, two], [scaled(3), scaled(2)])
    m.eval()
    batch.pop("labels")
    whole = m(**batch)["logits"]
    assert whole.shape[1] == 5
    for t, sl in zip(tasks, [slice(0, 3), slice(3, 5)], strict=True):
        with as_task(m, t):
            m.save(tmp_path / t.link)
            alone = m.predictions(m(**batch)["logits"])
        again = Classifier.load(tmp_path / t.link).eval()
        assert torch.allclose(again(**batch)["logits"], whole[:, sl], atol=1e-6)
        assert torch.allclose(again.predictions(again(**batch)["logits"]), alone, atol=1e-5)
    assert m(**batch)["logits"].equal(whole)


def _fit(place, task, tables, backbone, stop=False, **more):
    one, two = task("multiclass"), task("regression")
    recipe = Recipe(epochs=2, batch_size=4, max_length=32, precision="fp32", learning_rate=1e-3)
    other = FineTuner(two, *tables(two, rows=20), backbone, recipe)
    joint = JointTuner(one, *tables(one), backbone, recipe, others=[other], save_seconds=0.0 if stop else 60.0, **more)
    rows = [np.arange(18), np.arange(15)], [np.arange(18, 24), np.arange(15, 20)]
    if stop:

        class Kill(SaveEvery):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == 7:
                    raise KeyboardInterrupt

        make = joint._trainer

        def killed(*args):
            trainer = make(*args)
            trainer.add_callback(Kill())
            return trainer

        joint._trainer = killed
        with pytest.raises(KeyboardInterrupt):
            joint.fit_all(*rows, [place / "a", place / "b"], 0)
        assert list((place / "a" / "checkpoints").glob("*/complete"))
        joint._trainer = make
    return joint, joint.fit_all(*rows, [place / "a", place / "b"], 0)


def test_joint_resumes_bit_for_bit_and_each_task_predicts_alone(tmp_path, task, tables, backbone):
    joint, plain = _fit(tmp_path / "plain", task, tables, backbone)
    _, resumed = _fit(tmp_path / "resumed", task, tables, backbone, stop=True)
    assert len(joint.plan_rates(np.arange(18))) == plain[0].history[-1]["step"] == 2 * 9  # 33 rows, in fours
    for one, two in zip(plain, resumed, strict=True):
        assert np.array_equal(one.oof, two.oof) and np.array_equal(one.test, two.test) and one.history == two.history
    for tuner, place, fitted in zip([joint, *joint.others], ("a", "b"), plain, strict=True):
        model = SavedModel(tmp_path / "plain" / place / "model", tuner.settings)
        assert np.allclose(model.predict(tuner.test), fitted.test, atol=1e-5)
        assert len(fitted.history) and "score" in fitted.history[-1]


def test_a_joint_run_is_one_of_each_folder_and_names_the_others(tmp_path):
    for name in "ab":
        (tmp_path / name / "joint").mkdir(parents=True)
        recipe = {"backbone": "minilm", "tasks": [str(tmp_path / "a"), str(tmp_path / "b")]}
        (tmp_path / name / "joint" / "params.json").write_text(json.dumps({"recipe": recipe, "inputs": {}}))
    runs = [RunRecord(tmp_path / name / "joint") for name in "ab"]
    assert runs[0].parents["joint"] == [runs[1]] and runs[1].parents["joint"] == [runs[0]]
    assert with_ancestors([runs[0]]) == runs


@pytest.fixture
def folders(tmp_path):
    """Work folders a, b (two folds each) and c (three), as far as they are checked; d has not been through 1_eda."""
    ids = pd.Series([f"r{n}" for n in range(6)])
    for name, folds in (("a", 2), ("b", 2), ("c", 3)):
        write_folds(tmp_path / name, ids, np.arange(6) % folds)
        (tmp_path / name / "task.json").write_text("{}")
    (tmp_path / "d").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("work", "tasks", "tricks", "told"),
    [
        ("a", "aa", {}, "tasks: .*/a is named twice: name each work folder once$"),
        ("a", "a", {}, r"tasks=.* is one work folder: name two or more, or leave tasks out$"),
        ("a", "bc", {}, "tasks: work='.*/a' is not among .*/b, .*/c: name it there too$"),
        ("a", "ad", {}, "tasks: .*/d has no task.json: run 1_eda work=.*/d first$"),
        ("a", ["a", "bb"], {}, "tasks: .*/bb has no task.json: did you mean .*/b[?]$"),
        ("a", "abc", {}, "tasks: .*/c has 3 folds and .*/a has 2: fold k of every task is held out together, so run"),
        ("a", "ab", {"FGM": {}, "SupCon": {}}, "tricks: SupCon reads the labels or scores of one task"),
        ("a", "ab", {"Mixup": {}}, "tricks: Mixup reads the labels or scores of one task"),
    ],
)
def test_folders_that_one_model_cannot_learn_are_refused(folders, work, tasks, tricks, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        check_joint(str(folders / work), "joint", [str(folders / name) for name in tasks], tricks)


def test_a_fold_that_one_folder_lacks_is_not_left_out_in_silence(folders):
    for name in "ab":
        for table in ("oof", "test"):
            file = folders / name / "joint" / "fold0" / f"{table}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    asked = str(folders / "a"), "joint", [str(folders / "a"), str(folders / "b")], {"EMA": {}}
    check_joint(*asked)
    (folders / "b" / "joint" / "fold0" / "oof.parquet").unlink()
    with pytest.raises(ValueError, match=r"b/joint lacks fold 0, and .*a/joint has it: .*delete fold0 there"):
        check_joint(*asked)
    shutil.rmtree(folders / "a" / "joint" / "fold0")
    check_joint(*asked)
