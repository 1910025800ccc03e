import ast

import nbformat
import pytest

from kagglekit.decoders.lora_options import LoraOptions
from kagglekit.options import knobs_of
from kagglekit.running.arguments import (
    check_parameters,
    choose_shared,
    fold,
    parse_arguments,
    read_arguments,
    with_defaults,
)
from kagglekit.running.done import find_reads
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import knob_classes, read_parameters, write_cell, write_table
from kagglekit.runs.run_knobs import JointOptions
from kagglekit.selftraining.selftraining_knobs import DistillationOptions, SelfTrainingOptions

KNOBS = ("1_eda", "2_pretrain", "3_train", "4_ensemble", "5_submit")
SHOWN = {"1_eda": (20, 34), "2_pretrain": (20, 24), "3_train": (20, 26), "4_ensemble": (14, 20), "5_submit": (4, 8)}

CELL = """\
# what the training takes
work = "runs/x"  # the work folder = where all goes
epochs = 3  # passes over train
learning_rate: float = 1e-4  # of the head
decay: float | None = None  # None: no decay
device: "str | None" = None
layers: int | list[int] = -1
pooling: Literal["cls", "mean"] = "cls"
shuffle = True
folds: list[int] = []  # [] for all
runs: list[str] = ["base"]
tricks = {"FGM": {"epsilon": 0.5}}  # a recipe, "a=b"
anything = None
pairs: list[list[str | float]] = []
"""


def write_notebook(path, cell, tags=("parameters",)):
    cells = [nbformat.v4.new_code_cell(cell, metadata={"tags": list(tags)}), nbformat.v4.new_code_cell("print(work)")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.fixture
def known(tmp_path):
    return read_parameters(write_notebook(tmp_path / "n.ipynb", CELL))


def test_names_defaults_annotations_and_comments_are_read_from_the_tagged_cell(known):
    assert list(known)[:4] == ["work", "epochs", "learning_rate", "decay"]
    assert known["work"].comment == "the work folder = where all goes"
    assert (known["decay"].annotation, known["decay"].default) == ("float | None", None)
    assert known["device"].takes == "str | None"
    assert known["tricks"].default == {"FGM": {"epsilon": 0.5}}
    assert str(known["decay"]) == "decay: float | None = None  # None: no decay"


def test_a_notebook_without_a_tagged_cell_has_no_parameters(tmp_path):
    assert read_parameters(write_notebook(tmp_path / "n.ipynb", "epochs = 3", tags=())) == {}


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("2e-5", "learning_rate", 2e-5),
        ("1", "learning_rate", 1),
        ("2e-5", "decay", 2e-5),
        ("None", "decay", None),
        ("null", "device", None),
        ("cuda", "device", "cuda"),
        ("007", "work", "007"),
        ("2e-5", "work", "2e-5"),
        ("none", "work", "none"),
        (r"Q: {q}\nA: {mask}", "work", "Q: {q}\nA: {mask}"),
        ("[0]", "work", "[0]"),
        ("FALSE", "shuffle", False),
        ("[0, 2]", "folds", [0, 2]),
        ("[0, 2]", "layers", [0, 2]),
        ("-2", "layers", -2),
        ('["a", "b"]', "runs", ["a", "b"]),
        ("{'EMA': {}}", "tricks", {"EMA": {}}),
        ('{"EMA": {"on": true}}', "tricks", {"EMA": {"on": True}}),
        ("mean", "pooling", "mean"),
        ("0,2", "folds", [0, 2]),
        ("0", "folds", [0]),
        ("", "folds", []),
        ("0, 2", "layers", [0, 2]),
        ("fgm, base", "runs", ["fgm", "base"]),
        ("Mood", "runs", ["Mood"]),
        ("[fgm,base]", "runs", ["fgm", "base"]),
        ('["a,b"]', "runs", ["a,b"]),
        ("2016", "runs", ["2016"]),
        ("0.5", "anything", 0.5),
        ("text", "anything", "text"),
    ],
)
def test_a_text_of_the_command_line_becomes_a_value_of_the_parameters_type(known, text, name, value):
    parsed = known[name].parse(text)
    assert parsed == value
    assert type(parsed) is type(value)
    assert check_parameters("n", known, {name: parsed}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 2.5),
        ("epochs", True),
        ("epochs", "two"),
        ("epochs", None),
        ("learning_rate", None),
        ("learning_rate", "2e-5"),
        ("learning_rate", False),
        ("shuffle", 1),
        ("work", 3),
        ("folds", 0),
        ("folds", ["0"]),
        ("folds", (0, 1)),
        ("runs", "base"),
        ("tricks", ["FGM"]),
        ("tricks", {"FGM": {1: 2}}),
        ("pooling", "max"),
        ("anything", {1, 2}),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_what_the_parameter_takes(known, name, value):
    with pytest.raises(ValueError, match=f"n: {name}=.* takes") as error:
        check_parameters("n", known, {name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("folds", "all", r"folds='all' is of type str, and folds takes list\[int\], such as folds=0,1$"),
        ("runs", "a,", r"runs='a,' is of type str, and runs takes list\[str\], such as runs=a,b$"),
        ("decay", "abc", r"decay='abc' is of type str, and decay takes float \| None$"),
        ("folds", "0,x", "folds='0,x' is of type str"),
        ("pairs", '{"a": 1}', r"""takes list\[list\[str \| float\]\], in quotes: pairs='\[\["a", 0.5\], ...\]'$"""),
        ("tricks", "FGM", """dict, in quotes: tricks='{"key": ...}'$"""),
        ("shuffle", "maybe", "shuffle='maybe' is of type str, and shuffle takes bool: true or false$"),
    ],
)
def test_a_wrong_text_is_named_as_it_was_read_with_an_example(known, name, text, words):
    with pytest.raises(ValueError, match=words):
        check_parameters("n", known, {name: known[name].parse(text)})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("epoch", r"n has no parameter 'epoch': did you mean epochs\?$"),
        ("EPOCHS", r"did you mean epochs\?$"),
        ("zzz", "n has no parameter 'zzz': see .*kagglekit run n --help$"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_close_ones_and_nothing_else(known, name, words):
    with pytest.raises(ValueError, match=words):
        check_parameters("n", known, {name: 2})


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ("a = 1; b = 2", "b is not alone on its line"),
        ("a = 1\na = 2", "stands there twice"),
        ("a = b = 1", "no `name = literal`"),
        ("import os", "no `name = literal`"),
        ("a = dict(x=1)", "is no literal"),
        ("a = 2 * 3", "is no literal"),
        ("a = (1, 2)", "use lists"),
        ("a = {1: 2}", "text for keys"),
        ("a: int = None", "its own annotation"),
        ("a: Path = None", "'Path' is not understood"),
        ("%matplotlib inline", "is not plain Python"),
    ],
)
def test_a_parameter_cell_of_anything_but_literals_one_a_line_is_an_error(tmp_path, cell, problem):
    with pytest.raises(ValueError, match=problem):
        read_parameters(write_notebook(tmp_path / "n.ipynb", cell))


def test_two_parameter_cells_and_files_that_are_no_notebook_are_errors(tmp_path):
    path = write_notebook(tmp_path / "n.ipynb", "a = 1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    with pytest.raises(ValueError, match="2 cells tagged"):
        read_parameters(path)
    for text in ("no json", "{}", "[]", ""):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"n\.ipynb is not a notebook"):
            read_parameters(path)


# Parameters that are fields of dataclasses


@pytest.mark.parametrize("name", KNOBS)
def test_a_shipped_parameter_cell_is_what_the_fields_say(name):
    content = nbformat.read(find_notebook(name), as_version=4)
    (cell,) = [cell for cell in content.cells if "parameters" in cell.metadata.get("tags", [])]
    kinds = knob_classes(content)
    renew = f"from kagglekit.running.parameters import rewrite_cell; rewrite_cell('notebooks/{name}.ipynb')"
    assert cell.source == write_cell(kinds), f'run: python -c "{renew}"'
    assert max(map(len, cell.source.splitlines())) <= 120
    known, knobs = read_parameters(find_notebook(name)), knobs_of(*kinds)
    assert set(known) - {"recipe"} == set(knobs) and ("recipe" in known) == (not all(k.shown for k in knobs.values()))
    for one in knobs.values():
        parameter = known[one.name]
        assert (parameter.default, parameter.takes, parameter.shown) == (one.default, one.type, bool(one.shown))
        assert not parameter.shown or parameter.comment.startswith(one.words)
        assert parameter.shown or one.name in cell.source.split("recipe: dict")[1]
    least, most = SHOWN[name]
    assert least <= sum(parameter.shown for parameter in known.values()) <= most


@pytest.mark.parametrize("name", KNOBS)
def test_every_parameter_of_a_cell_is_used_below_it(name):
    cells = [cell for cell in nbformat.read(find_notebook(name), as_version=4).cells if cell.cell_type == "code"]
    below = ast.parse("\n".join(cell.source for cell in cells if "parameters" not in cell.metadata.get("tags", [])))
    used = {node.id for node in ast.walk(below) if isinstance(node, ast.Name)}
    passed = {word.arg for node in ast.walk(below) if isinstance(node, ast.Call) for word in node.keywords}
    shown = {name for name, parameter in read_parameters(find_notebook(name)).items() if parameter.shown}
    assert shown <= used and shown - {"recipe"} <= passed


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


def test_a_cell_that_was_changed_keeps_its_own_defaults(tmp_path):
    cell = 'work = "w"\nepochs = 9.0\nrecipe: dict = {"head": "flat"}'
    content = nbformat.read(write_notebook(tmp_path / "n.ipynb", cell), as_version=4)
    content.metadata["kagglekit"] = {"knobs": ["kagglekit.training.recipe:Recipe"]}
    nbformat.write(content, tmp_path / "n.ipynb")
    known = read_parameters(tmp_path / "n.ipynb")
    values = with_defaults(known, {"warmup": 0.2})
    assert (values["epochs"], values["head"], values["warmup"], values["pooling"]) == (9.0, "flat", 0.2, "auto")
    assert fold(known, {"warmup": 0.2}) == {"recipe": {"head": "flat", "warmup": 0.2}}


def test_a_notebook_reads_what_its_knobs_name():
    notebook = find_notebook("3_train")
    known, content = read_parameters(notebook), nbformat.read(notebook, as_version=4)
    given = {"work": "w", "start": "mlm+../v/base", "soup_of": ["a"], "features": {"vectors": "v.parquet"}}
    given |= {"pseudo": {"teacher": "base", "unlabelled": ["u.csv"]}, "distill": {"teacher": "base"}}
    read = ["w/task.json", "w/folds.parquet", "minilm", "w/mlm", "../v/base", "w/a", "w/base", "v.parquet", "u.csv"]
    assert sorted(find_reads(content, with_defaults(known, given), known)) == sorted(read)


def test_the_page_of_knobs_has_every_one_as_its_field_says():
    page = (find_notebook("3_train").parent / "KNOBS.md").read_text()
    for name in KNOBS:
        kinds = knob_classes(nbformat.read(find_notebook(name), as_version=4))
        assert page.split(f"## {name}\n\n")[1].split("\n\n## ")[0].strip() == write_table(kinds)
    apart = {"pseudo": SelfTrainingOptions, "distill": DistillationOptions, "joint": JointOptions, "lora": LoraOptions}
    for name, kind in apart.items():
        assert page.split(f"## {name}, of 3_train\n\n")[1].split("\n\n## ")[0].strip() == write_table([kind])
