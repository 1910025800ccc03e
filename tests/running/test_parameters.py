import nbformat
import pytest

from kagglekit.running.parameters import check_parameters, read_parameters

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
        ("[0]", "work", "[0]"),
        ("FALSE", "shuffle", False),
        ("[0, 2]", "folds", [0, 2]),
        ("[0, 2]", "layers", [0, 2]),
        ("-2", "layers", -2),
        ('["a", "b"]', "runs", ["a", "b"]),
        ("{'EMA': {}}", "tricks", {"EMA": {}}),
        ('{"EMA": {"on": true}}', "tricks", {"EMA": {"on": True}}),
        ("mean", "pooling", "mean"),
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
    assert "epochs = 3  # passes over train" in str(error.value)


def test_a_wrong_text_is_named_as_it_was_read(known):
    with pytest.raises(ValueError, match=r"folds=0 is of type int, and folds takes list\[int\]"):
        check_parameters("n", known, {"folds": known["folds"].parse("0")})


def test_an_unknown_name_is_an_error_with_the_close_ones_and_the_list(known):
    with pytest.raises(ValueError, match=r"n has no parameter 'epoch': did you mean epochs\?") as error:
        check_parameters("n", known, {"epoch": 2})
    assert "learning_rate: float = 0.0001  # of the head" in str(error.value)


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
