"""What is wrong with parameters is told before a kernel starts, with what may have been meant."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from kagglekit.files import Damaged, hash_files
from kagglekit.files.parquet import write_parquet
from kagglekit.running.arguments import parse_arguments, read_arguments, with_defaults
from kagglekit.running.beforehand import check_beforehand, read_header
from kagglekit.running.notebook import find_notebook
from kagglekit.running.parameters import read_parameters
from kagglekit.runs.tables import write_folds

TASK = dict(kind="multiclass", id="id", text=["title", "body"], labels=["mood"], classes=["bad", "good"], metric="f1")
TASK |= dict(files={"train": "train.csv", "test": "test.csv"}, renamed={"test": {"Title": "title"}}, group=None)
TASK |= dict(pattern=None, text_separator="\ufdd0", label_columns=[], reading={})
BASE = dict(backbone="minilm", start="", learner="finetune", epochs=2.0, budget={"title": 9, "body": 0}, seed=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory, backbone):
    """A competition, and a work folder with a task and the runs base, tfidf, mlm and blend, as far as they are read."""
    place = tmp_path_factory.mktemp("place")
    (place / "data").mkdir()
    (place / "data" / "train.csv").write_text("id,title,body,mood,stars,photo\n1,a,b,good,3,x\n")
    (place / "data" / "test.csv").write_text("id,Title,body,stars,photo\n2,a,b,4,img/z.png\n")
    (place / "data" / "img").mkdir()
    (place / "data" / "img" / "x.png").touch()  # named without its ending, in a folder below
    (place / "posts.csv").write_text("text,image,photo\na,x,data/img/x.png\n\nb,,\n")
    write_folds(place / "work", ["1"], np.array([0]))
    runs = {
        "base": {"recipe": BASE, "inputs": {"folds": hash_files([place / "work" / "folds.parquet"])}},
        "tfidf": {"recipe": {"backbone": "tfidf"}},
        "mlm": {"recipe": {"objective": "mlm", "backbone": "minilm"}, "inputs": {}},
    }
    for name, params in runs.items():
        fold = place / "work" / name / "fold0"
        fold.mkdir(parents=True) if name != "mlm" else fold.parent.mkdir()
        (fold.parent / "params.json").write_text(json.dumps(params))
    for table in ("oof", "test"):
        write_parquet(place / "work" / "base" / "fold0" / f"{table}.parquet", pd.DataFrame({"id": ["1"]}), {})
    for model in ("base/fold0/model", "mlm/model"):
        shutil.copytree(backbone, place / "work" / model)
    (place / "work" / "blend" / "fold0").mkdir(parents=True)
    (place / "work" / "blend" / "weights.json").write_text("{}")
    (place / "work" / "task.json").write_text(json.dumps(TASK | {"data": str(place / "data")}))
    return place


def ask(place, notebook, *words):
    """Check a command line as `kagglekit run` does."""
    path = find_notebook(notebook)
    known, texts = read_parameters(path), [word.replace("PLACE", str(place)) for word in words]
    texts += [] if any(word.startswith("work=") for word in words) else [f"work={place / 'work'}"]
    check_beforehand(notebook, known, with_defaults(known, parse_arguments(path, known, read_arguments(texts))))


DATA = "data=PLACE/data"
ITC = '2_pretrain run=new objective=itc_itm objective_options={"image_encoder":"PLACE/work/mlm/model"}'


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("1_eda data=PLACE/dat", r"1_eda: data='.*/dat' is neither a folder nor a sample: did you mean data\?$"),
        ("1_eda data=twets", r"data='twets' is neither a folder nor a sample: did you mean tweets\?$"),
        ("1_eda data=PLACE/data/train.csv", "train.csv' is a file: name the folder"),
        (f"1_eda {DATA} labels=moods", r"labels: .*data has no column 'moods': did you mean mood\?$"),
        (f"1_eda {DATA} text=title,bodi", r"text: .* has no column 'bodi': did you mean body\?$"),
        (
            f"1_eda {DATA} template={{titel}}",
            r"template: .* has no column 'titel': did you mean title or Title\?|title\?$",
        ),
        (f"1_eda {DATA} group=zzz", "has no column 'zzz'; it has id, Title, body, stars, photo, title, mood"),
        (f"1_eda {DATA} metric=roc_auc_by:star", r"metric: .* has no column 'star': did you mean stars\?$"),
        (f"1_eda {DATA} train=trian.csv", r"train='.*trian.csv' does not exist: .*: did you mean train.csv"),
        (f"1_eda {DATA} backbone=minlm", r"backbone='minlm' is .*: did you mean minilm\?$"),
        ("3_train work=PLACE/wrk run=new", r"work='.*wrk' has no task.json: did you mean work=.*/work\?$"),
        ("3_train work=PLACE/elsewhere/new", "has no task.json: run 1_eda first, with the same work=$"),
        ("3_train run=new backbone=deberta-v3-bas", "did you mean deberta-v3-base"),
        ("3_train run=new backbone=PLACE/model/minlm", "backbone='.*/minlm': there is no folder|does not exist"),
        ("3_train run=new backbone=PLACE/data", "has no config.json: it is not the folder of a transformers model"),
        (
            "3_train run=new backbone=llama/model.gguf",
            "backbone='llama/model.gguf': .* is a GGUF file, whose weights are",
        ),
        ("3_train run=new start=bas", r"start='bas' does not exist: did you mean base\?$"),
        (
            "3_train run=new start=mlm backbone=bge-small-zh",
            "start='mlm' was made from the backbone 'minilm', not 'bge-small-zh'",
        ),
        (
            "3_train run=new start=mlm+base backbone=bge-small-zh",
            "start='mlm' was made from the backbone 'minilm', not 'bge-small-zh'",
        ),
        ("3_train run=new start=mlm+tfidf", "start='tfidf' has no model to begin from"),
        ('3_train run=new budget={"titel":5}', r"budget: 'titel' is no text column of the task: did you mean title\?"),
        ('3_train run=new truncation={"bdy":"tail"}', r"truncation: 'bdy' is no text column .* did you mean body\?"),
        ("3_train run=new swap=title,bodi", r"swap: 'bodi' is no text column of the task: did you mean body\?"),
        (
            '3_train run=new features={"numbers":["star"]}',
            r"numbers: train has no column 'star': did you mean stars\?$",
        ),
        ("3_train run=new candidates=Stars", r"candidates: train has no column 'Stars': did you mean stars\?$"),
        ('3_train run=new auxiliary={"moods":0.5}', r"auxiliary: train has no column 'moods': did you mean mood\?$"),
        ('3_train run=new features={"numbers":["mood"]}', "features: numbers: test has no column 'mood'; it has"),
        ('3_train run=new loss={"mse":{}}', "loss='mse' does not fit kind='multiclass'"),
        (
            '3_train run=new verbalizer={"god":["x"]} pattern={text}{mask}',
            r"'god' is no class .*: did you mean good\?$",
        ),
        (
            "3_train run=base epochs=3",
            "base was made with other settings: epochs was 2.0 and is 3; .*|.*epochs was 2.0",
        ),
        ("3_train run=tfidf", "made with other settings: backbone was 'tfidf' and is 'minilm'. Name another run="),
        ("3_train run=new tasks=PLACE/work,PLACE/wrk", r"tasks: .*/wrk has no task.json: did you mean .*/work\?$"),
        ("3_train run=blend", "run='blend' is a blend of 4_ensemble, and stays as it is: name another run="),
        ("3_train run=mlm", "run='mlm' is a run of 2_pretrain: name another run="),
        ("2_pretrain run=base", "run='base' is a run of 3_train: name another run="),
        (
            "4_ensemble run=base runs=tfidf",
            "run='base' is a trained run, or one of those blended: give the blend another",
        ),
        ("4_ensemble run=b runs=base,tfdif", r"runs='tfdif' does not exist: did you mean tfidf\?$"),
        ("4_ensemble run=b meta=starz", r"meta: train has no column 'starz': did you mean stars\?$"),
        ("4_ensemble run=b method=ridge", "method='ridge' is out of range: it must be one that fits a multiclass task"),
        ("5_submit run=blnd", r"run='blnd' does not exist: did you mean blend\?$"),
        (
            '5_submit run=base predict=true learn={"support":{"bad":["titel"]}}',
            r"learn: support: bad: train has no column 'titel': did you mean title",
        ),
        (
            '5_submit run=base predict=true learn={"support":{"bad":["mood"]}}',
            "learn: support: bad: test has no column 'mood'",
        ),
        (
            '5_submit run=blend predict=true learn={"pseudo":0.9}',
            "learn: run='blend' has no fine-tuned models that could learn",
        ),
        (
            f'1_eda {DATA} support={{"bad":["title"],"good":["boddy"]}}',
            r"support: good: .*data has no column 'boddy': did you mean body",
        ),
        (ITC, 'objective="itc_itm" reads texts with images: name a table of them, pairs="posts.csv"$'),
        (f"{ITC} pairs=PLACE/posts.csv pair_columns=text,fotos", r"pair_columns: .*'fotos': did you mean photo\?$"),
        (f"{ITC} pairs=PLACE/data/train.csv", "pair_columns: .*train.csv has no column 'text'; it has id, title, "),
        (
            f"{ITC} pairs=PLACE/data/test.csv pair_columns=body,photo",
            "test.csv: column 'photo' in row 1 is 'img/z.png': there is no such file in .*/data nor below it$",
        ),
        ("2_pretrain objective=simcse_supervised pairs=PLACE/posts.csv", "pairs: .*posts.csv has no column 'anchor'"),
        ("2_pretrain texts=PLACE/posts.csv text_column=text+boddy", "text_column: .*posts.csv has no column 'boddy'"),
        (
            '3_train run=new features={"images":"photo"} start=mlm',
            "features: images: test: column 'photo' in row 1 is 'img/z.png': there is no such file in .*/data nor",
        ),
        ("5_submit run=base full=only", "full: run='base' has no model of all rows: run 3_train with full_fit=true"),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_told_before_a_kernel_starts(place, words, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        ask(place, *words.split(" "))


def test_a_cascade_does_not_fit_values(place, tmp_path):
    work = shutil.copytree(place / "work", tmp_path / "work")
    task = TASK | {"kind": "regression", "metric": "rmse", "classes": [], "data": str(place / "data")}
    (work / "task.json").write_text(json.dumps(task))
    cascade = 'cascade=[["base", 1], ["tfidf", 0.3]]'
    ask(place, "4_ensemble", "run=b", cascade)
    with pytest.raises(ValueError, match="method='cascade' is out of range: it must be one that fits a regression"):
        ask(place, "4_ensemble", f"work={work}", "run=b", cascade)


@pytest.mark.parametrize(
    "words",
    [
        f"1_eda {DATA} labels=MOOD text=title,body metric=roc_auc_by:stars",
        f"1_eda {DATA} backbone=distilroberta-base",
        f"1_eda {DATA} backbone=bert-base-cased",
        '3_train run=new budget={"title":5} swap=title,body features={"numbers":["stars"]} start=mlm+base',
        "3_train run=new backbone=someone/some-model",
        "3_train run=base epochs=3 overwrite=true",
        "4_ensemble run=blend runs=base,tfidf meta=words,stars",
        f"{ITC} pairs=PLACE/posts.csv",
        f"{ITC} pairs=PLACE/posts.csv pair_columns=text,photo",
        "2_pretrain run=new texts=PLACE/posts.csv,PLACE/data text_column=text+photo",
        "4_ensemble run=base files=PLACE/data",
        "5_submit run=blend",
    ],
)
def test_what_is_there_and_fits_is_let_pass(place, words, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if "run=base files" in words:  # with files the task is theirs, and the name still that of a trained run
        with pytest.raises(ValueError, match="run='base' is a trained run"):
            ask(place, *words.split(" "))
        return
    ask(place, *words.split(" "))


def test_the_settings_of_a_run_are_compared_as_far_as_they_were_given(place):
    same = ["epochs=2", "learner=finetune", 'budget={"title": 9}']
    ask(place, "3_train", "run=base", *same)
    for other, told in (('budget={"title": 8}', "budget was"), ("budget={}", "budget was"), ("seed=1", "seed was 0")):
        name = other.split("=")[0]
        with pytest.raises(ValueError, match=f"base was made with other settings: {told}"):
            ask(place, "3_train", "run=base", *(word for word in same if not word.startswith(name)), other)


def test_more_seeds_than_a_run_has_are_let_pass_and_fewer_are_not(place):
    ask(place, "3_train", "run=base", "epochs=2", 'budget={"title": 9}', "seeds=2")
    fold, table = place / "work" / "base" / "fold0", pd.DataFrame({"id": ["1"]})
    for name, seeds in (("oof", 2), ("test", 2), ("seed0/oof", 1)):
        write_parquet(fold / f"{name}.parquet", table, {"seeds": seeds})
    ask(place, "3_train", "run=base", "epochs=2", 'budget={"title": 9}', "seeds=3")
    with pytest.raises(
        ValueError, match=r"other settings: it has 2 seeds, of which seeds=2 trains none again, and seeds"
    ):
        ask(place, "3_train", "run=base", "epochs=2", 'budget={"title": 9}')
    for name in ("oof", "test", "seed0/oof"):
        (fold / f"{name}.parquet").unlink()


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", "\ufeffid,text\n1,x\n".encode(), ["id", "text"]),
        ("a.csv", b"id;text\n1;x\n", []),
        ("a.tsv", b"id\ttext\n", ["id", "text"]),
        ("a.csv", "id,caf\xe9\n".encode("latin-1"), []),
        ("a.parquet", b"PAR1", []),
        ("a.csv", b"", []),
    ],
)
def test_the_first_line_is_read_where_it_tells(tmp_path, name, content, columns):
    (tmp_path / name).write_bytes(content)
    assert read_header(tmp_path / name) == columns


def test_a_mistake_costs_no_more_than_two_seconds_and_nothing_heavy(place):
    line = [sys.executable, "-X", "importtime", "-m", "kagglekit.run", "3_train", f"work={place / 'work'}", "run=new"]
    line += ['features={"numbers": ["star"]}']
    began = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert done.returncode == 2 and done.stderr.splitlines()[-1].endswith("did you mean stars?")
    assert time.monotonic() - began < 20  # 0.3 s where the machine is idle
    loaded = {row.split("|")[-1].strip() for row in done.stderr.splitlines() if row.startswith("import time:")}
    assert not loaded & {"torch", "pandas", "sklearn", "transformers", "nbformat", "papermill"}


def test_a_damaged_task_is_named_with_what_makes_it_again(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "task.json").write_text("")
    with pytest.raises(Damaged, match=r"task.json is empty \(0 bytes\): run 1_eda again"):
        ask(tmp_path, "3_train", "run=new")
