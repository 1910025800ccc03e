"""The table of all runs, as `--summary` prints it: exact lines of made-up work folders."""

import json

import pytest

from kagglekit.files import read_json, write_json
from kagglekit.reports.overview import read_overview, summarize
from kagglekit.reports.run_settings import describe_settings, find_differences, write_value
from kagglekit.run import main
from kagglekit.runs.record import RunRecord
from tests.reports.conftest import add_blend, add_marker


def set_score(work, run, score, error=0.01, **more):
    written = read_json(work / run / "score.json")
    write_json(work / run / "score.json", written | {"score": score, "standard_error": error} | more)


def lines_of(work):
    lines = summarize(work).splitlines()
    assert max(map(len, lines)) <= 80, lines
    return lines


def test_all_runs_stand_in_one_table_the_best_first_and_partial_ones_below(made, capsys):
    ema = {"tricks": {"EMA": {"decay": 0.99}, "FGM": {}}}
    runs = {"tfidf": (1.5, range(3), {"backbone": "tfidf"}), "base": 2.0, "ema": (2.2, range(3), ema)}
    runs |= {"try": (3.0, [0, 1], {"epochs": 1.0}), "begun": (1.0, [], {"max_length": 512, "epochs": 1.0})}
    work = made("multiclass", runs)
    add_blend(work, "blend", ["tfidf", "base"])
    for run, score in {"tfidf": 0.91, "base": 0.9, "ema": 0.92, "try": 0.99}.items():
        set_score(work, run, score)
    set_score(work, "blend", 0.93, cross_fitted=0.93, low=0.9, high=0.96, warnings=["the plain mean does as well"])
    add_marker(work, "1_eda", 20.0)
    add_marker(work, "3_train.base", 3672.0, run="base", minute=1)
    (work / "notebooks/3_train.begun.failed.ipynb").write_text("{}")
    (work / "notebooks/lab").mkdir()
    (work / "submission.csv").write_text("id\n")
    write_json(work / "submission.json", {"run": "blend", "metric": "accuracy", "true_score": 0.94})
    assert main(["--summary", "runs/bbc"]) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(work)
    assert lines_of(work) == [
        "run    accuracy         folds      time  settings that differ",
        "blend  0.9300 ± 0.0100  3 of 3   in lab  blend of tfidf, base (mean)",
        "ema    0.9200 ± 0.0100  3 of 3   in lab  like base: tricks={EMA: {decay: 0.99},",
        "                                         FGM}",
        "tfidf  0.9100 ± 0.0100  3 of 3   in lab  backbone=tfidf",
        "base   0.9000 ± 0.0100  3 of 3  1:01:12  the defaults",
        "try    0.9900 ± 0.0100  2 of 3   in lab  folds 0-1 of 3: not comparable with the",
        "                                         others; like base: epochs=1",
        "begun                           cut off  no fold is finished; like try:",
        "                                         max_length=512",
        "",
        "blend       95 % interval 0.9000 to 0.9600; the plain mean does as well",
        "submission  runs/bbc/submission.csv, from blend",
        "true score  accuracy 0.9400 (on the held-back test labels)",
        "notebooks   runs/bbc/notebooks/: 1_eda 0:20",
    ]


@pytest.mark.parametrize(("kind", "metric"), [("regression", "mcrmse"), ("binary", "accuracy")])
def test_the_best_is_first_whichever_direction_is_better(made, kind, metric):
    work = made(kind, {"bad": 0.5, "good": 3.0})
    head, *rows = lines_of(work)
    assert head.split()[:2] == ["run", metric] and [row.split()[0] for row in rows[:2]] == ["good", "bad"]
    scores = [read_json(work / name / "score.json")["score"] for name in ("good", "bad")]
    assert [row.split()[1] for row in rows[:2]] == [f"{score:.4f}" for score in scores]


def test_a_run_that_was_cut_off_before_it_was_scored_is_scored_here(made):
    work = made("multiclass", {"base": 2.0})
    right = read_json(work / "base/score.json")["score"]
    (work / "base/score.json").unlink()
    assert f"base  {right:.4f} ± " in lines_of(work)[1]
    set_score_of_fewer = {"metric": "accuracy", "score": 0.1, "standard_error": 0.1, "folds": {"0": 0.1}}
    write_json(work / "base/score.json", set_score_of_fewer)  # folds came since
    assert f"base  {right:.4f} ± " in lines_of(work)[1]


def test_with_keep_best_the_honest_score_stands_in_the_table(made):
    work = made("multiclass", {"base": (2.0, range(3), {"keep_best": True})})
    set_score(work, "base", 0.95, cross_fitted=0.91)
    lines = lines_of(work)
    assert lines[1].startswith("base  0.9100 ± 0.0100")
    assert "by itself, which is too good" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("file", "named", "kept"),
    [
        ("base/score.json", "run 3_train again with run=base", "tfidf"),
        ("base/params.json", "3_train again with run=base", "tfidf"),
        ("base/fold1/oof.parquet", "delete", "tfidf"),
        ("folds.parquet", "run 1_eda again", "base"),
        ("task.json", "run 1_eda again", "base"),
        ("submission.json", "run 5_submit again", "base"),
        ("notebooks/1_eda.done.json", "1_eda.done.json", "base"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(made, file, named, kept):
    work = made("multiclass", {"base": 2.0, "tfidf": (1.0, range(3), {"backbone": "tfidf"})})
    whole = lines_of(work)
    add_marker(work, "1_eda")
    (work / "submission.json").write_text("{}")
    (work / file).write_text("garbled")
    text = summarize(work)
    row = next(line for line in whole if line.startswith(kept)).split()[:3]
    assert next(line for line in text.splitlines() if line.startswith(kept)).split()[:3] == row
    told = " ".join(text.partition("damaged")[2].split())
    assert file.rpartition("/")[2] in told and named in told


def test_a_folder_without_runs_says_what_comes_next(made, tmp_path):
    work = made("multiclass")
    add_marker(work, "1_eda", 20.0)
    assert lines_of(work) == [
        "notebooks  runs/bbc/notebooks/: 1_eda 0:20",
        "runs       none yet: python -m kagglekit.run 3_train work=runs/bbc run=base",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has no runs, and no finished notebooks: begin with 1_eda"):
        summarize(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        summarize(tmp_path / "nowhere")


def test_a_blend_of_files_from_elsewhere_has_no_folds_to_lack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores = {"metric": "log_loss", "score": 0.4, "standard_error": 0.02, "folds": {"0": 0.3, "1": 0.5}}
    write_json(tmp_path / "w/blend/score.json", scores)
    write_json(tmp_path / "w/blend/weights.json", {"members": ["a", "b"], "plan": {"method": "mean"}})
    assert lines_of(tmp_path / "w")[1] == "blend  0.4000 ± 0.0200  2 of 2     -  blend of a, b (mean)"


def test_long_names_and_long_settings_stay_within_80_columns(made):
    recipe = {"tricks": {name: {"start": 0.123456} for name in ("FGM", "EMA", "RDrop", "AWP")}, "epochs": 12.0}
    lines = lines_of(made("multiclass", {"x" * 60: (2.0, range(3), recipe), "y" * 26: 1.0}))
    assert "x" * 60 in lines
    assert "RDrop: {start: 0.123456}" in " ".join(" ".join(lines).split())


def test_the_time_of_a_run_in_parallel_is_that_of_all_its_copies(made):
    work = made("multiclass", {"base": 2.0})
    add_marker(work, "3_train.base", 10.0)
    for fold in range(3):
        copy = {"metadata": {"papermill": {"duration": 20.0}}}
        (work / f"notebooks/3_train.base.fold{fold}.ipynb").write_text(json.dumps(copy))
    assert read_overview(work).rows[0].seconds == 70.0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"FGM": {"epsilon": 0.5}, "EMA": {}}, "{FGM: {epsilon: 0.5}, EMA}"),
        ({"alpha": 1.0}, "{alpha: 1}"),
        (["a", "b"], "[a, b]"),
        (2e-5, "2e-05"),
        (None, "None"),
        (True, "True"),
        ("/home/someone/models/big", "big"),
        ("C:\\Users\\someone\\big", "big"),
        ("org/model", "org/model"),
    ],
)
def test_a_setting_is_written_short_and_without_the_places_of_this_machine(value, text):
    assert write_value(value) == text


def test_differences_are_those_to_the_defaults_or_to_an_earlier_run(tmp_path):
    def run(name, **recipe):
        write_json(tmp_path / name / "params.json", {"recipe": {"backbone": "minilm", **recipe}, "inputs": {}})
        return RunRecord(tmp_path / name)

    base, tfidf = run("base", start="mlm", epochs=5.0), run("tfidf", backbone="tfidf")
    assert describe_settings(base, [tfidf]) == "start=mlm epochs=5"  # of another learner
    assert describe_settings(tfidf, [base]) == "backbone=tfidf"
    assert describe_settings(run("two", start="mlm", epochs=5.0, seed=1), [base, tfidf]) == "like base: seed=1"
    assert describe_settings(run("three"), [base]) == "the defaults"
    assert describe_settings(run("four", start="mlm", epochs=5.0), [base]) == "like base: the same settings"
    assert find_differences({"epochs": 3.0}, {"seed": 7}) == {"seed": 0}  # back to the default


def test_runs_of_two_metrics_say_which(made):
    work = made("multiclass", {"base": 2.0, "old": 1.0})
    set_score(work, "old", 0.5, metric="f1_macro")
    rows = {line.split()[0]: line for line in lines_of(work)[1:3]}
    assert "accuracy 0." in rows["base"] and "f1_macro 0.5000" in rows["old"]
