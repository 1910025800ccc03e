"""The cells that turn a notebook into a kernel: they install, settle in, run, and tidy up."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import nbformat

from kagglekit.kaggle.metadata import Ref

if TYPE_CHECKING:
    from kagglekit.kaggle.steps import Step


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
ENTER = "# Look at the machine, bring in what is attached, check models\nfrom kagglekit.kaggle.inside import enter"
SLOTS = "# Train a fold on each GPU, where there are two\nfrom kagglekit.running.parallel import train_in_parallel"
LEAVE = "# Leave a submission, and what is worth keeping\nfrom kagglekit.kaggle.inside import leave"
MARK = "# Install kagglekit"  # how the first cell of a kernel begins


def install_cell(wheels: Ref | str, internet: bool = False) -> nbformat.NotebookNode:
    """The first cell: installs the wheels of an attached data set, in the mount layouts of before and after 2026.

    It needs the standard library and pip alone, sets the clock that time budgets count from (KAGGLEKIT_STARTED), and
    without internet keeps transformers from looking for the hub. Takes about 5 s.
    """
    ref = Ref.parse(str(wheels), "wheels")
    offline = "" if internet else OFFLINE
    return code_cell("kaggle-install", INSTALL.format(owner=ref.owner, slug=ref.slug, offline=offline))


def enter_cell(work: str, competition: str, gpu: bool, runs: Sequence[str] = ()) -> nbformat.NotebookNode:
    """The cell that shows what the kernel runs on, gathers its inputs and checks that models score as at home."""
    options = _options(competition=competition, gpu=gpu, runs=list(runs))
    return code_cell("kaggle-enter", f"{ENTER}\n\nenter({work!r}{options})")


def leave_cell(work: str, runs: Sequence[str] = ()) -> nbformat.NotebookNode:
    """The last cell, which leaves a submission, and of everything else only what is worth keeping.

    runs: that could become the submission, in the order in which they are made.
    """
    told = ", ".join(repr(name) for name in (work, *dict.fromkeys(runs)))
    return code_cell("kaggle-leave", f"{LEAVE}\n\nleave({told})")


def side_by_side_cell(step: "Step") -> nbformat.NotebookNode:
    """The cell that trains one fold on each GPU; on fewer than two it does nothing, and the fold loop does the work."""
    call = _call("train_in_parallel", step)
    return code_cell("kaggle-slots", f"{SLOTS}\n\ntrained = {call}")


def step_cells(steps: Sequence["Step"]) -> list[nbformat.NotebookNode]:
    """A title, and a cell that runs a whole notebook for each step; the notebooks are in the wheel."""
    listed = "\n".join(f"{number}. `{step.title}`" for number, step in enumerate(steps, 1))
    title = nbformat.v4.new_markdown_cell(
        f"# {', then '.join(step.notebook for step in steps)}\n\n{listed}\n\nEach notebook with its outputs lies in "
        "`notebooks/` of the work folder.",
        id="kaggle-title",
    )
    cells = [title]
    for number, step in enumerate(steps, 1):
        source = f"# {step.title}\nfrom kagglekit.kaggle.inside import run_step\n\n{_call('run_step', step)}"
        cells.append(code_cell(f"kaggle-step-{number}", source))
    return cells


def parameter_cell(values: Mapping[str, Any]) -> nbformat.NotebookNode:
    """The cell that papermill would put behind the one tagged `parameters`, tagged as papermill does."""
    cell = code_cell("kaggle-parameters", write_values(values))
    cell.metadata["tags"] = ["injected-parameters"]
    return cell


def write_values(values: Mapping[str, Any]) -> str:
    """Parameters as the lines of Python that papermill makes of them: `epochs = 3.0`, one a line."""
    from papermill.translators import PythonTranslator  # not before it is needed: it takes most of a second

    return PythonTranslator.codify(dict(values), "Parameters").strip()


def code_cell(name: str, source: str) -> nbformat.NotebookNode:
    """A cell without outputs whose id is its name, so that the same build gives the same bytes."""
    return nbformat.v4.new_code_cell(source, id=name)


def _call(function: str, step: "Step") -> str:
    from papermill.translators import PythonTranslator

    values = {name: PythonTranslator.translate(value) for name, value in step.parameters.items()}
    lines = "".join(f'        "{name}": {value},\n' for name, value in values.items())
    return f'{function}(\n    "{step.notebook}",\n    {{\n{lines}    }},\n)'


def _options(**options) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items() if value)
