"""Arguments of the notebooks: what each knob takes, what is refused before anything starts, and what is folded."""

import pytest

from kagglekit.running.arguments import (
    check_parameters,
    choose_shared,
    fold,
    parse_arguments,
    read_arguments,
    with_defaults,
)
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("pooling=attention", "pooling", "attention"),
        ("head_dropout=0.2", "head_dropout", 0.2),
        ('distill={"teacher": "base"}', "distill", {"teacher": "base"}),
        ("recipe={'head': 'flat'}", "head", "flat"),
        ("soup_of=['a', 'b']", "soup_of", ["a", "b"]),
        ("learning_rate=none", "learning_rate", None),
        ("epochs=1", "epochs", 1),
    ],
)
def test_every_knob_is_flat_on_the_command_line(text, name, value):
    notebook = find_notebook("3_train")
    assert parse_arguments(notebook, read_parameters(notebook), dict([text.split("=", 1)])) == {name: value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text=body", "body"),
        ("text=['title', 'body']", ["title", "body"]),
        ("text=title,body", ["title", "body"]),
        ("text=[title, body]", ["title", "body"]),
        ('text=["title, body"]', ["title, body"]),
        ("labels=Mood", "Mood"),
        ("labels=none", None),
        ("classes=0,1", [0, 1]),
        ("classes=no,1", ["no", 1]),
        ("clean=html,urls", ["html", "urls"]),
        ("classes=[1, 0]", [1, 0]),
        ("id=123", "123"),
        ("metric=none", None),
        ("n_folds=3", 3),
    ],
)
def test_a_column_of_1_eda_is_one_word_or_a_list(text, value):
    notebook = find_notebook("1_eda")
    assert [*parse_arguments(notebook, read_parameters(notebook), dict([text.split("=", 1)])).values()] == [value]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"labls": "x"}, "1_eda has no parameter 'labls': did you mean labels"),
        ({"pattern": "{a}: {b}"}, "1_eda: pattern is now called template$"),
        ({"kind": "words"}, "1_eda: kind='words' is out of range: it must be one of binary, multiclass"),
        ({"n_folds": 1}, "1_eda: n_folds=1 is out of range: it must be 2 or more"),
        ({"near_duplicates": 1.5}, "near_duplicates=1.5 is out of range: it must be from 0 to 1"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"text": 3}, "text=3 is of type int, and text takes str | list"),
    ],
)
def test_what_1_eda_does_not_take_is_an_error_before_a_kernel_starts(given, words):
    with pytest.raises(ValueError, match=words):
        check_parameters("1_eda", read_parameters(find_notebook("1_eda")), given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"poling": "max"}, r"3_train has no parameter 'poling': did you mean pooling"),
        ({"cut": "tail"}, "3_train: cut is now called truncation"),
        ({"beside": {}}, "3_train: beside is now called features"),
        ({"try_rates": True}, "3_train: try_rates is now called find_learning_rate"),
        ({"recipe": {"cut": "tail"}}, "3_train: cut is now called truncation"),
        ({"pooling": "meen"}, r"3_train: pooling='meen' is out of range: did you mean mean\?$"),
        ({"warmup": 1.5}, "3_train: warmup=1.5 is out of range: it must be from 0 to below 1"),
        ({"recipe": {"warmup": "x"}}, "3_train: warmup='x' is of type str, and warmup takes float"),
        ({"learner": "bert"}, "learner='bert' is out of range: it must be one of finetune, frozen, setfit"),
        ({"head": "flat", "recipe": {"head": "linear"}}, "head is 'flat', and in recipe 'linear': say it once"),
        ({"pseudo": {"treshold": 0.5}}, "pseudo has no knob 'treshold': did you mean threshold"),
        ({"distill": {"by": "all"}}, "distill: by='all' is out of range"),
        ({"recipe": 3}, "recipe=3 is of type int, and recipe takes dict"),
        ({"head": "flat", "recipe": {"head": "flat"}}, "head is 'flat', and in recipe 'flat': say it once"),
        (
            {"pooling": "zzz"},
            "3_train: pooling='zzz' is out of range: it must be one of auto, cls, mean, .*transformer2$",
        ),
        ({"learner": "froze"}, "finetune, frozen, setfit: did you mean frozen"),
        ({"seed": -1}, "seed=-1 is out of range: it must be from 0 to 4000000000"),
        ({"seed": 2**32}, "seed=4294967296 is out of range"),
        ({"folds": [0, -1]}, "folds=-1 is out of range: it must be 0 or more"),
        ({"checkpoint_every": -5}, "checkpoint_every=-5 is out of range: it must be 0 or more"),
        ({"hours": float("inf")}, "hours=inf is out of range"),
        ({"tricks": {"FMG": {}}}, "3_train: tricks: there is no trick 'FMG': did you mean FGM"),
        ({"tricks": {"FGM": {"epsilon": -1}}}, "3_train: tricks: FGM: epsilon=-1 is out of range"),
        ({"loss": {"focal": {"gama": 2}}}, "loss: focal takes the options weight, gamma"),
        ({"loss": {"focl": {}}}, "there is no loss 'focl': did you mean focal"),
        ({"augment": {"EDA": {"top": 0}}}, "augment: EDA: top=0 is out of range: it must be above 0"),
        ({"tricks": {"RDrop": {}}}, "RDrop compares two passes through dropout, and dropout=0"),
        (
            {"learner": "frozen", "learner_options": {"clasifier": "svm"}},
            "learner_options: frozen has no knob 'clasifier': did you mean classifier",
        ),
        ({"learner": "setfit", "learner_options": {"classifier": "smv"}}, "classifier='smv' .*: did you mean svm"),
        # knobs that have no effect
        ({"backbone": "tfidf", "tricks": {"FGM": {}}}, "tricks=.* has no effect with backbone='tfidf': leave it out"),
        ({"backbone": "tfidf", "learner": "frozen"}, "learner='frozen' has no effect with backbone='tfidf'"),
        ({"backbone": "tfidf", "start": "mlm"}, "start='mlm' has no effect with backbone='tfidf'"),
        ({"learner": "frozen", "epochs": 5.0}, "epochs=5.0 has no effect with learner='frozen': leave it out"),
        ({"learner": "setfit", "recipe": {"head": "flat"}}, "head='flat' has no effect with learner='setfit'"),
        (
            {"soup": "greedy"},
            "soup='greedy' has no effect with backbone='minilm': leave it out, or set backbone to soup",
        ),
        ({"learner_options": {"classifier": "svm"}}, "has no effect with learner='finetune'"),
        ({"chunk_stride": 8}, "chunk_stride=8 has no effect without chunks: leave it out, or set chunks"),
        ({"augment": {"AEDA": {}}, "augment_share": 0.2}, "augment_share=0.2 has no effect with augment_copies=1"),
        ({"warmup": 0.3, "schedule": "constant"}, "warmup=0.3 has no effect with schedule='constant'"),
        # names of runs
        (
            {"run": "a" * 300},
            "run='aaaaaaaaaaaaaaaaaaaa...' cannot name a run: it has 300 letters, and 100 is the most",
        ),
        ({"start": "mlm+" + "b" * 101}, "start='b.*' cannot name a run: it has 101 letters"),
        ({"start": "../other/base me"}, "start='base me' cannot name a run: use letters from a to z"),
        ({"pseudo": {"teacher": "base\\x"}}, "pseudo: teacher='.*' cannot name a run: it has a slash"),
        ({"run": "a/b"}, "run='a/b' cannot name a run: it has a slash"),
        ({"run": ""}, "run='' cannot name a run"),
        ({"run": "."}, "run='.' cannot name a run"),
        ({"run": "base."}, "the last no '.'"),
        ({"run": "größe"}, "run='größe' cannot name a run: use letters from a to z"),
        ({"run": "Nul.txt"}, "Windows keeps that name for a device"),
        ({"run": "Notebooks"}, "are other folders of a work folder"),
        ({"run": "fold3"}, "fold0, fold1, ... and data, kaggle, notebooks, race, tokens are other folders"),
    ],
)
def test_what_a_knob_does_not_take_is_an_error_before_anything_starts(given, words):
    with pytest.raises(ValueError, match=words):
        check_parameters("3_train", read_parameters(find_notebook("3_train")), given)


@pytest.mark.parametrize(
    ("notebook", "given", "words"),
    [
        ("2_pretrain", {"objective": "simcse", "masking": "span"}, "masking='span' has no effect with objective"),
        ("2_pretrain", {"objective": "simcse", "objective_options": {"temprature": 1}}, "did you mean temperature"),
        ("2_pretrain", {"objective_options": {"temperature": 1}}, "objective_options: mlm has no knob.*; it has none"),
        (
            "2_pretrain",
            {"masking": "span", "masking_options": {"maxspan": 3}},
            "no knob 'maxspan': did you mean max_span",
        ),
        ("2_pretrain", {"masking": "span", "masking_options": {"max_span": 0}}, "max_span=0 is out of range"),
        ("2_pretrain", {"scorer": "base"}, "scorer='base' has no effect with masking='dynamic'"),
        ("2_pretrain", {"steps": 9, "epochs": 2.0}, "epochs=2.0 has no effect with steps=9: leave it out"),
        ("2_pretrain", {"text_column": "a"}, "text_column='a' has no effect without texts"),
        ("2_pretrain", {"pairs": "a.csv"}, "or set objective to simcse_supervised"),
        ("4_ensemble", {"method": "hillclimbing"}, "method='hillclimbing' is out of range: did you mean hill_climbing"),
        ("4_ensemble", {"methods": ["maen"]}, "methods='maen' is out of range.*did you mean mean"),
        ("4_ensemble", {"method": "mean", "methods": ["rank"]}, "no effect with method='mean'.*set method to auto"),
        ("4_ensemble", {"public_share": 1.0}, "public_share=1.0 is out of range: it must be above 0 and below 1"),
        ("4_ensemble", {"seed": 3}, "seed=3 has no effect without files: leave it out, or set files"),
        ("4_ensemble", {"files": "x", "metric": "accurcy"}, "metric='accurcy' is not known: did you mean accuracy"),
        ("4_ensemble", {"files": "x", "meta": ["words"]}, "meta=.* has no effect with files='x'"),
        ("4_ensemble", {"options": {"hil_climbing": {}}}, "options='hil_climbing' .* did you mean hill_climbing"),
        (
            "4_ensemble",
            {"options": {"hill_climbing": {"bag": 2}}},
            "options: hill_climbing has no knob 'bag': did you mean bags",
        ),
        ("4_ensemble", {"options": {"top": {"k": "two"}}}, "options: top: k='two' is out of range: it must be int"),
        ("4_ensemble", {"options": {"logistic": {"strengths": 3}}}, "strengths=3 is out of range: it must be list"),
        ("4_ensemble", {"runs": ["a", "b/c"]}, "runs='b/c' cannot name a run: it has a slash"),
        ("5_submit", {"run": "../base"}, "run='../base' cannot name a run: it has a slash"),
        ("5_submit", {"hours": -1.0}, "hours=-1.0 is out of range"),
        ("1_eda", {"metric": "accurcy"}, "1_eda: metric='accurcy' is not known: did you mean accuracy"),
    ],
)
def test_what_other_notebooks_do_not_take_is_an_error_too(notebook, given, words):
    with pytest.raises(ValueError, match=words):
        check_parameters(notebook, read_parameters(find_notebook(notebook)), given)


def test_values_at_their_defaults_and_models_among_files_are_no_error():
    for notebook, given in (
        ("3_train", {"backbone": "tfidf", "epochs": 3.0, "tricks": {}}),
        ("3_train", {"chunks": 0, "chunk_stride": 32, "start": "mlm+../other/base"}),
        ("3_train", {"learner": "frozen", "pooling": "cls", "learner_options": {"classifier": "svm"}}),
        ("4_ensemble", {"files": "theirs", "runs": ["a model/of 1"], "metric": "my.module:score", "seed": 1}),
    ):
        assert check_parameters(notebook, read_parameters(find_notebook(notebook)), given) == given


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a=1", "b=2", "a=1"], "a is given twice: say it once"),
        (["recipe={'head': 'flat', 'head': 'flat'}"], "recipe: 'head' stands there twice"),
        (['tricks={"FGM": {"epsilon": 1, "epsilon": 2}}'], "tricks: 'epsilon' stands there twice"),
        (['pseudo={"test": true, "test": true}'], "pseudo: 'test' stands there twice"),
    ],
)
def test_what_is_given_twice_is_an_error(texts, words):
    notebook = find_notebook("3_train")
    with pytest.raises(ValueError, match=words):
        parse_arguments(notebook, read_parameters(notebook), read_arguments(texts))


def test_shared_values_without_effect_are_left_out_and_told(capsys):
    notebook, own = find_notebook("3_train"), {"run": "tfidf", "backbone": "tfidf"}
    shared = {"epochs": "2", "clean": "['html']", "learner": "frozen", "backbone": "minilm", "mask_probability": "0.2"}
    assert choose_shared(notebook, shared, own) == {"clean": ["html"]}
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "3_train: epochs=2 has no effect with backbone='tfidf', and is left out",
        "3_train: learner='frozen' has no effect with backbone='tfidf', and is left out",
    ]
    del shared["learner"]
    assert choose_shared(notebook, shared, {"run": "base"}) == {"epochs": 2, "clean": ["html"], "backbone": "minilm"}
    assert capsys.readouterr().out == ""


def test_an_old_name_after_the_dashes_is_an_error_that_says_the_new_one():
    with pytest.raises(ValueError, match="cut is now called truncation"):
        choose_shared(find_notebook("3_train"), {"cut": "tail"})
    both = {"pattern": "{text} {mask}", "template": "{a}: {b}"}  # one name for two things until version 0.3
    assert choose_shared(find_notebook("1_eda"), both) == {"template": "{a}: {b}"}
    assert choose_shared(find_notebook("3_train"), both) == {"pattern": "{text} {mask}"}
    both = {"candidates": "question", "methods": "mean,rank"}  # the same until version 0.4
    assert choose_shared(find_notebook("3_train"), both) == {"candidates": "question"}
    assert choose_shared(find_notebook("4_ensemble"), both) == {"methods": ["mean", "rank"]}
    assert choose_shared(find_notebook("3_train"), {"head": "flat", "objective": "rtd"}) == {"head": "flat"}


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        ({"tricks": '{"FMG": {}}'}, "3_train: tricks: there is no trick 'FMG': did you mean FGM"),
        ({"loss": '{"focl": {}}'}, "3_train: loss: there is no loss 'focl': did you mean focal"),
        ({"augment": '{"EDA": {"tp": 1}}'}, r"3_train: augment: EDA has no knob 'tp': did you mean top\?$"),
        ({"options": '{"top": {"kk": 1}}'}, "4_ensemble: options: top has no knob 'kk'"),
        ({"clean": "htlm"}, r"clean='htlm' .*: did you mean html\?$"),
    ],
)
def test_what_later_notebooks_do_not_take_is_told_before_the_first_one(shared, words):
    with pytest.raises(ValueError, match=words):
        choose_shared(find_notebook("1_eda"), shared)
    assert choose_shared(find_notebook("1_eda"), {"tricks": '{"RDrop": {}}'}) == {}  # 3_train may have dropout=0.1


def test_what_a_cell_does_not_show_is_folded_into_its_recipe():
    known = read_parameters(find_notebook("3_train"))
    given = {"run": "a", "head": "flat", "distill": {"teacher": "base"}}
    assert fold(known, given) == {"run": "a", "recipe": {"head": "flat", "distill": {"teacher": "base"}}}
    assert fold(known, {"run": "a", "recipe": {"head": "flat", "epochs": 2}}) == {
        **{"run": "a", "epochs": 2},
        "recipe": {"head": "flat"},
    }
    assert fold(known, {"epochs": 2}) == {"epochs": 2}
    values = with_defaults(known, given)
    assert set(values) == set(known) - {"recipe"} and values["head"] == "flat" and values["max_length"] == 192
