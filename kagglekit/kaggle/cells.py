"""The notebook of a kernel: steps as on a command line, and the cells that install, enter, run and leave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kagglekit.files import resolve
from kagglekit.kaggle.metadata import Ref
from kagglekit.running import nbformat
from kagglekit.running.arguments import (
    check_parameters,
    choose_shared,
    fold,
    parse_arguments,
    read_arguments,
    with_defaults,
)
from kagglekit.running.done import fill
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import Parameter, read_parameters

PREDICTING = ("3_train", "4_ensemble", "5_submit")  # their run can become a submission
MARK = "# Install kagglekit"  # how the first cell of a kernel begins
INSTALL = """\
# Install kagglekit, and what Kaggle lacks, from the attached data set {owner}/{slug}: no internet is needed
import glob, importlib, os, subprocess, sys, time

os.environ["KAGGLEKIT_STARTED"] = str(time.time())
{offline}root = os.environ.get("KAGGLEKIT_INPUTS", "/kaggle/input")
for place in ("datasets/{owner}/{slug}", "{slug}", ""):
    wheels = sorted(glob.glob(os.path.join(glob.escape(root), place, "**", "kagglekit-*.whl"), recursive=True))
    if wheels:
        break
else:
    attached = sorted(path for depth in (1, 2, 3) for path in glob.glob(os.path.join(root, *"*" * depth)))
    raise FileNotFoundError(
        f"no kagglekit-*.whl below {{root}}: attach the data set {owner}/{slug}. What is attached:\\n"
        + ("\\n".join(attached[:60]) or "nothing")
    )
folder = os.path.dirname(wheels[-1])
names = sorted({{name.split("-")[0] for name in os.listdir(folder) if name.endswith(".whl")}})
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
offline = ["--no-index", "--no-deps", "--force-reinstall", "--find-links", folder]
done = subprocess.run([*pip, *offline, *names], capture_output=True, text=True)
if done.returncode:
    raise RuntimeError(f"pip could not install {{', '.join(names)}} from {{folder}}:\\n{{done.stdout}}{{done.stderr}}")
importlib.invalidate_caches()
print("installed", *names, "from", folder)"""
OFFLINE = 'os.environ["HF_HUB_OFFLINE"] = "1"\n'
ENTER = "# Show the machine, bring in what is attached, check models\nfrom kagglekit.kaggle.in_kernel import enter"
PARALLEL = "# Train a fold on each GPU, where there are two\nfrom kagglekit.running.parallel import train_in_parallel"
LEAVE = "# Leave a submission, and what is worth keeping\nfrom kagglekit.kaggle.in_kernel import leave"


@dataclass(frozen=True)
class Step:
    """A notebook, such as 3_train, and the parameters that differ from its defaults.

    notebooks: their folder; None: those of the library. Raises FileNotFoundError for a missing notebook, and ValueError
    that lists its parameters for an unknown one or a wrong type.
    """

    notebook: str
    parameters: dict[str, Any] = field(default_factory=dict)
    notebooks: Path | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "notebook", self.source.stem)
        object.__setattr__(self, "parameters", check_parameters(self.notebook, self.known, self.parameters))

    @property
    def source(self) -> Path:
        """The notebook's file."""
        return find_notebook(self.notebook, self.notebooks)

    @cached_property
    def known(self) -> dict[str, Parameter]:
        """The parameters that the notebook takes."""
        return read_parameters(self.source)

    @property
    def values(self) -> dict[str, Any]:
        """All its parameters: the defaults, and over them those given."""
        return with_defaults(self.known, self.parameters)

    @cached_property
    def travels(self) -> dict[str, Any]:
        """What the notebook declares in its metadata: the paths that it reads and writes."""
        return nbformat.read(self.source, as_version=4).metadata.get("kagglekit", {})

    @property
    def writes(self) -> set[Path]:
        """The files and folders that it makes."""
        return {resolve(path) for path in fill(self.travels.get("writes", []), self.values)}

    @property
    def work(self) -> str:
        """The work folder, as given."""
        return self.values["work"]

    @property
    def title(self) -> str:
        """Its name: "3_train base"."""
        return " ".join(filter(None, [self.notebook, self.values.get("run", "")]))

    def with_values(self, **values) -> "Step":
        """The same step with some parameters changed; those that the notebook lacks are left out."""
        known = self.known
        kept = {name: value for name, value in values.items() if name in known}
        return Step(self.notebook, self.parameters | kept, self.notebooks)


def refuse(step: Step) -> None:
    """Raise ValueError for a step that no kernel can run: it reads more than one competition, or pairs of images."""
    values = step.values
    if several := next((name for name in ("tasks", "suite") if values.get(name)), ""):
        raise ValueError(
            f"{several}: a kernel or a cluster gets the files of one competition; train all tasks here, and take the "
            "run of each folder into a kernel by 5_submit"
        )
    if values.get("objective") == "itc_itm":
        raise ValueError(
            f"{step.title}: the images of pairs={values['pairs']!r} stay on this machine: run 2_pretrain here, and let "
            "the kernel start from it"
        )


def parse_steps(texts: Sequence[str], notebooks: Path | None = None) -> list[Step]:
    """["3_train", "work=runs/bbc", "run=base", "+", "5_submit", "run=base"] -> two steps.

    A lone + begins the next step. work= of the first holds for all. After a lone --: parameters for every step that has
    them, except where a step says otherwise itself. notebooks: their folder; None: those of the library.
    Raises ValueError and FileNotFoundError that list what exists.
    """
    cut = texts.index("--") if "--" in texts else len(texts)
    shared, groups = read_arguments(list(texts[cut + 1 :])), [[]]
    for text in texts[:cut]:
        if text == "+":
            groups.append([])
        else:
            groups[-1].append(text)
    steps: list[Step] = []
    for number, group in enumerate(groups, 1):
        if not group or "=" in group[0]:
            raise ValueError(f"step {number} names no notebook: write it first, as in 3_train work=runs/bbc run=base")
        notebook = find_notebook(group[0], notebooks)
        own = parse_arguments(notebook, read_parameters(notebook), read_arguments(group[1:]))
        first = {"work": steps[0].work} if steps else {}
        steps.append(Step(notebook.stem, first | choose_shared(notebook, shared, own) | own, notebooks))
        if "work" not in steps[0].parameters:
            raise ValueError(f"{notebook.stem} needs work=: the folder that it works in, such as work=runs/bbc")
        if steps[-1].work != steps[0].work:
            raise ValueError(
                f"step {number}, {notebook.stem}, has work={steps[-1].work!r} and the first {steps[0].work!r}: the "
                "steps of a kernel share a work folder"
            )
    return steps


def make_notebook(
    steps: Sequence[Step],
    competition: str,
    gpu: str,
    internet: bool,
    wheels: Ref | str,
    parallel: bool,
) -> nbformat.NotebookNode:
    """The notebook of a kernel: of one step, that notebook with its parameters; of several, a cell that runs each.

    steps: with the paths of the kernel. parallel: train one fold on each GPU, where there are two.
    """
    work, runs = steps[0].work, [step.values["run"] for step in steps if step.notebook in PREDICTING]
    chosen = [step.values.get("precision", "auto") for step in steps if step.notebook == "5_submit"]
    precision = next((one for one in chosen if one != "auto"), "")
    install, enter = install_cell(wheels, internet), enter_cell(work, competition, bool(gpu), precision=precision)
    leave = leave_cell(work, runs)
    if len(steps) > 1:
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
        title, *calls = step_cells(steps)
        notebook.cells = [install, title, enter, *calls, leave]
        return notebook
    step = steps[0]
    notebook = strip(nbformat.read(step.source, as_version=4))
    tags = [cell.metadata.get("tags", []) for cell in notebook.cells]
    cut = next(number for number, names in enumerate(tags, 1) if "parameters" in names)
    given = parameter_cell(fold(step.known, step.parameters))
    train = [parallel_cell(step)] if parallel and step.notebook == "3_train" else []
    notebook.cells = [install, *notebook.cells[:cut], given, enter, *train, *notebook.cells[cut:], leave]
    return notebook


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without outputs and other traces of a run: counts, times, paths, old parameters."""
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)  # cells with ids
    known = ("kagglekit", "kernelspec", "language_info")
    notebook.metadata = {name: notebook.metadata[name] for name in known if name in notebook.metadata}
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags"}
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def install_cell(wheels: Ref | str, internet: bool = False) -> nbformat.NotebookNode:
    """The first cell: installs the wheels of an attached data set, in the mount layouts of before and after 2026.

    Needs the standard library and pip alone, sets the time that time budgets count from (KAGGLEKIT_STARTED), and
    without internet keeps transformers from asking the hub. Takes about 5 s.
    """
    ref = Ref.parse(str(wheels), "wheels")
    offline = "" if internet else OFFLINE
    return code_cell("kaggle-install", INSTALL.format(owner=ref.owner, slug=ref.slug, offline=offline))


def enter_cell(
    work: str, competition: str, gpu: bool, runs: Sequence[str] = (), precision: str = ""
) -> nbformat.NotebookNode:
    """The cell that shows what the kernel runs on, gathers its inputs and checks that models score as at home."""
    options = {"competition": competition, "gpu": gpu, "runs": list(runs), "precision": precision}
    arguments = "".join(f", {name}={value!r}" for name, value in options.items() if value)
    return code_cell("kaggle-enter", f"{ENTER}\n\nenter({work!r}{arguments})")


def leave_cell(work: str, runs: Sequence[str] = ()) -> nbformat.NotebookNode:
    """The last cell: leaves a submission, and of everything else only what is worth keeping.

    runs: candidates for the submission, in the order in which they are made.
    """
    arguments = ", ".join(repr(name) for name in (work, *dict.fromkeys(runs)))
    return code_cell("kaggle-leave", f"{LEAVE}\n\nleave({arguments})")


def parallel_cell(step: Step) -> nbformat.NotebookNode:
    """The cell that trains one fold on each GPU; with fewer than two it does nothing, and the fold loop does the
    work."""
    call = _call("train_in_parallel", step)
    return code_cell("kaggle-slots", f"{PARALLEL}\n\ntrained = {call}")


def step_cells(steps: Sequence[Step]) -> list[nbformat.NotebookNode]:
    """A title, and a cell that runs a whole notebook for each step; the notebooks are in the wheel."""
    listed = "\n".join(f"{number}. `{step.title}`" for number, step in enumerate(steps, 1))
    title = nbformat.v4.new_markdown_cell(
        f"# {', then '.join(step.notebook for step in steps)}\n\n{listed}\n\nEach notebook with its outputs lies in "
        "`notebooks/` of the work folder.",
        id="kaggle-title",
    )
    cells = [title]
    for number, step in enumerate(steps, 1):
        source = f"# {step.title}\nfrom kagglekit.kaggle.in_kernel import run_step\n\n{_call('run_step', step)}"
        cells.append(code_cell(f"kaggle-step-{number}", source))
    return cells


def parameter_cell(values: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The cell that papermill would insert after the one tagged `parameters`, with its tag."""
    from papermill.translators import PythonTranslator  # not before it is needed: it takes most of a second

    cell = code_cell("kaggle-parameters", PythonTranslator.codify(dict(values), "Parameters").strip())
    cell.metadata["tags"] = ["injected-parameters"]
    return cell


def code_cell(name: str, source: str) -> nbformat.NotebookNode:
    """A cell whose id is its name, so that the same build gives the same bytes."""
    return nbformat.v4.new_code_cell(source, id=name)


def _call(function: str, step: Step) -> str:
    from papermill.translators import PythonTranslator

    values = {name: PythonTranslator.translate(value) for name, value in step.parameters.items()}
    lines = "".join(f'        "{name}": {value},\n' for name, value in values.items())
    return f'{function}(\n    "{step.notebook}",\n    {{\n{lines}    }},\n)'
