import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

import kagglekit.running.done
from kagglekit.files import read_json, write_json
from kagglekit.run import main
from kagglekit.running.done import changes, fill, fingerprint, hash_path
from kagglekit.running.jupyter_kernel import locked
from kagglekit.running.notebook import run_notebook

PARAMETERS = 'work = ""  # the work folder\nrun = "base"\nvalue: float = 1.0  # to write\nruns: list[str] = []'
WRITE = """\
from pathlib import Path
out = Path(work) / run / "out.txt"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(str(value))
with open(Path(work) / "times.txt", "a") as file:
    file.write("x")
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory without the library in it, and a library that stands still."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "code.py").write_text("a = 1")
    monkeypatch.setattr(kagglekit.running.done, "LIBRARY", tmp_path / "library")


def write_notebook(*cells, name="3_train", parameters=PARAMETERS, folder="notebooks"):
    cells = [nbformat.v4.new_code_cell(cell) for cell in (parameters, *cells)]
    cells[0].metadata["tags"] = ["parameters"]
    travels = {"reads": ["{work}/in.txt", "{work}/{runs}"], "writes": ["{work}/{run}"]}
    Path(folder).mkdir(exist_ok=True)
    path = Path(folder, f"{name}.ipynb")
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kagglekit": travels}), path)
    return path


def run(**parameters):
    return run_notebook("3_train", {"work": "w", **parameters}, folder=Path("notebooks"))


def command(work="work=w"):
    """The command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    line = [sys.executable, "-m", "kagglekit.run", "3_train", work, "--notebooks", "notebooks"]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, seconds=30):
    end = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_a_run_is_skipped_while_nothing_changed_and_runs_again_when_something_did(capsys):
    source = write_notebook(WRITE)
    Path("w").mkdir()
    Path("w/in.txt").write_text("1")
    copy, marker = run(value=2.5), Path("w/notebooks/3_train.base.done.json")
    assert copy == Path("w/notebooks/3_train.base.ipynb").resolve()
    assert Path("w/base/out.txt").read_text() == "2.5"
    assert not [path for path in Path("w/notebooks").iterdir() if "part" in path.name]
    assert "papermill" not in nbformat.read(copy, as_version=4).metadata
    record = read_json(marker)
    assert record["parameters"] == {"work": "w", "run": "base", "value": 2.5, "runs": []}
    assert set(record["inputs"]) == {"w/in.txt"}
    assert record["outputs"] == {"w/base": hash_path(Path("w/base"))}
    assert record["versions"]["papermill"]

    capsys.readouterr()
    assert run(value=2.5) == copy
    assert "done before, nothing has changed" in capsys.readouterr().out
    assert Path("w/times.txt").read_text() == "x"

    def changed(**parameters):
        return changes(marker, fingerprint(nbformat.read(source, 4), record["parameters"] | parameters, {}))

    assert changed() == ""
    assert changed(value=3.0) == "the parameter value"
    Path("library/code.py").write_text("a = 2")
    assert changed() == "the library"
    Path("library/code.py").write_text("a = 1")
    Path("w/base/out.txt").write_text("3")
    assert changed() == "w/base"
    Path("w/base/out.txt").write_text("2.5")
    write_notebook(WRITE, "1 + 1")
    assert changed() == "the notebook"
    write_notebook(WRITE)
    assert changed() == ""

    Path("w/in.txt").write_text("2")
    run(value=2.5)
    assert "runs again, for these changed: w/in.txt" in capsys.readouterr().out
    assert Path("w/times.txt").read_text() == "xx"
    assert main(["3_train", "work=w", "value=2.5", "--notebooks", "notebooks", "--force"]) == 0
    assert Path("w/times.txt").read_text() == "xxx"

    for content in ("", "{}", "[]", marker.read_text()[:99], marker.read_text().replace("finished", "Finished")):
        marker.write_text(content)
        assert changed() == "w/notebooks/3_train.base.done.json, which is damaged"
    Path("w/base/.out.txt.0123456789abcdef.part").mkdir()
    run(value=2.5)
    assert (
        "runs again, for these changed: w/notebooks/3_train.base.done.json, which is damaged" in capsys.readouterr().out
    )
    assert Path("w/times.txt").read_text() == "xxxx" and os.listdir("w/base") == ["out.txt"] and changed() == ""


@pytest.mark.parametrize(
    ("cell", "limit", "code", "message"),
    [
        ("number = 1\nnumber / 0", None, 1, "ZeroDivisionError: division by zero"),
        (r"raise ValueError('é \ud83d')", None, 1, "ValueError: é \ufffd"),  # half an emoji, which Jupyter cannot send
        ("import os\nos.kill(os.getpid(), 9)", None, 1, "the kernel was killed"),
        ("import os\nos._exit(3)", None, 1, "the kernel ended with exit code 3"),
        ("import sys\nsys.exit(0)", None, 1, "by sys.exit: the cells below did not run"),
        ("import time\ntime.sleep(60)", 1, 124, "the limit of 1 seconds is over"),
        ("from kagglekit.files import run_folder\nrun_folder(work, 'fold1')", None, 1, "run='fold1' cannot name a run"),
    ],
)
def test_a_notebook_that_fails_leaves_a_copy_to_look_at_and_no_marker(capsys, cell, limit, code, message):
    write_notebook(WRITE, cell, "print('the end')")
    write_json("w/notebooks/3_train.base.done.json", {"of": "an earlier run"})
    began = time.monotonic()
    arguments = ["3_train", "work=w", "--notebooks", "notebooks", *(["--limit", str(limit)] if limit else [])]
    assert main(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1] and not any("\x1b" in line for line in lines)
    assert "see w/notebooks/3_train.base.failed.ipynb" in lines[0]
    assert len(lines) == 2 or "run_folder" not in cell
    names = sorted(path.name for path in Path("w/notebooks").iterdir())
    assert names == [".3_train.base.lock", "3_train.base.failed.ipynb"]
    assert limit or Path("w/base/out.txt").exists()
    assert time.monotonic() - began < 15


def test_after_sigkill_of_the_runner_the_same_command_succeeds():
    wait = "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.1)"
    write_notebook(WRITE, wait)
    runner = command()
    wait_for("w/times.txt")
    runner.kill()
    runner.communicate()
    assert not list(Path("w/notebooks").glob("*.json"))
    assert list(Path("w/notebooks").glob(".*.part.ipynb"))
    Path("go").touch()
    run()
    assert sorted(path.name for path in Path("w/notebooks").glob("*3_train*")) == [
        ".3_train.base.lock",
        "3_train.base.done.json",
        "3_train.base.ipynb",
    ]
    assert Path("w/times.txt").read_text() == "xx"


def test_an_interrupted_runner_takes_its_kernel_along():
    pid = "import os\nopen(f'pid{work}.part', 'w').write(str(os.getpid()))\nos.rename(f'pid{work}.part', f'pid{work}')"
    write_notebook(pid, "import time\ntime.sleep(60)")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a script ignore it
    runners = {code: command(f"work={code}") for code in (130, 143)}
    for (code, runner), number in zip(runners.items(), (signal.SIGINT, signal.SIGTERM), strict=True):
        wait_for(f"pid{code}")
        runner.send_signal(number)
    for code, runner in runners.items():
        runner.communicate(timeout=30)
        assert runner.returncode == code
        with pytest.raises(ProcessLookupError):
            os.kill(int(Path(f"pid{code}").read_text()), 0)
        assert Path(f"{code}/notebooks/3_train.base.failed.ipynb").exists()
        assert not Path(f"{code}/notebooks/3_train.base.done.json").exists()


def test_two_runners_of_the_same_run_do_not_meet(tmp_path):
    already = f"3_train base is being run already .by process {os.getpid()}"
    with locked(tmp_path / "lock", "3_train base"), pytest.raises(RuntimeError, match=already):
        locked(tmp_path / "lock", "3_train base", patience=0.1).__enter__()
    with locked(tmp_path / "lock", "3_train base", patience=0.1):
        pass


def test_the_kernel_is_this_python_with_this_library_whatever_kernelspecs_say(tmp_path, monkeypatch, capsys):
    spec = {"argv": ["/bin/false"], "display_name": "x", "language": "python"}
    write_json(tmp_path / "jupyter/kernels/python3/kernel.json", spec)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    show = "import os, sys, kagglekit\nprint(sys.executable, kagglekit.__file__, os.getcwd())"
    bar = "from tqdm import tqdm\nfor _ in tqdm(range(300), mininterval=0): pass"
    phase = """\
from kagglekit.progress import Progress
for fold in range(2):
    with Progress(f"fold {fold}/2", 20) as progress:
        for step in range(20):
            progress.update(step + 1, loss=lambda: 0.5)
"""
    write_notebook(show, bar, phase)
    cells = nbformat.read(run(work="{w}"), as_version=4).cells[-3:]
    assert cells[0].outputs[0].text.split() == [sys.executable, kagglekit.__file__, str(tmp_path)]
    assert len(cells[1].outputs) == 1
    assert len(cells[2].outputs) == 1
    assert cells[2].outputs[0].text == "fold 0/2: 20 steps in 0:00\nfold 1/2: 20 steps in 0:00\n"
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3_train base" and printed[1].startswith("  done in 0:0")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["value=x"], "3_train: value='x' is of type str, and value takes float"),
        (["vaule=1"], r"3_train has no parameter 'vaule': did you mean value\?"),
        (["value"], "'value' is no name=value"),
        (["run=fold1"], "run='fold1' cannot name a run"),
        (["--limit", "0"], "more than 0"),
        (["--", "epocs=3"], r"no notebook has a parameter 'epocs': did you mean epochs\?"),
        (["--", "epochs=x"], "2_pretrain: epochs='x' is of type str"),
    ],
)
def test_wrong_parameters_are_errors_before_anything_starts(capsys, arguments, problem):
    write_notebook(WRITE)
    write_notebook(name="2_pretrain", parameters="epochs = 1")
    assert main(["3_train", "work=w", "--notebooks", "notebooks", *arguments]) == 2
    assert re.search(problem, capsys.readouterr().err)
    assert not Path("w").exists()


def test_what_stands_after_the_dashes_goes_to_the_notebooks_that_have_it_and_yields_to_what_stands_before(monkeypatch):
    write_notebook(WRITE)
    write_notebook(name="2_pretrain", parameters="epochs = 1")
    seen = []
    monkeypatch.setattr(
        "kagglekit.run.run_notebook", lambda notebook, values, **options: seen.append((values, options))
    )
    assert main(["3_train", "work=w", "value=2", "--notebooks", "notebooks", "--", "value=3", "epochs=2", "run=a"]) == 0
    assert main(["3_train", "work=w", "--notebooks", "notebooks", "--", "value=2e-5", "--force", "--limit", "9"]) == 0
    assert seen[0][0] == {"work": "w", "value": 2, "run": "a"}
    assert seen[1][0] == {"work": "w", "value": 2e-5}
    assert (seen[1][1]["force"], seen[1][1]["limit"]) == (True, 9)


def test_several_notebooks_run_one_after_the_other_until_one_fails(monkeypatch, capsys):
    write_notebook(WRITE)
    write_notebook(name="2_pretrain", parameters="epochs = 1")
    seen, place = [], ["--notebooks", "notebooks"]

    def run_notebook(notebook, values, **options):
        seen.append((notebook.stem, values, os.environ.get("KAGGLEKIT_CHAINED")))

    monkeypatch.setattr("kagglekit.run.run_notebook", run_notebook)
    command = ["3_train", "work=w", *place, "+", "2_pretrain", *place, "--", "epochs=2", "value=3"]
    assert main(command) == 0
    assert seen == [("3_train", {"work": "w", "value": 3}, "1"), ("2_pretrain", {"epochs": 2}, None)]
    assert main(["3_train", "vaule=1", *place, "+", *command]) == 2
    assert "did you mean value?" in capsys.readouterr().err and len(seen) == 2
    for later, problem in (["3_train", "vaule=1"], "did you mean value?"), (["3_trian"], "did you mean 3_train?"):
        assert main([*command[:4], "+", *later, *place]) == 2  # told before the first one runs
        assert problem in capsys.readouterr().err and len(seen) == 2
    with pytest.raises(SystemExit):
        main([*command[:4], "+"])
    assert "which notebook?" in capsys.readouterr().err and len(seen) == 2
    assert main(["3_train", "work=w", *place, "+", "--summary", "w"]) == 2  # there is nothing to sum up
    assert seen[2:] == [("3_train", {"work": "w"}, None)]


def test_an_unknown_notebook_is_named_with_those_that_there_are(capsys):
    write_notebook()
    assert main(["3_trian", "work=w", "--notebooks", "notebooks"]) == 2
    assert "no notebook '3_trian': did you mean 3_train?" in capsys.readouterr().err


def test_templates_expand_lists_and_drop_what_is_empty():
    values = {"work": "w", "runs": ["a", "b"], "start": "", "data": None, "k": 3}
    assert fill(["{data}", "{work}/t", "{work}/{runs}", "{work}/{start}", "{k}"], values) == ["w/t", "w/a", "w/b", "3"]
    with pytest.raises(ValueError, match="'rnu', which is none of its parameters"):
        fill(["{work}/{rnu}"], values)


def test_a_path_names_what_a_dict_has_under_a_name_and_each_of_several_joined_runs():
    values = {"work": "w", "pseudo": {"teacher": "base", "unlabelled": ["a.csv", "b.csv"]}, "start": "one+other"}
    paths = ["{work}/{pseudo[teacher]}", "{pseudo[unlabelled]}", "{work}/{start}", "{work}/{pseudo[lacking]}"]
    assert fill(paths, values) == ["w/base", "a.csv", "b.csv", "w/one", "w/other"]


def test_the_hash_of_a_folder_sees_names_and_contents_but_no_checkpoints_models_of_folds_and_suspects(tmp_path):
    assert hash_path(tmp_path / "none") == "absent"
    folder = tmp_path / "run"
    for name in ("a.txt", "fold0/oof", "model/weights"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    first = hash_path(folder)
    for name in ("checkpoint-7/x", "fold0/checkpoint", "fold0/model/weights", ".hidden", "a/.b/c", "suspects.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1")
    assert hash_path(folder) == first
    (folder / "model/weights").write_text("2")
    second = hash_path(folder)
    (folder / "a.txt").rename(folder / "b.txt")
    assert len({first, second, hash_path(folder)}) == 3
