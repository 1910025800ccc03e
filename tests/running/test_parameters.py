import ast

import nbformat
import pytest

from kagglekit.decoders.lora_options import LoraOptions
from kagglekit.options import knobs_of
from kagglekit.running.arguments import (
    check_parameters,
    fold,
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
