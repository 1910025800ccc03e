"""The table of all runs, as `--summary` prints it: exact lines of made-up work folders."""

import numpy as np
import pytest

from kagglekit.files import read_json, write_json
from kagglekit.reports.overview import read_overview
from kagglekit.reports.report import write_report
from kagglekit.reports.run_settings import describe_settings, find_differences, write_value
from kagglekit.reports.summary import summarize, write_next
from kagglekit.run import main
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import write_folds
from tests.reports.conftest import add_marker, fake_run, make_work


def lines_of(work):
    lines = summarize(work).splitlines()
    assert max(map(len, lines)) <= 80, lines
    return lines


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty work folder runs/bbc of three folds."""
    monkeypatch.chdir(tmp_path)
    write_folds(tmp_path / "runs/bbc", [str(k) for k in range(6)], np.arange(6) % 3)
    return tmp_path / "runs/bbc"


def test_all_runs_stand_in_one_table_the_best_first_and_partial_ones_below(work, capsys):
    fake_run(work, "tfidf", 0.91, recipe={"backbone": "tfidf"})
    fake_run(work, "base", 0.9)
    fake_run(work, "ema", 0.92, recipe={"tricks": {"EMA": {"decay": 0.99}, "FGM": {}}})
    fake_run(work, "try", 0.99, [0, 1], recipe={"epochs": 1.0})
    fake_run(work, "begun", recipe={"max_length": 512, "epochs": 1.0})
    fake_run(work, "mlm", recipe={"objective": "mlm", "steps": 100, "epochs": 1.0})
    blend = {
        "members": ["tfidf", "base"],
        "plan": {"method": "auto"},
        "chosen": {"0": "mean", "1": "best", "2": "mean"},
    }
    write_json(work / "blend/weights.json", blend)
    warnings = ["the plain mean does as well"]
    scores = {"metric": "accuracy", "score": 0.93, "cross_fitted": 0.93, "standard_error": 0.01, "warnings": warnings}
    folds = {"members": ["tfidf", "base"], "folds": {"0": 0.9, "1": 0.9, "2": 1.0}}
    write_json(work / "blend/score.json", scores | folds | {"low": 0.9, "high": 0.96})
    add_marker(work, "1_eda", 20.0)
    add_marker(work, "3_train.base", 3672.0, run="base", minute=1)
    (work / "notebooks/3_train.begun.failed.ipynb").write_text("{}")
    (work / "notebooks/lab").mkdir()
    for name in ("submission.csv", "submission.blend.csv", "submission.ema.csv"):
        (work / name).write_text("id\n")
    write_json(
        work / "submission.json",
        {"run": "blend", "metric": "accuracy", "true_score": 0.94, "new_score": 0.93, "new_rows": 90},
    )
    assert main(["--summary", "runs/bbc"]) == 0
    assert capsys.readouterr().out.splitlines() == lines_of(work)
    assert lines_of(work) == [
        "run    accuracy         folds      time  settings that differ",
        "blend  0.9300 ± 0.0100  3 of 3   in lab  blend of tfidf, base (auto: mean, best)",
        "ema    0.9200 ± 0.0100  3 of 3   in lab  like base: tricks={EMA: {decay: 0.99},",
        "                                         FGM}",
        "tfidf  0.9100 ± 0.0100  3 of 3   in lab  backbone=tfidf",
        "base   0.9000 ± 0.0100  3 of 3  1:01:12  the defaults",
        "try    0.9900 ± 0.0100  2 of 3   in lab  folds 0-1 of 3: not comparable with the",
        "                                         others; like base: epochs=1",
        "begun                           cut off  no fold is finished; like try:",
        "                                         max_length=512",
        "mlm                              in lab  2_pretrain, has no score; steps=100",
        "",
        "blend       95 % interval 0.9000 to 0.9600; the plain mean does as well",
        "submission  runs/bbc/submission.csv, from blend, beside it submission.ema.csv",
        "true score  accuracy 0.9400 on the held-back test labels; 0.9300 on the 90 rows",
        "            whose text is not in train",
        "notebooks   runs/bbc/notebooks/: 1_eda 0:20",
        "compare     python -m kagglekit compare blend ema work=runs/bbc",
        "report      python -m kagglekit report runs/bbc",
    ]


@pytest.mark.parametrize(("metric", "first"), [("accuracy", "high"), ("log_loss", "low")])
def test_the_best_is_first_whichever_direction_is_better(work, metric, first):
    fake_run(work, "low", 0.4, metric=metric)
    fake_run(work, "high", 0.6, metric=metric)
    head, row, *_ = lines_of(work)
    assert head.split()[:2] == ["run", metric] and row.split()[0] == first


@pytest.mark.parametrize("content", [None, '{"metric": "accuracy", "score": 0.1, "folds": {"0": 0.1}}'])
def test_a_run_that_was_cut_off_before_it_was_scored_is_scored_here(damaged, of_kind, content):
    """Or whose folds came since."""
    right = read_json(of_kind("multiclass") / "good/score.json")
    row = next(line for line in lines_of(damaged("good/score.json", content)) if line.startswith("good"))
    assert row.split()[1:4] == [f"{right['score']:.4f}", "±", f"{right['standard_error']:.4f}"]


def test_with_keep_best_the_honest_score_stands_in_the_table(work):
    fake_run(work, "base", 0.95, recipe={"keep_best": True}, cross_fitted=0.91)
    lines = lines_of(work)
    assert lines[1].startswith("base  0.9100 ± 0.0100")
    assert "(0.9500 by itself, which is too good)" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize(
    ("file", "named", "kept"),
    [
        ("good/score.json", "run 3_train again with run=good", "weak"),
        ("good/params.json", "3_train again with run=good", "weak"),
        ("good/fold1/oof.parquet", "delete", "weak"),
        ("folds.parquet", "run 1_eda again", "good"),
        ("task.json", "run 1_eda again", "good"),
        ("submission.json", "run 5_submit again", "good"),
        ("notebooks/1_eda.done.json", "1_eda.done.json", "good"),
        ("blend/weights.json", "run 4_ensemble again", "good"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(damaged, of_kind, file, named, kept):
    row = next(line for line in lines_of(of_kind("multiclass")) if line.startswith(kept)).split()[:3]
    text = summarize(damaged(file))
    assert next(line for line in text.splitlines() if line.startswith(kept)).split()[:3] == row
    told = " ".join(text.partition("damaged")[2].split())
    assert file.rpartition("/")[2] in told and named in told


def test_a_folder_without_runs_says_what_comes_next(work, tmp_path):
    add_marker(work, "1_eda", 20.0)
    assert lines_of(work) == [
        "notebooks  runs/bbc/notebooks/: 1_eda 0:20",
        "runs       none yet: python -m kagglekit.run 3_train work=runs/bbc run=base",
    ]
    write_json(work / "task.json", {"kind": "multiclass"})
    fake_run(work, "base", 0.9)
    assert "submission  none yet: python -m kagglekit.run 5_submit work=runs/bbc run=base" in lines_of(work)
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


def test_records_with_little_in_them_are_shown_as_far_as_they_go(work):
    write_json(work / "blend/weights.json", {"members": ["a"]})
    write_json(work / "blend/score.json", {})
    write_json(work / "old/score.json", {"metric": "nowhere.mod:f", "score": 0.5})
    assert [line.split("  ")[0] for line in lines_of(work)[1:3]] == ["old", "blend"]
    assert "damaged  metric='nowhere.mod:f' cannot be imported" in summarize(work)
    assert write_report(work).is_file()


def test_long_names_and_long_settings_stay_within_80_columns(work):
    recipe = {"tricks": {name: {"start": 0.123456} for name in ("FGM", "EMA", "RDrop", "AWP")}, "epochs": 12.0}
    fake_run(work, "x" * 60, 0.9, recipe=recipe)
    fake_run(work, "y" * 26, 0.8)
    lines = lines_of(work)
    assert "x" * 60 in lines and "RDrop: {start: 0.123456}" in " ".join(" ".join(lines).split())


def test_the_time_of_a_run_in_parallel_is_that_of_all_its_copies(work):
    fake_run(work, "base", 0.9)
    add_marker(work, "3_train.base", 10.0)
    for fold in range(3):
        write_json(work / f"notebooks/3_train.base.fold{fold}.ipynb", {"metadata": {"papermill": {"duration": 20.0}}})
    assert read_overview(work).rows[0].seconds == 70.0


def test_runs_of_two_metrics_say_which(work):
    fake_run(work, "base", 0.9)
    fake_run(work, "old", 0.5, metric="f1_macro")
    rows = {line.split()[0]: line for line in lines_of(work)[1:3]}
    assert "accuracy 0.9000" in rows["base"] and "f1_macro 0.5000" in rows["old"]


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
    student = {"distill": {"teacher": "base", "by": "", "temperature": 2.0, "weight": 0.0, "hidden": 0.0, "rounds": 1}}
    assert describe_settings(run("six", **student), []) == "distill={teacher: base, temperature: 2, weight: 0}"
    frozen = {"classifier": "logistic", "pooling": "mean", "max_length": 64, "truncation": "head", "budget": {}}
    six = run("seven", learner="frozen", learner_options=frozen)
    assert describe_settings(six, []) == "learner=frozen learner_options={max_length: 64}"


def test_a_run_of_several_seeds_says_what_they_score_alone(work):
    fake_run(work, "base", 0.9, recipe={"seeds": 3}, seeds={"scores": [0.88, 0.87, 0.89], "folds": {}})
    fake_run(work, "one", 0.88)
    assert "mean of 3 seeds (0.8700 to 0.8900 alone); seeds=3" in " ".join(" ".join(lines_of(work)).split())


def test_commands_are_taken_by_a_shell_whatever_stands_in_the_path(tmp_path, monkeypatch):
    work = make_work(tmp_path / "my runs", "multiclass", {})
    monkeypatch.chdir(tmp_path)
    assert dict(write_next(read_overview(work)))["runs"].endswith("3_train 'work=my runs' run=base")
