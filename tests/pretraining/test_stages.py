"""Stages of pretraining: driven, stopped, resumed, probed, chained, and kept apart by fold where labels had a say."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, TrainerCallback

from kagglekit.files import read_json
from kagglekit.model.backbones import load_backbone, load_config, load_tokenizer
from kagglekit.model.classifier import Classifier
from kagglekit.pretraining import stages
from kagglekit.pretraining.pretraining_run import StageRun
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import OBJECTIVES, pretrain, split_corpus
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.initial_weights import find_starts, find_vocabulary, make_start
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import write_folds
from kagglekit.show.pretraining import compare_maskings, scorer_figures, show_masks
from kagglekit.training.callbacks import last_checkpoint
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe
from kagglekit.training.trainer import Trainer
from tests.pretraining.conftest import make_pairs

CORPUS = [
    f"the {a} film was {b} !" for a in ("good", "old", "new", "fun", "sad") for b in ("good", "bad", "fine", "poor")
]
QUICK = Stage(steps=12, max_length=16, batch_size=4, learning_rate=1e-2, held_out=0.2, pack=False)
FOLDS = np.arange(24) % 3


class Scripted:
    """A probe that says what it was told, step after step, and remembers what it was asked about."""

    def __init__(self, overall, by_fold, every=4, higher_is_better=True):
        self.overall, self.by_fold, self.every, self.folds = overall, by_fold, every, list(by_fold)
        self.higher_is_better = higher_is_better
        self.asked = []

    def evaluate(self, backbone):
        torch.rand(3), backbone.eval()
        number = len(self.asked)
        self.asked.append({name: tensor.clone() for name, tensor in backbone.state_dict().items()})
        values = {fold: values[number] for fold, values in self.by_fold.items()}
        return SimpleNamespace(overall=self.overall[number], by_fold=values)


def encoder(folder):
    return load_backbone(str(folder)).state_dict()


def test_the_corpus_is_split_once_for_each_text_and_nothing_is_lost():
    texts = ["a", "b", "a", "", "  ", "c", "d", "e"]
    train, held_out = split_corpus(texts, 0.3, seed=0)
    assert sorted(train + held_out) == list("abcde") and len(held_out) == 2
    assert split_corpus(texts, 0.3, seed=0) == split_corpus(texts[::-1], 0.3, seed=0) != split_corpus(texts, 0.3, 1)
    assert [len(part) for part in split_corpus(["a", "b"], 0.9, seed=0)] == [1, 1]
    with pytest.raises(ValueError, match="at least two different texts"):
        split_corpus(["a", "a", ""], 0.3, seed=0)


@pytest.mark.parametrize(("knobs", "steps"), [({"steps": 5}, 5), ({"steps": 0, "epochs": 1.5}, 6)])
def test_a_stage_is_as_long_as_it_is_told(backbone, tokenizer, tmp_path, knobs, steps):
    result = pretrain(replace(QUICK, **knobs), backbone, tokenizer, CORPUS, tmp_path)  # 16 texts, 4 steps an epoch
    assert result.history[-1]["step"] == steps and result.steps == {"overall": steps}


def test_what_is_done_is_read_back(backbone, tokenizer, tmp_path, monkeypatch):
    first = pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path)
    monkeypatch.setattr(stages, "OBJECTIVES", {})
    assert pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path) == first
    assert list(first.figures().columns) == ["before", "after"] and first.losses()["step"].iloc[-1] == 12


class Stop(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 7:
            raise KeyboardInterrupt


def test_stopped_and_resumed_is_never_stopped(backbone, tokenizer, tmp_path, monkeypatch, weights, same):
    """Also for the probe: what it said before the checkpoint stands, what it said after it is asked again."""
    overall = [0.5, 0.9, 0.4, 0.7]
    straight = pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path / "straight", probe=Scripted(overall, {}))
    with monkeypatch.context() as patch:

        def stopping(*args, callbacks, **kwargs):
            return Trainer(*args, callbacks=[*callbacks, Stop()], **kwargs)

        patch.setattr(stages, "Trainer", stopping)
        knobs = {"probe": Scripted(overall, {}), "save_seconds": 0}
        with pytest.raises(KeyboardInterrupt):
            pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path / "stopped", **knobs)
    assert last_checkpoint(tmp_path / "stopped" / "checkpoints").name == "checkpoint-6"
    assert not (tmp_path / "stopped" / "model").exists()
    kept = [path.name for path in (tmp_path / "stopped" / "candidates").glob("*.safetensors")]
    assert kept == ["step4.safetensors"]
    rest = Scripted(overall[2:], {})
    assert pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path / "stopped", probe=rest) == straight
    assert len(rest.asked) == 2 and straight.steps == {"overall": 4}
    models = [AutoModelForMaskedLM.from_pretrained(tmp_path / name / "model") for name in ("straight", "stopped")]
    assert same(*map(weights, models))
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["model", "pretraining.json"]


def test_a_probe_changes_nothing_when_the_last_step_is_the_best(backbone, tokenizer, tmp_path, same):
    stage = replace(QUICK, dropout=0.1)
    plain = pretrain(stage, backbone, tokenizer, CORPUS, tmp_path / "plain")
    probed = pretrain(stage, backbone, tokenizer, CORPUS, tmp_path / "probed", probe=Scripted([1, 2, 3, 4], {}))
    assert (plain.history, plain.after) == (probed.history, probed.after)
    assert same(encoder(tmp_path / "plain" / "model"), encoder(tmp_path / "probed" / "model"))


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_step_goes_on_and_each_fold_has_its_own(backbone, tokenizer, tmp_path, same, higher):
    """Fold 0 agrees with the best overall; fold 1 likes what there was before the first step; fold 2 has nan."""
    sign = 1 if higher else -1
    overall, by_fold = [1, 4, 3, 4], {0: [1, 5, 2, 2], 1: [9, 8, 7, 6], 2: [np.nan, 1, 3, 3]}
    by_fold = {fold: [sign * value for value in values] for fold, values in by_fold.items()}
    probe = Scripted([sign * value for value in overall], by_fold, higher_is_better=higher)
    result = pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path, probe=probe)
    assert result.steps == {"overall": 4, "0": 4, "1": 0, "2": 8}
    assert result.models == {"0": "model", "1": "step0/model", "2": "step8/model"}
    for fold, asked in ((0, 1), (1, 0), (2, 2)):
        assert same(encoder(tmp_path / result.models[str(fold)]), probe.asked[asked])
    assert result.scores()["0"].tolist() == by_fold[0] and result.scores().index.tolist() == [0, 4, 8, 12]
    assert same(encoder(tmp_path / "step0" / "model"), encoder(backbone))
    assert len(load_tokenizer(str(tmp_path / "step0" / "model"))) == len(tokenizer)


def test_one_fold_alone_goes_on_from_its_own_best_step(backbone, tokenizer, tmp_path, same):
    probe = Scripted([9, 1, 1, 1], {0: [1, 1, 1, 9], 1: [1, 1, 9, 1]})
    result = pretrain(QUICK, backbone, tokenizer, CORPUS, tmp_path, probe=probe, folds=[1])
    assert result.steps == {"1": 8} and result.models == {"1": "model"}
    assert same(encoder(tmp_path / "model"), probe.asked[2])


def test_dropout_of_a_stage_says_nothing_to_the_next(backbone, tokenizer, tmp_path):
    pretrain(replace(QUICK, steps=1, dropout=0.0), backbone, tokenizer, CORPUS, tmp_path)
    kept, first = (load_config(str(folder)) for folder in (tmp_path / "model", backbone))
    assert kept.hidden_dropout_prob == first.hidden_dropout_prob == 0.1


def test_the_knobs_of_a_stage_are_chosen_out_of_those_of_a_notebook():
    stage = Stage.read({"steps": 7, "work": "runs/bbc", "new_tokens": ["covid"], "masking": "span"})
    assert (stage.steps, stage.masking, stage.new_tokens) == (7, "span", ["covid"])


@pytest.fixture
def place(tmp_path, task, tables, backbone, tokenizer, classifier):
    """place(**knobs): a stage run of a work folder with three folds; `train_base` makes a trained run there."""
    what, work = task("multiclass"), tmp_path / "work"
    train, test = tables(what)
    what.save(work)
    write_folds(work, train["id"], FOLDS)

    def make(texts=(), stage=QUICK, **knobs):
        texts = list(texts) or [*train["text"], *test["text"]]
        return StageRun(work, what, train, texts, stage, backbone, **knobs)

    def run(name, texts=(), stage=QUICK, **knobs):
        made = make(texts, stage, **knobs)
        folder = open_run(work, name, made.settings, folds=made.by_fold)
        made.fit(folder)
        return folder

    def train_base(start="", folds=(0, 1, 2), name="base", **knobs):
        starts = find_starts(work, start, backbone, folds)
        vocabulary = find_vocabulary(starts, backbone)
        learner = FineTuner(what, train, test, backbone, Recipe(max_length=16, **knobs), vocabulary=vocabulary)
        folder = open_run(work, name, {"backbone": backbone, "start": start} | learner.recipe.as_dict())
        for fold in folds:
            held_out, at = np.flatnonzero(fold == FOLDS), folder / f"fold{fold}"
            begin = {"start": make_start(starts[fold], at)} if starts else {}
            fitted = learner.fit(np.flatnonzero(fold != FOLDS), held_out, at, seed=fold, **begin)
            save_fold(folder, fold, fitted, train["id"].iloc[held_out], test["id"], what)
        return folder

    return SimpleNamespace(make=make, run=run, train_base=train_base, work=work, train=train, task=what, test=test)


def test_a_stage_without_labels_has_one_model_for_all_folds(place, backbone):
    folder = place.run("mlm")
    assert RunRecord(folder).models == {} and not (folder / "models.json").exists()
    starts = find_starts(place.work, "mlm", backbone, [0, 1, 2])
    assert starts == {k: {str(folder / "model"): 1.0} for k in (0, 1, 2)}


def test_a_stage_with_labels_has_a_model_for_each_fold_that_knows_none_of_its_labels(place, backbone):
    stage = replace(QUICK, objective="simcse_supervised", steps=2)
    run = place.make(stage=stage)
    assert [(part.name, part.folds) for part in run.groups] == [("part0", (0,)), ("part1", (1,)), ("part2", (2,))]
    for part in run.groups:
        known, ours = run.labels_of(part), np.flatnonzero(~np.isin(FOLDS, part.folds))
        assert list(known.texts) == place.train["text"].iloc[ours].tolist()
        assert np.array_equal(known.labels, run.labels[ours])
    folder = place.run("alike", stage=stage, folds=[0, 2])
    assert read_json(folder / "models.json") == {"0": "part0/model", "2": "part2/model"}
    with pytest.raises(ValueError, match="start='alike' has no model of fold 1, only of 0, 2"):
        find_starts(place.work, "alike", backbone, [0, 1])
    assert place.run("alike", stage=stage) == folder  # the fold that is missing, and no other
    starts = find_starts(place.work, "alike", backbone, [0, 1, 2])
    assert starts == {k: {str(folder / f"part{k}" / "model"): 1.0} for k in (0, 1, 2)}


def first_models(folder):
    return {fold: model for fold, (model,) in RunRecord(folder).models.items()}


def test_a_label_of_a_fold_changes_nothing_of_what_that_fold_begins_from(place, same):
    """Other labels in fold 0: its own model stays as it was, bit for bit; that of another fold does not."""
    stage, folds = replace(QUICK, objective="simcse_supervised", steps=1), [0, 1]
    models = first_models(place.run("before", stage=stage, folds=folds))
    place.train.loc[FOLDS == 0, "label"] = np.roll(place.train.loc[FOLDS == 0, "label"], 1)
    again = first_models(place.run("after", stage=stage, folds=folds))
    assert [same(encoder(models[k]), encoder(again[k])) for k in folds] == [True, False]


def test_pairs_from_a_file_are_for_all_folds(place, tmp_path):
    (tmp_path / "pairs.csv").write_text("anchor,positive\n" + "".join(f"{a},{a} !\n" for a in CORPUS))
    stage = replace(QUICK, objective="simcse_supervised", steps=2)
    folder = place.run("pairs", stage=stage, pairs=str(tmp_path / "pairs.csv"))
    assert (folder / "model").is_dir() and not RunRecord(folder).models
    (tmp_path / "pairs.csv").write_text("anchor,positive\ngood,fun\nbad,sad\n")
    with pytest.raises(ValueError, match="the pairs changed"):
        place.run("pairs", stage=stage, pairs=str(tmp_path / "pairs.csv"))


def test_with_a_probe_the_training_is_shared_and_the_best_step_is_each_folds_own(place, backbone, tokenizer):
    folder = place.run("probed", probe_every=4)
    told = read_json(folder / "pretraining.json")
    assert [row["step"] for row in told["probe"]] == [0, 4, 8, 12]
    models = first_models(folder)
    assert sorted(models) == [0, 1, 2]
    for fold, model in models.items():
        scores = [row[str(fold)] for row in told["probe"]]
        best = told["probe"][int(np.argmax(scores))]["step"]
        assert told["steps"][str(fold)] == best
        assert model == folder / ("model" if best == told["steps"]["overall"] else f"step{best}/model")
    assert find_starts(place.work, "probed", backbone, [2]) == {2: {str(models[2]): 1.0}}


def test_a_chain_of_stages_keeps_the_new_tokens_to_the_end(place, tmp_path, backbone):
    """Other texts, then the competition's, then SimCSE, then the labels, then one more stage from what those made."""
    stage = replace(QUICK, new_tokens=["moviegoer"], steps=4)
    domain = [text.replace("film", "moviegoer") for text in CORPUS]
    folders = [place.run("domain", domain, stage)]
    folders.append(place.run("task", stage=replace(QUICK, steps=2), start="domain"))
    folders.append(place.run("simcse", stage=replace(QUICK, objective="simcse", steps=2), start="task"))
    base = place.train_base(start="simcse", folds=[1], epochs=0.1)
    still = replace(QUICK, steps=1, learning_rate=1e-9)
    folders.append(place.run("last", stage=still, start="base", folds=[1]) / "part1")
    tables = []
    for folder in folders:
        tokenizer = load_tokenizer(str(folder / "model"))
        assert tokenizer("a good moviegoer")["input_ids"] == [2, 5, 7, 30, 3] and len(tokenizer) == 31
        tables.append(load_backbone(str(folder / "model")).get_input_embeddings().weight)
        assert len(tables[-1]) == 31
    assert not torch.equal(tables[0][:30], tables[1][:30])  # each stage has learned something
    assert not torch.equal(tables[1][:30], tables[2][:30])
    trained = Classifier.load(base / "fold1" / "model").get_input_embeddings().weight
    assert torch.allclose(tables[3], trained, atol=1e-6)  # the new token is no mean of pieces again
    assert read_json(folders[2] / "params.json")["recipe"]["start"] == "task"
    assert "weights of task" in read_json(folders[2] / "params.json")["inputs"]


def test_a_classifier_from_a_classifier_keeps_the_rows_of_new_tokens_that_were_trained(place, backbone):
    """A new token by a stage, then two runs with labels, then a stage that adds another one: each row goes on."""
    still = {"epochs": 0.1, "learning_rate": 1e-9}
    domain = [text.replace("film", "moviegoer") for text in CORPUS]
    rows = [load_backbone(str(place.run("words", domain, replace(QUICK, new_tokens=["moviegoer"])) / "model"))]
    first = place.train_base(start="words", folds=[1], name="first", **still) / "fold1" / "model"
    second = place.train_base(start="first", folds=[1], name="second", **still) / "fold1" / "model"
    rows += [Classifier.load(model) for model in (first, second)]
    stage = replace(QUICK, new_tokens=["moviegoer", "plots"], steps=1, learning_rate=1e-9)
    last = place.run("last", stage=stage, start="second", folds=[1]) / "part1" / "model"
    rows = [model.get_input_embeddings().weight for model in (*rows, load_backbone(str(last)))]
    assert [len(table) for table in rows] == [31, 31, 31, 32]
    assert all(torch.allclose(table[:31], rows[0], atol=1e-6) for table in rows[1:])
    fresh = encoder(backbone)["embeddings.word_embeddings.weight"]
    assert (rows[0][30] - fresh.mean(dim=0)).abs().max() > 0.01  # trained: no mean, as a new row would be again
    tokenizer = load_tokenizer(str(last))
    assert tokenizer("moviegoer plots", add_special_tokens=False)["input_ids"] == [30, 31]
    pieces = tokenizer.convert_tokens_to_ids(["plot", "##s"])
    assert torch.allclose(rows[3][31], rows[2][pieces].mean(dim=0), atol=1e-6)
    assert load_tokenizer(str(second)).get_vocab() == load_tokenizer(str(first)).get_vocab()


def test_a_stage_that_begins_from_a_trained_run_goes_fold_by_fold(place, backbone):
    base = place.train_base(epochs=0.1)
    run = place.make(start="base")
    assert [part.name for part in run.groups] == ["part0", "part1", "part2"]
    assert [part.start for part in run.groups] == [{str(base / f"fold{k}" / "model"): 1.0} for k in (0, 1, 2)]
    folder = place.run("on", stage=replace(QUICK, steps=1, learning_rate=1e-9), start="base", folds=[1])
    ours, theirs = (
        encoder(RunRecord(folder).models[1][0]),
        Classifier.load(base / "fold1" / "model").backbone.state_dict(),
    )
    assert ours.keys() == theirs.keys() and all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    assert not (folder / "part1" / "start").exists()
    begun = run.begin(run.groups[2], folder)
    (folder / "start" / "config.json").unlink()
    assert run.begin(run.groups[2], folder) == begun == str(folder / "start")  # made once, however often it is asked
    assert not (folder / "start" / "config.json").exists()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_leaves_a_model_to_go_on_from(place, backbone, vit, tmp_path, name):
    texts = [f"{one} {other} {one}" for one, other in zip(CORPUS, CORPUS[::-1], strict=True)]
    options, knobs = {}, {}
    if OBJECTIVES[name].needs_images:
        texts, files, _ = make_pairs(tmp_path, 12)
        rows = [f"{text},{file.name}\n" for text, file in zip(texts, files, strict=True)]
        (tmp_path / "posts.csv").write_text("".join(["text,image\n", *rows]))
        options, knobs = {"image_encoder": vit, "width": 16}, {"pairs": str(tmp_path / "posts.csv")}
    stage = replace(QUICK, objective=name, objective_options=options, steps=1)
    folder = place.run(name, texts, stage, folds=[0], **knobs)
    starts = find_starts(place.work, name, backbone, [0])
    (model,) = starts[0]
    assert load_backbone(model).config.hidden_size == 16
    told = read_json(next(folder.rglob("pretraining.json")))
    assert set(told["before"]) == set(told["after"]) and told["history"]
    again = place.run(f"{name}-mlm", stage=replace(QUICK, steps=1), start=name, folds=[0])
    assert list(again.rglob("pretraining.json"))


@pytest.mark.parametrize("masking", ["selective", "entropy"])
def test_a_scorer_masks_for_the_fold_that_it_has_not_seen(place, masking):
    place.train_base(folds=[1], epochs=10 if masking == "selective" else 0.1, batch_size=4, learning_rate=1e-2)
    options = {"selective": {"threshold": 0.2, "temperature": 0.5}, "entropy": {}}[masking]
    stage = replace(QUICK, masking=masking, masking_options=options, steps=2)
    run = place.make(stage=stage, scorer="base", folds=[1])
    folder = open_run(place.work, masking, run.settings)
    shown = show_masks(run, folder, CORPUS[:2])
    run.fit(folder)
    assert shown.iloc[:, 0].str.contains("->").all() and [part.name for part in run.groups] == ["part1"]
    assert read_json(folder / "models.json") == {"1": "part1/model"}
    told = scorer_figures(run, folder)
    assert told.index.tolist() == (["part1"] if masking == "selective" else [])  # entropy asks the task model itself
    assert masking == "entropy" or 0 <= told["roc_auc"].item() <= 1
    table = compare_maskings(run, folder, CORPUS[:2])
    schemes = ["dynamic", "static", "whole_word", "span", masking]
    assert list(dict.fromkeys(table.index.get_level_values("scheme"))) == schemes


@pytest.mark.parametrize(
    ("knobs", "stage", "words"),
    [
        ({}, {"objective": "mlmm"}, "objective='mlmm' is out of range: did you mean mlm?"),
        ({"probe_every": -1}, {}, "probe_every=-1 is out of range"),
        ({}, {"objective": "simcse", "masking": "span"}, "masking='span' has no effect with objective='simcse'"),
        ({}, {"masking": "selective"}, "masking='selective' asks a model what matters: set scorer"),
        ({"scorer": "base"}, {}, "masking='dynamic' asks no scorer: leave scorer='base' out, or set"),
        ({}, {"masking": "spans"}, "masking='spans' is out of range: it must be one of dynamic, static"),
        ({}, {"masking_options": {"max_span": 3}}, "masking_options: dynamic has no knob 'max_span'; it has none"),
        (
            {"scorer": "base"},
            {"masking": "selective", "masking_options": {"text": 3}},
            "selective has no knob 'text': did you mean texts",
        ),
        ({}, {"max_length": 2}, "max_length=2 is out of range: .* reads from 3 to 40 tokens"),
        ({"scorer": "none"}, {"masking": "entropy"}, "scorer='none': .* does not exist: run 3_train with run='none'"),
        ({"pairs": "a.csv"}, {}, "pairs are for simcse_supervised and itc_itm, and the objective is mlm"),
        ({"start": "none"}, {}, "start='none': .* does not exist: run 2_pretrain with run='none' first"),
        ({"probe_every": 3, "folds": [7]}, {}, "fold 7 is not in folds.parquet"),
    ],
)
def test_what_does_not_go_together_is_an_error_in_words(place, knobs, stage, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        place.make(stage=replace(QUICK, **stage), **knobs)
