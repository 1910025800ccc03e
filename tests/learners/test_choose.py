"""Which learner the parameters of 3_train ask for, what is refused, and what is said of its score."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from kagglekit.competition.task import Task, read_test, read_train
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.ensembling.base_predictions import training_command
from kagglekit.files import read_json, write_json
from kagglekit.learners.choose import choose_learner
from kagglekit.learners.frozen import Frozen
from kagglekit.learners.setfit import SetFit
from kagglekit.learners.soup import Soup
from kagglekit.learners.tfidf import Baseline
from kagglekit.model.backbones import load_tokenizer
from kagglekit.model.vocabulary import add_tokens
from kagglekit.options import knobs_of
from kagglekit.running.arguments import check_parameters, parse_arguments, read_arguments
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.folder import open_run, save_fold
from kagglekit.runs.record import RunRecord
from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.runs.tables import write_folds
from kagglekit.selftraining.distiller import Distiller
from kagglekit.selftraining.selftrainer import SelfTrainer
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe

FOLDS = np.arange(24) % 3
SMALL = {"max_length": 12, "epochs": 1.0, "batch_size": 8, "evaluate_every": 0}


@pytest.fixture
def place(tmp_path, task, tables):
    """A work folder with a task of 24 rows in three folds, a mark at the end of each text."""
    what = task("multiclass")
    train, test = tables(what)
    files = {"train": "train.csv", "test": "test.csv", "sample_submission": "sample.csv"}
    for name, table in (("train", train), ("test", test)):
        table = table.assign(text=table["text"] + " <b>end</b>", question=table["text"], answer=table["text"].str[::-1])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    replace(what, data=str(tmp_path), files=files).save(tmp_path / "work")
    write_folds(tmp_path / "work", train["id"], FOLDS)
    return tmp_path / "work"


@pytest.fixture
def choose(place, backbone):
    """choose(**parameters): the choice for the defaults of 3_train, with these in their place."""

    def make(to_train=(0, 1, 2), two=False, **parameters):
        given = SMALL | {"work": str(place), "backbone": backbone} | parameters
        kinds = [(kind, knobs_of(kind).keys() & given.keys()) for kind in (TrainingRun, Recipe)]
        run, recipe = (kind(**{name: given[name] for name in names}) for kind, names in kinds)
        what = Task(**read_json(place / "task.json"))
        what = replace(what, text=["question", "answer"], text_separator=SEPARATOR) if two else what
        train, test = read_train(what, recipe.train_columns), read_test(what, recipe.columns)
        folds = train[["id"]].assign(fold=FOLDS)
        make.given = run, recipe
        return choose_learner(run, recipe, what, train, test, folds, list(to_train))

    return make


@pytest.fixture
def finish(place):
    """finish(choice, name, fold): train a fold as 3_train does; returns the folder of the run."""

    def make(choice, name, fold=0):
        folder, ours, held_out = open_run(place, name, dict(seed=0) | choice.settings), fold != FOLDS, fold == FOLDS
        at = folder / f"fold{fold}"
        fitted = choice.fit(np.flatnonzero(ours), np.flatnonzero(held_out), at, fold)
        task = Task(**read_json(place / "task.json"))
        ids = [str(row) for row in np.flatnonzero(held_out)]
        save_fold(folder, fold, fitted, ids, [f"t{n}" for n in range(7)], task)
        return folder

    return make


def test_the_parameters_of_the_notebook_ask_for_plain_fine_tuning(choose, backbone):
    choice = choose()
    assert type(choice.learner) is FineTuner and choice.tuner is choice.learner and choice.parts == [choice.learner]
    assert choice.settings == {
        **{"backbone": backbone, "start": "", "learner": "finetune"},
        **choice.learner.recipe.as_dict(),
    }
    assert choice.learner.recipe.epochs == 1 and choice.starts == {} and choice.caution == ""
    assert choice.learner.cache.name == "tokens" and choice.learner.save_seconds == 60


@pytest.mark.parametrize(
    ("parameters", "kinds"),
    [
        ({"backbone": "tfidf"}, [Baseline]),
        ({"learner": "frozen"}, [Frozen]),
        ({"learner": "setfit"}, [SetFit]),
        ({"pseudo": {"threshold": 0.8}}, [SelfTrainer, FineTuner]),
        ({"distill": {"by": "fold"}}, [Distiller, FineTuner]),
        ({"distill": {"by": "nested"}, "pseudo": {"rounds": 2}}, [SelfTrainer, Distiller, FineTuner]),
    ],
    ids=["tfidf", "frozen", "setfit", "pseudo", "distill", "both"],
)
def test_parameters_choose_the_learner_and_what_params_json_says(choose, place, parameters, kinds):
    if SetFit in kinds:
        pytest.importorskip("setfit")
    choice = choose(**parameters)
    assert [type(part) for part in choice.parts] == kinds
    assert (choice.tuner is None) == (FineTuner not in kinds)
    told = read_json(open_run(place, "run", dict(seed=0) | choice.settings) / "params.json")["recipe"]
    for name in ("pseudo", "distill"):
        assert (name in told) == (name in parameters)
        assert {knob: told[name][knob] for knob in parameters.get(name, {})} == parameters.get(name, {})
    assert told["clean"] == [] and told.get("learner", "finetune") == parameters.get("learner", "finetune")
    assert told["start"] == ""  # the baseline begins nowhere
    assert ("epochs" in told) == (FineTuner in kinds) and ("learner_options" in told) == ("learner" in parameters)


def test_options_go_to_the_learner_and_into_its_settings(choose):
    choice = choose(learner="frozen", learner_options={"classifier": "svm"}, pooling="cls", max_length=10)
    assert (choice.learner.classifier, choice.learner.pooling, choice.learner.max_length) == ("svm", "cls", 10)
    told = choice.settings["learner_options"]  # apart: no option is taken for a knob of another learner
    assert told["classifier"] == "svm" and told["pooling"] == "cls"
    made = choose(distill={"by": "nested"}, seed=5, checkpoint_every=7.0)
    assert made.learner.seed == 5 and made.tuner.save_seconds == 7


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"learner": "bert"}, "learner='bert' is out of range: it must be one of finetune, frozen, setfit"),
        ({"learner": "frozen", "backbone": "tfidf"}, "learner='frozen' has no effect with backbone='tfidf'"),
        (
            {"learner": "frozen", "learner_options": {"c": 1}},
            "learner_options: frozen has no knob 'c'; it has classifier$",
        ),
        ({"learner": "setfit", "learner_options": {"pooling": "cls"}}, "learner_options: setfit has no knob 'pooling'"),
        (
            {"learner": "setfit", "learner_options": {"epochs": "2"}},
            "learner_options: setfit: epochs='2' .* must be float",
        ),
        ({"learner_options": {"classifier": "svm"}}, "no effect with learner='finetune': leave it out"),
        ({"learner": "frozen", "pseudo": {"rounds": 1}}, "pseudo=.* has no effect with learner='frozen'"),
        ({"learner": "setfit", "distill": {"by": "fold"}}, "distill=.* has no effect with learner='setfit'"),
        ({"backbone": "tfidf", "pseudo": {"rounds": 1}}, "pseudo=.* has no effect with backbone='tfidf'"),
        ({"backbone": "soup", "distill": {"by": "fold"}}, "distill=.* has no effect with backbone='soup'"),
        ({"backbone": "soup"}, "soup_of"),
        ({"pseudo": {"round": 1}}, "pseudo has no knob 'round': did you mean rounds"),
        ({"distill": {"from": "base"}}, "distill has no knob 'from'; it has teacher, seen, by, loss"),
        ({"distill": {"teacher": "gone"}}, "run='gone' does not exist"),
    ],
)
def test_what_does_not_go_together_is_an_error_that_says_what_does(choose, parameters, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        choose(**parameters)


@pytest.mark.parametrize("parameters", [{"backbone": "tfidf"}, {"learner": "frozen"}, {"learner": "setfit"}, {}])
def test_every_learner_reads_texts_that_are_cleaned(choose, parameters):
    if "setfit" in parameters.values():
        pytest.importorskip("setfit")
    marked, cleaned = choose(**parameters), choose(**parameters, clean=["html"])
    assert cleaned.settings["clean"] == ["html"] and marked.settings["clean"] == []
    if cleaned.tuner:  # it cleans what it reads, rows of pseudo labels too
        lengths = [choice.tuner.rows.tokens.lengths.sum() for choice in (marked, cleaned)]
        assert lengths[1] < lengths[0]
        return
    for table in (cleaned.learner.train, cleaned.learner.test):
        assert table["text"].str.endswith(" end").all()
    assert marked.learner.train["text"].str.endswith("<b>end</b>").all()


def test_a_fold_begins_from_its_own_model_and_reads_with_its_tokens(choose, finish, place, backbone):
    stage = open_run(place, "mlm", {"backbone": backbone}, folds=False)
    shutil.copytree(backbone, stage / "model")
    tokenizer = load_tokenizer(backbone)
    add_tokens(tokenizer, ["<b>"])
    tokenizer.save_pretrained(stage / "model")
    choice = choose(start="mlm", to_train=[1])
    assert choice.starts == {1: {str(stage / "model"): 1.0}} and choice.settings["start"] == "mlm"
    assert "<b>" in choice.tuner.tokenizer.get_vocab() and "<b>" not in choose().tuner.tokenizer.get_vocab()
    base = finish(choose(), "base")
    assert choose(start="base", to_train=[0], learner="frozen").starts == {0: {str(base / "fold0" / "model"): 1.0}}
    with pytest.raises(ValueError, match="start='base' has no model of fold 1, only of 0"):
        choose(start="base")
    assert choose(start="mlm", distill={"by": "nested"}).tuner
    with pytest.raises(ValueError, match=r"base/fold0/model is of one fold, so that it may have seen the other: start"):
        choose(start="base", to_train=[0], distill={"by": "nested"})
    with pytest.raises(ValueError, match="is a trained model, whose backbone has other names of weights: set start"):
        choose(backbone=str(base / "fold0" / "model"))


def test_a_score_that_is_too_good_is_said_to_be(choose, finish):
    chosen = "were chosen by their scores on the fold that they predict: the out-of-fold score is too good"
    best = choose(keep_best=True)
    assert f"The weights of the models {chosen}" in best.caution
    assert f"The weights of the models {chosen}" in choose(tricks={"CheckpointSoup": {}}).caution
    finish(best, "best")
    finish(choose(), "plain")
    for more in (
        {"start": "best"},
        {"pseudo": {"teacher": "best"}},
        {"distill": {"teacher": "best"}},
        {"start": "best", "learner": "frozen"},
        {"backbone": "soup", "soup_of": ["plain", "best"]},
    ):
        assert f"The run is made from 'best', whose weights {chosen}" in choose(to_train=[0], **more).caution
    for more in ({"start": "plain"}, {"distill": {"teacher": "plain"}}, {"backbone": "soup", "soup_of": ["plain"]}):
        assert choose(to_train=[0], **more).caution == ""
    crossed = choose(distill={"teacher": "plain", "by": "oof"}, keep_best=True)
    assert crossed.settings["crosses"] and "have learned the labels of the fold" in crossed.caution
    assert f"Set by='fold' for an honest one. The weights of the models {chosen}" in crossed.caution


def test_a_soup_is_of_the_runs_that_are_named(choose, finish):
    finish(choose(), "base")
    choice = choose(backbone="soup", soup_of=["base"], to_train=[0])
    assert type(choice.learner) is Soup and choice.tuner is None and choice.starts == {}
    assert choice.settings["soup_of"] == ["base"] and choice.settings["start"] == ""


@pytest.mark.parametrize(
    ("parameters", "begun", "used"),
    [
        ({"tricks": {"FGM": {}}}, {"tricks: FGM: epsilon": 0.25}, lambda at: at.recipe.tricks["FGM"]["epsilon"]),
        ({"loss": {"focal": {}}}, {"loss: focal: gamma": 1.0}, lambda at: at.recipe.loss["focal"]["gamma"]),
        ({"tuning": "lora"}, {"lora: r": 2}, lambda at: at.recipe.lora["r"]),
        ({"augment": {"EDA": {}}}, {"augment: EDA: delete": 0.2}, lambda at: at.augmenter.augmenters[0].delete),
        ({}, {"pooling": "max"}, lambda at: at.options["pooling"]),
        ({"learner": "frozen"}, {"pooling": "max"}, lambda at: at.pooling),
    ],
)
def test_a_run_goes_on_with_the_defaults_and_tells_the_precisions_that_it_had(choose, capsys, parameters, begun, used):
    folder = choose(**parameters).open(*choose.given, [0, 1])
    (folder / "fold0").mkdir()
    params = read_json(folder / "params.json")
    ((name, value),) = begun.items()
    now = params["defaults"][name]
    write_json(folder / "params.json", params | {"defaults": params["defaults"] | begun})
    capsys.readouterr()
    choice = choose(**parameters)
    assert choice.open(*choose.given, [0, 1]) == folder
    assert used(choice.parts[-1]) == value != now
    words = "this run goes on with the defaults that it began with"
    assert capsys.readouterr().out == f"{words}: {name} {value!r} (now {now!r})\n"
    assert choice.settings == choose(**parameters).settings
    write_json(folder / "params.json", {k: v for k, v in params.items() if k != "defaults"})
    choice = choose(**parameters)
    choice.open(*choose.given, [0, 1])
    assert "this run was begun by kagglekit" in capsys.readouterr().out
    assert read_json(folder / "params.json")["defaults"] == params["defaults"]


ASKED = {  # what is asked of a run with the texts question and answer
    "a budget": {"budget": {"answer": 5}},
    "a rule for a column": {"truncation": {"question": "tail"}},
    "columns in a pattern": {"pattern": "{answer}: it's {question}\n{classes}"},
    "both orders": {"swap": ["question", "answer"]},
    "words": {"pattern": "{answer} {mask}", "verbalizer": {"bad": ["bad"], "mixed": ["film"], "good": ["good"]}},
    "options": {"tuning": "lora", "lora": {"r": 4}, "loss": {"focal": {}}, "dropout": None, "seed": 3, "seeds": 2},
    "labels from itself": {"pseudo": {"rounds": 1}, "extra_weight": 1.0},
    "all rows": {"full_fit": True, "full_fit_epochs": 2.0},
    "frozen": {"learner": "frozen", "pooling": "max", "truncation": "tail", "budget": {"question": 3}},
    "a baseline": {"backbone": "tfidf", "swap": ["question", "answer"], "clean": ["html"]},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_the_command_that_goes_on_with_a_run_asks_for_the_same_in_few_words(choose, place, backbone, asked):
    """Also in a shell, whatever is in it: a quote, a line break, braces."""
    small = {"max_length": 12} if "learner" in asked else {} if "backbone" in asked else SMALL
    given = {"work": str(place), "run": "new"} | ({"backbone": backbone} | small if small else {}) | asked
    choice = choose(two=True, **given)
    record = RunRecord(choice.open(*choose.given, [0]))
    shell = ["bash", "-c", f"printf '%s\\0' {training_command(record)}"]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")
    notebook, known = find_notebook("3_train"), read_parameters(find_notebook("3_train"))
    values = parse_arguments(notebook, known, read_arguments(words[4:-1]))
    assert values == {name: value for name, value in given.items() if value != known[name].default}
    again = choose(two=True, **check_parameters("3_train", known, values))
    assert again.settings == choice.settings and again.open(*choose.given, [0]) == record.folder
