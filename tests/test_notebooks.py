"""The five notebooks, run as a user runs them, on small slices of real data with the real MiniLM."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from kagglekit.files import read_json
from kagglekit.model.backbones import load_tokenizer
from kagglekit.run import main
from kagglekit.running.arguments import parse_arguments, read_arguments, with_defaults
from kagglekit.running.beforehand import check_beforehand
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.samples import write_sample
from tests.screen import run_in_terminal

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
README = (ROOT / "notebooks" / "README.md").read_text()
SMALL = ["max_length=32", "epochs=0.6", "batch_size=8"]
TRICKS = {"FGM": {"epsilon": 0.5}, "EMA": {"decay": 0.9, "start": 0.5}}


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> str:
    """The work folder of `./run_all.sh DIR -- ...` on 160 articles: all five notebooks."""
    folder = tmp_path_factory.mktemp("notebooks")
    data = write_sample("bbc", folder / "data" / "articles", rows=160)
    command = [ROOT / "run_all.sh", data, "--", "n_folds=2", "repeats=2", f"tricks={TRICKS}", "steps=6", *SMALL]
    code, screen = run_in_terminal(command, env={**os.environ, "RUNS": str(folder)})
    (folder / "terminal.txt").write_text("\n".join(screen.lines))
    (folder / "moved.txt").write_text("\n".join(screen.moved))
    assert code == 0, "\n".join(screen.lines)
    return str(folder / "articles")


def parsed(name, arguments):
    """Arguments of the command line, such as epochs=1, as parameters of a notebook."""
    notebook = find_notebook(name)
    return parse_arguments(notebook, read_parameters(notebook), read_arguments(arguments))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_defines_nothing(path):
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    assert not any(line.startswith(("def ", "class ")) for cell in code for line in cell.source.splitlines())
    assert book.cells[0].source.startswith("# ")


def test_five_notebooks_lead_from_train_csv_to_a_submission(work):
    submission = pd.read_csv(Path(work) / "submission.csv", dtype=str)
    sample = pd.read_csv(Path(read_json(Path(work) / "task.json")["data"]) / "sample_submission.csv", dtype=str)
    assert list(submission.columns) == list(sample.columns)
    assert submission["ArticleId"].tolist() == sample["ArticleId"].tolist()
    assert (Path(work) / "submission.blend.csv").read_bytes() == (Path(work) / "submission.csv").read_bytes()
    told = read_json(Path(work) / "submission.json")
    assert told["run"] == "blend" and told["submission"] == "submission.blend.csv"
    assert told["true_score"] > 0.8


SCORE = r"accuracy [01]\.\d{4} ± 0\.\d{4}"
FOLDS = r"3_train {0}  fold 0: accuracy [01]\.\d{{4}}\n3_train {0}  fold 1: accuracy [01]\.\d{{4}}\n3_train {0}: "


def test_the_terminal_tells_the_story(work):
    """Each step ends with its result, nothing is noisy, and the last thing is the table of runs."""
    told = (Path(work).parent / "terminal.txt").read_text()
    for words in (
        r"^1_eda: multiclass, Text -> Category, accuracy$",
        FOLDS.format("tfidf") + SCORE + ", folds 0-1$",
        r"^2_pretrain mlm: perplexity [\d,]+ -> [\d,]+$",
        FOLDS.format("base") + SCORE + ", folds 0-1$",
        r"^4_ensemble blend: accuracy [01]\.\d{4}, 95 % interval ",
        r"^5_submit blend: \S",
        r"^blend +[01]\.\d{4} ± 0\.\d{4} +2 of 2 ",
    ):
        assert re.search(words, told, re.MULTILINE), words
    assert "next: " not in told  # the next step came by itself, and a sample is submitted nowhere
    assert not re.search("Warning|Traceback|%\\||it/s", told)


def test_what_is_proposed_next_is_read_in_a_shell_as_a_command_that_begins(work, tmp_path, backbone, run_here, capsys):
    """Of each executed notebook, and of a stage of another backbone that has one of its folds."""
    options = {"backbone": backbone, "objective": "simcse_supervised", "max_length": 24, "steps": 2, "folds": [1]}
    run_here("2_pretrain", work=work, run="pairs", **options)
    told = [capsys.readouterr().out]
    for copy in sorted(Path(work, "notebooks").glob("[1-5]*.ipynb")):
        cells = nbformat.read(copy, as_version=4).cells
        told += [one.text for cell in cells for one in cell.get("outputs", ()) if one.output_type == "stream"]
    commands, found = re.findall("^next: (.*)$", "\n".join(told), re.MULTILINE), set()
    for line in commands:
        shell = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
        words = shell.stdout.split("\0")[3:-1]
        known, values = read_parameters(find_notebook(words[0])), parsed(words[0], words[1:])
        if not Path(work, values.get("run", "")).exists():  # made since, with other settings
            check_beforehand(words[0], known, with_defaults(known, values))
        found.add((words[0], values.get("backbone"), str(values.get("folds", ""))))
    shutil.rmtree(Path(work, "pairs"))
    rest = {(name, None, "") for name in ("4_ensemble", "5_submit")}
    assert found >= rest | {("3_train", backbone, "[1]"), ("3_train", "tfidf", "")}


def test_the_line_that_moves_fits_the_window_and_says_how_long_all_folds_take(work):
    moved = (Path(work).parent / "moved.txt").read_text().splitlines()
    lines = [line for line in moved if line.startswith(("3_train base", "fold "))]
    assert max(map(len, moved)) <= 80
    assert any(re.search(r"fold 0 \(1 of 2\)  step \d+/\d+  loss \d\.\d+", line) for line in lines)
    assert any(re.search(r"fold 1 \(2 of 2\).*  score [01]\S* .* \d+:\d\d left$", line) for line in lines)
    assert any(re.search(r"^1_eda  \w.* \(\d+ of \d+\)  0:\d\d$", line) for line in moved)


def test_every_executed_notebook_shows_pictures_or_tables_and_ends_with_what_it_wrote(work):
    for path in sorted((Path(work) / "notebooks").glob("*.ipynb")):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        outputs = [output for cell in cells for output in cell.outputs]
        assert any("image/png" in o.get("data", {}) or "text/html" in o.get("data", {}) for o in outputs), path
        assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs), path
        assert "written: " in cells[-1].outputs[-1]["text"], path
        assert path.stat().st_size < 1_000_000, path


def test_the_blend_of_the_notebook_is_scored_like_its_members(work):
    scores = {name: read_json(Path(work) / name / "score.json") for name in ("tfidf", "base", "blend")}
    assert {entry["metric"] for entry in scores.values()} == {"accuracy"}
    assert all(0 < entry["standard_error"] < 0.1 for entry in scores.values())
    assert scores["blend"]["score"] >= max(scores["tfidf"]["score"], scores["base"]["score"]) - 0.02  # 3 of 160 rows
    told = scores["blend"]
    assert told["low"] < told["score"] < told["high"] and told["score"] == pytest.approx(told["cross_fitted"])
    assert told["in_sample"] - told["cross_fitted"] == pytest.approx(told["gap"]) and told["members"] == [
        "tfidf",
        "base",
    ]
    made = read_json(Path(work) / "blend" / "weights.json")
    assert set(made["chosen"]) == {"0", "1"} and made["plan"]["method"] == "auto"
    assert all(abs(sum(of.values()) - 1) < 1e-9 for of in made["weights"].values())


def test_predictions_that_somebody_else_made_give_the_number_that_they_give_here(work, tmp_path, run_here):
    train = pd.read_csv(Path(read_json(Path(work) / "task.json")["data"]) / "train.csv", dtype=str)
    labels = train[["ArticleId", "Category"]].set_axis(["id", "label"], axis=1)
    (tmp_path / "theirs").mkdir()
    for name in ("tfidf", "base"):
        oof = pd.concat(pd.read_parquet(Path(work) / name / f"fold{k}" / "oof.parquet") for k in (0, 1))
        oof.merge(labels, on="id").sample(frac=1, random_state=0).to_csv(
            tmp_path / "theirs" / f"{name}.csv", index=False
        )
    plain = {"run": "mean", "method": "mean", "thresholds": ""}
    run_here("4_ensemble", work=str(tmp_path / "own"), files=str(tmp_path / "theirs"), metric="accuracy", **plain)
    run_here("4_ensemble", work=work, runs=["tfidf", "base"], **plain)
    theirs, ours = (read_json(place / "mean" / "score.json") for place in (tmp_path / "own", Path(work)))
    assert theirs["score"] == ours["score"] and theirs["low"] < theirs["score"] < theirs["high"]
    assert theirs["rows"] == ours["rows"] == 160 and ours["groups"] <= 160


def test_further_splits_are_work_folders_of_their_own(work):
    one, other = (pd.read_parquet(Path(place) / "folds.parquet") for place in (work, f"{work}.2"))
    assert (
        one["id"].equals(other["id"]) and one["group"].equals(other["group"]) and not one["fold"].equals(other["fold"])
    )
    assert read_json(Path(f"{work}.2") / "task.json") == read_json(Path(work) / "task.json")


def test_the_receipts_of_a_run_show_what_each_trick_did(work):
    params = read_json(Path(work) / "base" / "params.json")
    assert set(params["receipts"]) == {"0", "1"}
    for receipt in params["receipts"].values():
        assert receipt["FGM"]["mean perturbation norm"] == pytest.approx(0.5, rel=1e-3)
        assert (
            receipt["FGM"]["steps"] == 6
            and receipt["EMA"]["steps"] == 3
            and receipt["EMA"]["distance of average to last weights"] > 0
        )
    assert params["recipe"]["tricks"] == TRICKS
    assert {"torch", "transformers"} <= set(params["versions"])


def test_out_of_fold_rows_are_each_predicted_once_by_the_fold_that_held_them_out(work):
    folds = pd.read_parquet(Path(work) / "folds.parquet")
    for run in ("tfidf", "base", "blend"):
        oof = pd.concat(pd.read_parquet(Path(work) / run / f"fold{k}" / "oof.parquet") for k in (0, 1))
        assert len(oof) == len(folds) == 160
        assert oof.set_index("id")["fold"].loc[folds["id"]].tolist() == folds["fold"].tolist()
        assert np.allclose(oof.iloc[:, 2:].sum(axis=1), 1, atol=1e-4)


def test_a_blend_of_all_runs_is_made_again_when_there_is_one_more(work, capsys, run_here):
    command = ["4_ensemble", f"work={work}", "run=all", "method=mean"]
    assert main(command) == 0 and main(command) == 0
    assert "done before" in capsys.readouterr().out
    fgm = next(line for line in README.splitlines() if "run=fgm" in line)
    fgm = [word for word in shlex.split(fgm)[3:] if not word.startswith(("work=", "folds="))]
    run_here(fgm[0], work=work, max_length=32, **parsed(fgm[0], fgm[1:]))
    assert main(command) == 0
    assert "runs again" in capsys.readouterr().out
    assert read_json(Path(work) / "all" / "weights.json")["members"] == ["base", "fgm", "tfidf"]


def test_of_a_single_run_it_is_said_that_there_is_nothing_to_blend(work, capsys, run_here):
    found = run_here("4_ensemble", work=work, run="alone", runs=["tfidf"])
    told = capsys.readouterr().out
    assert "tfidf is the only run, so there is nothing to blend" in told and "## Two submissions" not in told
    assert list(found["plan"].candidates_made()) == ["best", "logistic", "best + classes", "logistic + classes"]


def test_a_run_begins_from_trained_ones_and_a_soup_averages_them_fold_by_fold(work, run_here):
    small = [f"work={work}", "max_length=32", "epochs=0.3", "batch_size=4"]
    fused = [
        "3_train",
        "run=fused",
        "start=base+mlm",
        "pooling=mean",
        "loss={'focal': {}}",
        "folds=[0]",
        "find_learning_rate=True",
        *small,
    ]
    assert main(fused) == 0
    run_here("3_train", work=work, run="soup", start="", backbone="soup", soup_of=["base", "fused"], folds=[0])
    cells = nbformat.read(Path(work) / "notebooks" / "3_train.fused.ipynb", as_version=4).cells
    pictures = {cell.id for cell in cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})}
    assert {"rates", "trial"} <= pictures  # the rates over the run, and the trial of rates
    receipts = read_json(Path(work) / "soup" / "params.json")["receipts"]
    assert receipts["0"]["soup"]["members"] == ["base", "fused"] and set(receipts) == {"0"}
    assert 0.3 < read_json(Path(work) / "soup" / "score.json")["score"] <= 1


def test_a_stage_goes_on_from_another_and_few_labels_from_there(work, tmp_path, run_here):
    """New tokens and the best step for each fold; PET with pseudo labels, and frozen embeddings, begin from it."""
    (tmp_path / "more.txt").write_text("".join(f"Minister number {n} met zzword fans.\n" for n in range(40)))
    small = [f"work={work}", "max_length=32"]
    stage = ["2_pretrain", "run=stage", "start=mlm", f"texts=['{tmp_path / 'more.txt'}']", "new_tokens=['zzword']"]
    assert main([*stage, "masking=span", "probe_every=3", "steps=6", "batch_size=8", *small]) == 0
    told = read_json(Path(work) / "notebooks" / "2_pretrain.stage.done.json")["result"][1]
    assert told.endswith(" run=base-stage start=stage")  # run=base is another one
    models = read_json(Path(work) / "stage" / "models.json")
    assert set(models) == {"0", "1"}
    tokenizer = load_tokenizer(str(Path(work) / "stage" / models["0"]))
    assert [token.strip() for token in tokenizer.tokenize("a zzword")] == ["a", "zzword"]
    cells = nbformat.read(Path(work) / "notebooks" / "2_pretrain.stage.ipynb", as_version=4).cells
    shown = {cell.id: str(cell.get("outputs")) for cell in cells}
    assert "image/png" in shown["probe"] and all(name in shown["schemes"] for name in ("static", "whole_word", "span"))
    words = {name: [name] for name in ("business", "entertainment", "politics", "sports", "tech")}
    few = {"pattern": "About {mask}: {text}", "verbalizer": words, "pseudo": {"teacher": "base", "threshold": 0.2}}
    few |= {"folds": [0], "augment": {"AEDA": {}}, "clean": ["spaces"], "epochs": 0.3}
    run_here("3_train", work=work, run="few", start="stage", max_length=32, **few)
    (told,) = read_json(Path(work) / "few" / "params.json")["receipts"]["0"]["pseudo"]["rounds"]
    assert 0 < told["added"] <= told["pool"] <= 80 and 0 < told["estimated precision"] <= 1
    labels = pd.read_parquet(Path(work) / "base" / "fold0" / "test.parquet").set_index("id")
    added = pd.read_parquet(next((Path(work) / "few" / "fold0").glob("round1/*/added.parquet"))).set_index("id")
    assert added["label"].equals(labels.loc[added.index].idxmax(axis=1).rename("label"))  # of the teacher of fold 0
    run_here("3_train", work=work, run="frozen", start="stage", learner="frozen", max_length=32)
    assert 0.5 < read_json(Path(work) / "frozen" / "score.json")["score"] <= 1


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["3_train", "epoch=3"], "epoch"),
        (["5_submit", "run=nope"], "run='nope' does not exist"),
    ],
)
def test_a_wrong_parameter_is_a_clear_error_and_changes_nothing(work, capsys, command, words):
    before = sorted(path for path in Path(work).rglob("*.parquet"))
    assert main([*command, f"work={work}"]) != 0
    assert words in capsys.readouterr().err
    assert sorted(path for path in Path(work).rglob("*.parquet")) == before


@pytest.mark.parametrize(
    ("notebook", "parameters", "words"),
    [
        ("3_train", {"folds": [7], "backbone": "tfidf"}, "fold 7 is not in folds.parquet: it has 0 to 1"),
        ("2_pretrain", {"mask_probability": 1.5, "overwrite": True}, "mask_probability=1.5 is out of range"),
        ("4_ensemble", {"runs": ["tfidf", "nope"]}, "run='nope' does not exist"),
    ],
)
def test_a_wrong_value_is_a_clear_error_of_the_notebook_and_changes_nothing(
    work, run_here, notebook, parameters, words
):
    before = sorted(path for path in Path(work).rglob("*.parquet"))
    with pytest.raises((ValueError, OSError), match=words):
        run_here(notebook, work=work, run="other", **parameters)
    assert sorted(path for path in Path(work).rglob("*.parquet")) == before
    assert {path.name for path in (Path(work) / "other").glob("*")} <= {"params.json"}


def test_a_work_folder_of_another_competition_is_refused(work, tmp_path, run_here):
    other = write_sample("drugs", tmp_path / "data", rows=60)
    with pytest.raises(ValueError, match="belongs to another competition"):
        run_here("1_eda", data=str(other), work=work)


@pytest.mark.parametrize(("sample", "rows"), [("tweets", 300), ("reviews-zh", 300), ("drugs", 300)])
def test_the_other_samples_go_through_with_the_baseline(sample, rows, tmp_path, run_here):
    work = str(tmp_path / "work")
    data, near = str(write_sample(sample, tmp_path / "data", rows=rows)), 0.0 if sample == "tweets" else 0.8
    run_here("1_eda", data=data, work=work, n_folds=3, near_duplicates=near)
    run_here("3_train", work=work, run="tfidf", backbone="tfidf", start="")
    run_here("5_submit", work=work, run="tfidf")
    true = read_json(Path(work) / "submission.json")["true_score"]
    score = read_json(Path(work) / "tfidf" / "score.json")
    assert abs(true - score["score"]) < 5 * score["standard_error"] + 0.05


def test_a_run_killed_in_the_middle_of_a_fold_ends_like_one_that_never_stopped(work, capsys, run_here):
    """SIGKILL of the runner during training; the same command goes on from the checkpoint, bit for bit the same."""
    recipe = ["max_length=32", "epochs=1", "batch_size=4", "dropout=0.1", "folds=[0]", "start="]
    recipe += ["checkpoint_every=1.5", "tricks={'FGM': {}, 'RDrop': {}, 'EMA': {'decay': 0.9, 'start': 0.2}}"]
    command = [sys.executable, "-m", "kagglekit.run", "3_train", f"work={work}", *recipe]
    run_here("3_train", work=work, run="whole", **parsed("3_train", recipe))
    killed = Path(work) / "killed"
    with subprocess.Popen([*command, "run=killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(600):
            if list(killed.glob("fold0/checkpoints/*/complete")):
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    assert list(killed.glob("fold0/checkpoints/*/complete"))
    assert not (killed / "fold0" / "oof.parquet").exists()
    assert main([*command[3:], "run=killed"]) == 0 and "done in" in capsys.readouterr().out
    for file in ("history.jsonl", "model/model.safetensors"):
        assert (killed / "fold0" / file).read_bytes() == (Path(work) / "whole" / "fold0" / file).read_bytes(), file
    for file in ("oof.parquet", "test.parquet"):  # which name their run
        one, other = (pd.read_parquet(Path(work) / run / "fold0" / file) for run in ("killed", "whole"))
        assert one.equals(other), file
