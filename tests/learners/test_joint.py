"""One model of several tasks: its batches and loss, a run in each work folder, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from kagglekit.competition.infer import infer
from kagglekit.competition.task import load_task, read_test, read_train
from kagglekit.data.duplicates import near_duplicate_groups
from kagglekit.files import write_json
from kagglekit.files.arrays import seal
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.joint import DRAWS, JointSampler, JointTuner, as_task, join, shared_rows
from kagglekit.learners.joint_check import check_joint
from kagglekit.learners.joint_losses import falling_weights
from kagglekit.losses.catalogue import default_loss
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.model.weight_averages import average_weights
from kagglekit.options import make_knobs
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.record import RunRecord, with_ancestors
from kagglekit.runs.run_knobs import JointOptions, TrainingRun
from kagglekit.runs.tables import read_folds, write_folds
from kagglekit.training.callbacks import SaveEvery
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel
from kagglekit.training.recipe import Recipe
from kagglekit.training.targets import MultiTaskLoss, Part
from tests.learners.test_seed_runs import Home


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


def test_a_text_that_another_task_holds_out_is_not_learned_nor_one_that_is_nearly_the_same():
    long = " ".join(f"word{n}" for n in range(40))
    a, b = ["One  text", "two", long, ""], ["one text", "y", f"{long} too", ""]
    copies = np.split(near_duplicate_groups(a + b), [4])
    got = shared_rows(copies, [np.array([1, 2]), np.array([0, 1, 2, 3])], [np.array([0, 3]), np.array([], int)])
    assert [g.tolist() for g in got] == [[1, 2], [1, 2, 3]]
    got = shared_rows(copies, [np.arange(4), np.array([0, 1, 3])], [np.array([], int), np.array([2])])
    assert [g.tolist() for g in got] == [[0, 1, 3], [0, 1, 3]]


def test_classes_of_all_tasks_are_one_softmax_where_labels_are_flat():
    logits, nan = torch.randn(5, 5, generator=torch.Generator().manual_seed(0)), float("nan")
    classes = torch.tensor([2, 0, 4, 3, 1])  # 0 to 2 of one task, 3 and 4 of another
    labels = torch.eye(5)[classes]
    for row, k in enumerate(classes.tolist()):
        labels[row, slice(3, 5) if k < 3 else slice(0, 3)] = nan
    parts = [Part(default_loss("multiclass"), own, partial=True, flat=True) for own in (slice(0, 3), slice(3, 5))]
    expected = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    assert MultiTaskLoss(parts, by_rows=True)(logits, labels).allclose(expected.mean())
    parts[1] = replace(parts[1], weight=3.0)
    weighted = expected * torch.tensor([1.0, 1, 3, 3, 1])
    assert MultiTaskLoss(parts, by_rows=True)(logits, labels).allclose(weighted.mean())


def test_a_loss_that_falls_slowly_weighs_more():
    weights = falling_weights(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 0.5]))
    expected = np.exp([0.25, 0.5, 0.5]) / np.exp([0.25, 0.5, 0.5]).sum() * 3
    assert np.allclose(weights, expected)
    assert falling_weights(torch.tensor([3.0, 1.0]), torch.tensor([1.5, 0.5])).tolist() == [1, 1]


@pytest.mark.parametrize("head", ["linear", "separate", "queries", "flat"])
def test_each_task_of_a_joint_model_is_saved_as_an_ordinary_one(tmp_path, classifier, batch, head):
    def scaled(n):
        return SimpleNamespace(center=np.full(n, 2, np.float32), scale=np.full(n, 3, np.float32), outputs=n)

    flat, head = head == "flat", "linear" if head == "flat" else head
    one, two = classifier(head=head), classifier("regression", 2, head=head, seed=1)
    m, tasks = join([one, two], [scaled(3), scaled(2)], flat)
    m.eval()
    m.log_variances = torch.nn.Parameter(torch.ones(2))  # of losses: part of no saved model
    batch.pop("labels")
    names, words = set(m.state_dict()), m.get_input_embeddings().weight.clone()
    if flat:
        torch.nn.init.normal_(m.embedded_vectors.projection.weight)
        assert set(m.state_dict()) - names == set() and "embedded_vectors.projection.weight" in names
    for number, (t, sl) in enumerate(zip(tasks, [slice(0, 3), slice(3, 5)], strict=True)):
        told = {"embedded": torch.eye(2)[[number] * len(batch["input_ids"])]} if flat else {}
        whole = m(**batch, **told)["logits"]
        assert whole.shape[1] == 5
        with as_task(m, t):
            m.save(tmp_path / t.link)
            alone = m.predictions(m(**batch)["logits"])
        again = Classifier.load(tmp_path / t.link).eval()
        assert not {name for name in again.state_dict() if name.startswith(("log_variances", "embedded"))}
        assert torch.allclose(again(**batch)["logits"], whole[:, sl], atol=1e-6)
        assert torch.allclose(again.predictions(again(**batch)["logits"]), alone, atol=1e-5)
        assert m(**batch, **told)["logits"].equal(whole) and m.get_input_embeddings().weight.equal(words)


def _fit(place, task, tables, backbone, stop=0, kind="regression", epochs=2, head="linear", **more):
    one, two = task("multiclass"), task(kind)
    recipe = Recipe(epochs=epochs, batch_size=4, max_length=32, precision="fp32", learning_rate=1e-3, head=head)
    other = FineTuner(two, *tables(two, rows=20), backbone, recipe)
    joint = JointTuner(one, *tables(one), backbone, recipe, others=[other], save_seconds=0.0 if stop else 60.0, **more)
    rows = [np.arange(18), np.arange(15)], [np.arange(18, 24), np.arange(15, 20)]
    if stop:

        class Kill(SaveEvery):
            def on_step_end(self, args, state, control, **kwargs):
                if state.global_step == stop:
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


@pytest.mark.parametrize(
    ("stop", "options"),
    [
        (7, {}),
        (7, {"losses": "learned", "mixed": False}),
        (22, {"losses": "falling", "epochs": 4}),  # in the third epoch, with the sums that weigh the fourth
        (7, {"head": "flat", "kind": "binary", "losses": "learned"}),
    ],
)
def test_joint_resumes_bit_for_bit_and_each_task_predicts_alone(tmp_path, task, tables, backbone, stop, options):
    joint, plain = _fit(tmp_path / "plain", task, tables, backbone, **options)
    _, resumed = _fit(tmp_path / "resumed", task, tables, backbone, stop=stop, **options)
    steps, weights = options.get("epochs", 2) * 9, np.array(plain[0].receipts.get("loss weights", []))
    assert len(joint.plan_rates(np.arange(18))) == plain[0].history[-1]["step"] == steps  # 33 rows, in fours
    for one, two in zip(plain, resumed, strict=True):
        assert np.array_equal(one.oof, two.oof) and np.array_equal(one.test, two.test) and one.history == two.history
        assert one.receipts == two.receipts
    if options.get("losses") == "learned":
        assert len(set(weights)) == 2 and (weights != 1).all()
    if options.get("losses") == "falling":  # of each epoch, 2 in sum
        assert (weights[:, :2] == 1).all() and (weights[:, 2:] != 1).all() and np.allclose(weights.sum(axis=0), 2)
    for tuner, place, fitted in zip([joint, *joint.others], ("a", "b"), plain, strict=True):
        model = SavedModel(tmp_path / "plain" / place / "model", tuner.settings)
        assert np.allclose(model.predict(tuner.test), fitted.test, atol=1e-5)
        assert len(fitted.history) and "score" in fitted.history[-1]


def test_a_run_in_each_folder_says_what_it_leaves_out_and_is_begun_from(tmp_path, texts, backbone, capsys):
    folds = np.arange(24) % 3
    folds[[0, 1]] = 1, 0  # of two texts that both folders have
    a, b = (
        Home(make_folder(tmp_path / name), texts, backbone, classes, of)
        for name, classes, of in (("a", "gb", np.arange(24) % 3), ("b", "yn", folds))
    )
    both, pattern = [str(a.work), str(b.work)], "{text} ({classes})"
    a.fit("joint", 1, [0, 1, 2], tasks=both, head="flat", joint={"losses": {both[1]: 2}}, pattern=pattern)
    told = "rows that a fold does not learn, as another task holds out (nearly) the same texts"
    assert capsys.readouterr().out.count(f"{told}: 0 to 1 of {both[0]}, 0 to 1 of {both[1]}\n") == 1
    settings = [RunRecord(one.work / "joint").recipe["pattern"] for one in (a, b)]
    assert settings == ["{text} (b, g)", "{text} (n, y)"]
    for one in (a, b):
        assert np.allclose(one.infer("joint").tests[0], one.read("joint").tests[0], atol=1e-5)
    choice = b.choose("after", start="joint")
    begin = choice.begin(0, b.work / "after" / "fold0")
    rows = choice.tuner._gather(np.arange(9), 0)
    ours = choice.tuner._build(rows.targets, rows.features, begin)
    saved = Classifier.load(b.work / "joint" / "fold0" / "model")
    for name, tensor in saved.backbone.state_dict().items():
        assert ours.backbone.state_dict()[name].equal(tensor), name
    assert not ours.get_input_embeddings().weight.equal(load_backbone(backbone).get_input_embeddings().weight)


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


def make_folder(place):
    place.mkdir()
    return place


def asked(folders, work, tasks, **more):
    """Parameters of 3_train with these folders."""
    given = {"work": str(folders / work), "run": "joint", "tasks": [str(folders / name) for name in tasks]}
    return vars(TrainingRun()) | vars(Recipe()) | given | more


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
        check_joint(asked(folders, work, tasks, tricks=tricks))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"joint": {"losses": {"c": 2.0}}}, "joint: losses: c is none of tasks"),
        ({"joint": {"losses": "falling"}, "epochs": 2.0}, "falling compares two epochs, .*: set epochs above 2$"),
        ({"head": "flat"}, "head='flat' is one softmax .*, and .*/b is regression, .*: set head to separate or"),
        ({"head": "flat", "tuning": "lora"}, "head='flat' adds to the word embeddings, and tuning='lora' trains none"),
    ],
)
def test_what_several_tasks_cannot_have_is_refused(folders, more, told):
    (folders / "a" / "task.json").write_text('{"kind": "binary"}')
    (folders / "b" / "task.json").write_text('{"kind": "regression"}')
    with pytest.raises(ValueError, match=told):
        check_joint(asked(folders, "a", "ab", **more))


@pytest.mark.parametrize(
    ("knob", "told"),
    [
        ({"extra": "x.csv"}, "extra='x.csv' has no effect on several tasks"),
        ({"features": {"numbers": ["age"]}}, "features=.* has no effect on several tasks"),
        ({"verbalizer": {"a": ["b"]}, "pattern": "{text} {mask}"}, "verbalizer=.* has no effect on several tasks"),
        ({"head": "answer", "pattern": "{text} {mask}"}, "tasks=.* has no effect with head='answer'"),
        ({"learner": "frozen"}, "tasks=.* has no effect with learner='frozen'"),
    ],
)
def test_knobs_of_one_task_are_refused(knob, told):
    make_knobs(TrainingRun, Recipe, shown={}, rest=knob)
    with pytest.raises(ValueError, match=told):
        make_knobs(TrainingRun, Recipe, shown={}, rest={"tasks": ["a", "b"]} | knob)


@pytest.mark.parametrize("losses", ["even", {"a": 0.0}, {"a": "2"}])
def test_weights_of_losses_are_positive_or_one_of_two_words(losses):
    JointOptions(losses={"a": 2})
    with pytest.raises(ValueError, match="joint: losses"):
        JointOptions(losses=losses)


def test_a_fold_that_one_folder_lacks_is_not_left_out_in_silence(folders):
    for name in "ab":
        for table in ("oof", "test"):
            file = folders / name / "joint" / "fold0" / f"{table}.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    both = asked(folders, "a", "ab", tricks={"EMA": {}})
    check_joint(both)
    (folders / "b" / "joint" / "fold0" / "oof.parquet").unlink()
    with pytest.raises(ValueError, match=r"b/joint lacks fold 0, and .*a/joint has it: .*delete fold0 there"):
        check_joint(both)
    shutil.rmtree(folders / "a" / "joint" / "fold0")
    check_joint(both)


@pytest.fixture
def places(tmp_path, monkeypatch, texts):
    """Two work folders, a and b, with two folds each, below the working directory; the last text is in both."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("ab"):
        words, balance = texts(24, seed=number)
        table = pd.DataFrame({"id": [f"{name}{n}" for n in range(24)], "text": words, "label": balance > 0})
        table.loc[19, "text"] = "the end of both"
        (tmp_path / "data" / name).mkdir(parents=True)
        table[:20].to_csv(tmp_path / "data" / name / "train.csv", index=False)
        table[20:].drop(columns="label").to_csv(tmp_path / "data" / name / "test.csv", index=False)
        table[20:][["id", "label"]].to_csv(tmp_path / "data" / name / "sample_submission.csv", index=False)
        infer(tmp_path / "data" / name)[0].save(tmp_path / "runs" / name)
        write_folds(tmp_path / "runs" / name, table["id"][:20], np.arange(20) % 2)
    return tmp_path / "runs"


def _train(places, name, run, backbone, **more):
    """Fold 1 of a run, as 3_train trains it."""
    work = str(places / name)
    given, what = TrainingRun(work=work, run=run, backbone=backbone, **more), load_task(work)
    train, test = read_train(what), read_test(what)
    recipe = Recipe(max_length=16, epochs=1, batch_size=8, precision="fp32", learning_rate=1e-12)
    choice = choose_learner(given, recipe, what, train, test, table := read_folds(work, train["id"]), [1])
    folder, held_out = open_run(work, run, choice.settings), np.flatnonzero(table["fold"] == 1)
    fitted = choice.fit(np.flatnonzero(table["fold"] != 1), held_out, folder / "fold1", 1)
    save_fold(folder, 1, fitted, train["id"].iloc[held_out], test["id"], what)
    return choice


@pytest.mark.parametrize(
    ("version", "receipts", "folds"),
    [("0.6.1", {"0": {}}, "0, 1"), ("0.6.1", {"0": {"precision": "fp32"}}, "1"), ("0.7.0", {}, "")],
)
def test_folds_that_an_earlier_version_trained_on_near_copies_are_told(
    places, backbone, capsys, version, receipts, folds
):
    words, held_out = "one two three four five six seven eight nine", {"a": " ten", "b": " ten eleven"}
    for row, (name, end) in enumerate(held_out.items()):
        file = places.parent / "data" / name / "train.csv"
        table = pd.read_csv(file)
        table.loc[row, "text"] = words + end
        table.to_csv(file, index=False)
        (places / name / "task.json").unlink()
        infer(file.parent)[0].save(places / name)
        (places / name / "joint" / "fold0").mkdir(parents=True)
        for table in ("oof", "test"):
            (places / name / "joint" / "fold0" / f"{table}.parquet").touch()
    (places / "a" / "joint" / "fold1" / "checkpoints").mkdir(parents=True)
    params = {"recipe": {}, "inputs": {}, "receipts": receipts, "versions": {"kagglekit": version}}
    write_json(places / "a" / "joint" / "params.json", params)
    run, what = (
        TrainingRun(work="runs/a", run="joint", backbone=backbone, tasks=["runs/a", "runs/b"]),
        load_task("runs/a"),
    )
    table = read_folds("runs/a", [f"a{n}" for n in range(20)])
    choice = choose_learner(run, Recipe(max_length=16), what, read_train(what), read_test(what), table, [0, 1])
    said = (
        f"fold {folds} learned near-copies (1) of texts that another task holds out, as kagglekit before 0.7 did: its"
    )
    assert (said in capsys.readouterr().out) == choice.caution.startswith(said) == bool(folds)
    for table in ("oof", "test"):  # the fold that was half trained is finished by this version
        (places / "a" / "joint" / "fold1" / f"{table}.parquet").touch()
    write_json(places / "a" / "joint" / "params.json", params | {"receipts": receipts | {"1": {"precision": "fp32"}}})
    assert choice.caution.startswith(said) == bool(folds)


def test_a_joint_run_begins_fold_by_fold_with_the_mean_of_runs_of_each_folder(places, backbone):
    """With a rate next to nothing the backbone stays where it began."""
    joint = dict(tasks=["runs/a", "runs/b"], start="one+runs/b/two")
    for name, run, start in (("a", "one", ""), ("b", "two", "")):
        _train(places, name, run, backbone, start=start)
        model = places / name / run / "fold1" / "model"
        states = load_file(model / "model.safetensors")
        save_file({key: value + (name == "b") for key, value in states.items()}, model / "model.safetensors")
        (model / "checksums.json").unlink()
        seal(model)
    choice = _train(places, "a", "joint", backbone, **joint)
    begun = [f"runs/{name}/fold1/model" for name in ("a/one", "b/two")]
    assert choice.starts == {1: {str(places.parent / place): 1.0 for place in begun}}  # not all folds of the other
    mean = average_weights([Classifier.load(Path(place)).backbone.state_dict() for place in begun])
    for name in "ab":
        kept = load_file(places / name / "joint" / "fold1" / "model" / "model.safetensors")
        assert all(torch.allclose(kept[f"backbone.{key}"], mean[key], atol=1e-5) for key in mean)
        sources = RunRecord(places / name / "joint").parents["start"]
        assert [str(one.folder.relative_to(places)) for one in sources] == ["a/one", "b/two"]
    _train(places, "b", "on", backbone, start="joint")
    with pytest.raises(ValueError, match=r"on' is made from .*runs/a/.*, a run of this data: its models have seen"):
        _train(places, "a", "back", backbone, start="runs/b/on")


def test_runs_that_learned_texts_which_another_task_holds_out_are_not_begun_from(places, backbone):
    _train(places, "a", "one", backbone)
    folds = np.arange(20) % 2
    folds[18:] = folds[[19, 18]]  # the text that both have lies in fold 1 of a, and now in fold 0 of b
    write_folds(places / "b", [f"b{n}" for n in range(20)], folds)
    _train(places, "a", "joint", backbone, tasks=["runs/a", "runs/b"])
    _train(places, "a", "more", backbone, tasks=["runs/a", "runs/b"], start="joint")
    with pytest.raises(ValueError, match=r"start='one' learned 1 texts that .*runs/b holds out in another fold"):
        _train(places, "a", "on", backbone, tasks=["runs/a", "runs/b"], start="one")
