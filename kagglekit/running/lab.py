"""JupyterLab on copies of the notebooks in a work folder: what is tried there changes nothing that runs in batch."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

from kagglekit.files import resolve, shorten, write_json
from kagglekit.running.command_line import Parser, program
from kagglekit.running.notebook import LAB, notebook_folder
from kagglekit.running.parameters import parameter_cells, read_notebook, read_parameters
from kagglekit.samples import SAMPLES

ORIGIN = "copied_from"  # in a copy's metadata: the hash of the shipped notebook that it was made of


def main(arguments: list[str] | None = None) -> int:
    """`kagglekit lab [DATA] [work=WORK] [options of jupyter lab]`: make the copies, and become JupyterLab."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = Parser(program("lab"), description=__doc__.splitlines()[0])
    parser.epilog = "What comes from the first option on goes to jupyter lab, such as --no-browser or --port 8889."
    parser.add_argument("data", nargs="?", default="bbc", help=f"a competition's folder, or {', '.join(SAMPLES)}")
    parser.add_argument("work", nargs="?", help="work=FOLDER; if there is none: runs/ and the name of the data")
    works = [word.removeprefix("work=") for word in arguments if word.startswith("work=")]
    words = [word for word in arguments if not word.startswith("work=")]
    begins = (k for k, word in enumerate(words) if word.startswith("-") and word not in ("-h", "--help"))
    cut = next(begins, len(words))
    options, rest = parser.parse_args(words[:cut]), words[cut:]
    try:
        work = options.work or next(iter(works), "") or f"runs/{Path(options.data).resolve().name}"
        folder = make_copies(options.data, work)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return open_lab(folder, rest)


def make_copies(data: str, work: str | Path) -> Path:
    """Copies of the notebooks in `work`/notebooks/lab, with their parameters `data` and `work` filled in; returns that
    folder. A copy that is there stays as it is; one made of another version of the notebook is told.

    Raises ValueError where `data` is neither a folder nor a sample.
    """
    if data not in SAMPLES or Path(data).is_dir():
        if not resolve(data).is_dir():
            raise ValueError(f"there is no folder {data}; the samples are {', '.join(SAMPLES)}")
        data = str(resolve(data))
    folder = resolve(work) / "notebooks" / LAB
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{shorten(folder)}/ has copies of the notebooks: what you change there changes nothing that runs in batch")
    for source in sorted(notebook_folder().glob("*.ipynb")):
        copy, content = folder / source.name, read_notebook(source)
        origin = hashlib.sha256("\n\n".join("".join(cell["source"]) for cell in content["cells"]).encode())
        if not copy.exists():
            fill_in(content, {"data": data, "work": str(resolve(work))})
            content["metadata"].setdefault("kagglekit", {})[ORIGIN] = origin.hexdigest()[:16]
            write_json(copy, content, plain=True)
            continue
        if read_notebook(copy)["metadata"].get("kagglekit", {}).get(ORIGIN) != origin.hexdigest()[:16]:
            print(f"  {source.name}: kagglekit's own is another by now; rename the copy, and the next start brings it")
        opened = read_parameters(copy).get("data")
        if opened and opened.default != data:
            print(f"  {source.name}: its data is {opened.default!r}, as it was; change it there, or name another work=")
    return folder


def fill_in(content: dict, values: dict[str, str]) -> None:
    """Put values into the lines of a notebook's parameter cell, where it has these parameters."""
    for cell in parameter_cells(content):
        source = "".join(cell["source"])
        for name, value in values.items():
            literal = json.dumps(value, ensure_ascii=False)
            source = re.sub(rf"(?m)^({name}\b[^=\n]*= ).*?(?=  #|$)", lambda m, new=literal: m[1] + new, source)
        cell["source"] = source.splitlines(keepends=True)


def open_lab(folder: Path, options: list[str]) -> int:
    """Become JupyterLab, with 1_eda open; the exit code where it is not installed."""
    from importlib.util import find_spec

    if not find_spec("jupyterlab"):
        print("JupyterLab is not installed: pip install jupyterlab", file=sys.stderr)
        return 2
    from kagglekit.running.warm_kernels import import_path

    # its files are those below one folder, and it shows no hidden ones
    inside = [root for root in (Path.cwd(), folder.parents[1], folder) if folder.is_relative_to(root)]
    root = next(one for one in inside if not any(part[0] == "." for part in folder.relative_to(one).parts))
    page = quote((folder / "1_eda.ipynb").relative_to(root).as_posix())
    places = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{page}"]
    sys.stdout.flush()
    os.execve(
        sys.executable, [sys.executable, "-m", "jupyter", "lab", *places, *options], {**os.environ, **import_path()}
    )
