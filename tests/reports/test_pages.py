"""Pages of HTML: every id and link resolves, nothing comes from elsewhere, texts are only texts, damage is named."""

import base64
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kagglekit.__main__ import main
from kagglekit.competition.submission import make_submission, write_submission
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.files import read_json, write_json
from kagglekit.reports.compare import main as compare
from kagglekit.reports.executed import read_sections
from kagglekit.reports.page import hide_places
from kagglekit.reports.report import SECTIONS, write_report, write_summary
from kagglekit.run import main as run
from kagglekit.runs.tables import read_folds, read_run
from tests.reports.conftest import EVIL, add_blend, add_marker

VOID = {"meta", "img", "br", "link", "input", "hr"}
ALLOWED = {
    *[
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "li",
        "a",
        "b",
        "code",
        "pre",
        "figure",
        "figcaption",
    ],
    *["img", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "span"],
}


class Parsed(HTMLParser):
    """Tags, ids, links, pictures and plain words of a page; every tag that is opened is closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.ids, self.links, self.images, self.labels, self.open, self.words = [], [], [], [], [], [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        assert not [name for name in found if name.startswith("on")], found
        assert "src" not in found or tag == "img"
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.labels += [found["aria-labelledby"]] if "aria-labelledby" in found else []
        self.images += [found] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def headings(self):
        return [int(tag[1]) for tag in self.tags if re.fullmatch("h[1-6]", tag)]


def check_page(path):
    """A page that can be sent: whole, by itself, accessible, and without the places of this machine."""
    page, source = Parsed(path), path.read_text()
    assert set(page.tags) <= ALLOWED and "url(" not in source and "@import" not in source
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", source)
    assert len(set(page.ids)) == len(page.ids)
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links) and set(page.labels) <= set(page.ids)
    for image in page.images:
        kind, _, data = image["src"].partition(",")
        assert (
            kind == "data:image/png;base64" and base64.b64decode(data).startswith(b"\x89PNG") and image["alt"].strip()
        )
    levels = page.headings()
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert str(Path.cwd()) not in source and str(Path.home()) not in source
    return page


def submit(work, run_name):
    """What 5_submit writes."""
    task = load_task(work)
    train, test, sample = read_train(task), read_test(task), read_sample(task)
    result = read_run(work, run_name, task, read_folds(work, train["id"]), test["id"])
    write_submission(make_submission(task, sample, test["id"], result.test_mean), work / "submission.csv", task.header)
    write_json(work / "submission.json", {"run": run_name, "metric": task.metric, "true_score": 0.77, "full": ""})


def write_executed(work, *cells):
    """An executed 1_eda."""
    content = {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = work / "notebooks" / "1_eda.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def cell(source, *outputs):
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": list(outputs)}


def words(source):
    return {"cell_type": "markdown", "metadata": {}, "source": source}


@pytest.mark.parametrize(
    ("kind", "targets"),
    [("multiclass", 1), ("binary", 1), ("multilabel", 1), ("ordinal", 1), ("regression", 1), ("regression", 2)],
)
def test_the_report_of_any_kind_of_task_is_whole(made, kind, targets, capsys):
    work = made(kind, {"base": 1.5, "tfidf": (1.0, range(3), {"backbone": "tfidf"})}, targets=targets)
    add_blend(work, "blend", ["base", "tfidf"])
    add_marker(work, "1_eda", data=str(work / "data"), seed=3)
    submit(work, "blend")
    assert main(["report", "runs/bbc"]) == 0
    assert "written: runs/bbc/report.html" in capsys.readouterr().out
    page = check_page(work / "report.html")
    assert "Not shown" not in page.text and "Damaged" not in page.text
    assert [tag for tag in page.tags if tag == "h2"] == ["h2"] * len(SECTIONS)
    score = read_json(work / "blend/score.json")
    assert f"{load_task(work).metric} {score['cross_fitted']:.4f} ± {score['standard_error']:.4f}" in page.text
    assert f"95 % interval {score['low']:.4f} to {score['high']:.4f}" in page.text
    assert "submission.csv has 20 rows, made from blend, and passes all checks" in page.text
    assert "python -m kagglekit.run 1_eda work=runs/bbc data=data seed=3" in page.text
    assert "4_ensemble work=runs/bbc run=blend 'runs=[" in page.text and "5_submit work=runs/bbc run=blend" in page.text
    assert "On the held-back test labels" in page.text and "0.7700" in page.text
    assert ("nothing to calibrate" in page.text) == (kind in ("ordinal", "regression"))
    assert ("right; most often wrong" in page.text) == (kind in ("multiclass", "binary", "ordinal"))


def test_texts_and_labels_are_shown_and_never_run(made):
    """Rows whose texts hold HTML, and a class that is named <b>0</b>."""
    work = made("multiclass", {"base": 0.1, "other": 0.2})
    for path in (write_report(work), write_summary(work)):
        check_page(path)
    compare(["base", "other", "work=runs/bbc", "--html"])
    for name in ("report.html", "compare.base.other.html"):
        page = Parsed(work / name)
        assert 'alert("x")' in page.text and "<b>0</b>" in page.text and "script" not in page.tags


def test_what_1_eda_showed_is_folded_in_and_its_html_is_read_as_text(made):
    work = made("multiclass", {"base": 1.5})
    home = f"read from {Path.home()}/secret/train.csv and /home/someone/x"
    html = f"<table><thead><tr><th>what</th><th>n</th></tr></thead><tr><td>{EVIL}text</td><td>1,490</td></tr></table>"
    png = {"image/png": base64.b64encode(b"\x89PNG\r\n").decode()}
    write_executed(
        work,
        words("# 1\n\nintro"), cell("import x"),
        words("## Task\n\nEach line was `inferred`."),
        cell("print(1)", {"output_type": "stream", "name": "stdout", "text": [home]}),
        cell("noise()", {"output_type": "stream", "name": "stderr", "text": "warning: noise"}),
        words("## Labels\n\nHow many."), cell("plot()", {"output_type": "display_data", "data": png}),
        words("Nothing is below this."), cell("table", {"output_type": "execute_result", "data": {"text/html": html}}),
        words("These words have no output."), cell("pass"),
        words("## Empty\n\nNo outputs."), cell("pass"),
    )  # fmt: skip
    sections = read_sections(work / "notebooks/1_eda.ipynb")
    assert list(sections) == ["Task", "Labels"]
    page = check_page(write_report(work))
    text = page.text
    assert "Each line was inferred" in text and "print(1)" in text and "Labels: a picture" in page.images[0]["alt"]
    assert "noise" not in text and "These words have no output" not in text and "someone" not in text
    assert "read from ~/secret/train.csv and ~/x" in text and "1,490" in text


@pytest.mark.parametrize(
    ("file", "gone", "kept"),
    [
        ("base/score.json", "base/score.json is", ["Blend", "Errors", "Data"]),
        ("base/params.json", "base/params.json is", ["Errors", "Data"]),
        ("blend/weights.json", "blend/weights.json is", ["Data", "Runs"]),
        ("blend/fold1/oof.parquet", "oof.parquet is", ["Runs", "How to make it again"]),
        ("folds.parquet", "folds.parquet is", ["Task", "Runs"]),
        ("task.json", "task.json is", ["Runs", "How to make it again"]),
        ("submission.json", "submission.json is", ["Runs", "Errors", "Submission"]),
        ("submission.csv", "submission", ["Runs", "Errors", "Blend"]),
        ("notebooks/1_eda.ipynb", "1_eda.ipynb is", ["Runs", "Errors", "Blend"]),
        ("base/fold0/history.jsonl", "history.jsonl is", ["Task", "Errors", "Blend"]),
        ("data/train.csv", "have changed since", ["Task", "Runs", "How to make it again"]),
    ],
)
def test_one_damaged_file_is_named_and_the_rest_is_shown(made, file, gone, kept):
    work = made("multiclass", {"base": 1.5, "tfidf": (1.0, range(3), {"backbone": "tfidf"})})
    add_blend(work, "blend", ["base", "tfidf"])
    submit(work, "blend")
    write_executed(work, words("## Labels"), cell("1", {"output_type": "stream", "name": "stdout", "text": "shown"}))
    (work / file).write_text("garbled")
    page, source = check_page(write_report(work)), (work / "report.html").read_text()
    assert gone in page.text
    for title in kept:
        part = re.search(rf"<h2 [^>]*>{title}</h2>(.*?)</section>", source, re.S).group(1)
        assert len(part) > 200 and not part.startswith('<p class="warn">'), title


def test_a_folder_with_1_eda_alone_and_an_empty_one(made, tmp_path, capsys):
    work = made("multiclass")
    page = check_page(write_report(work))
    assert "There are no runs yet." in page.text and "label (3 classes) from text; 60 labelled rows" in page.text
    check_page(write_summary(work))
    (tmp_path / "empty").mkdir()
    for command in (["report", "empty"], ["report", "nowhere"]):
        assert main(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        "empty has no runs, and no finished notebooks: begin with 1_eda",
        "nowhere does not exist",
    ]


def test_a_blend_of_files_made_elsewhere_is_reported_with_their_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from tests.conftest import run_cells

    rng, truth = np.random.default_rng(0), np.arange(60) % 3
    for name in ("one", "two"):
        probs = rng.random((60, 3)) + 0.5 * np.eye(3)[truth]
        table = pd.DataFrame(probs / probs.sum(axis=1, keepdims=True), columns=["a", "b", "c"])
        table.insert(0, "id", range(60))
        (tmp_path / "files").mkdir(exist_ok=True)
        table.assign(label=np.array(list("abc"))[truth], fold=np.arange(60) % 3).to_csv(
            f"files/{name}.csv", index=False
        )
    run_cells("4_ensemble", work="runs/f", files="files", method="mean")
    work = tmp_path / "runs/f"
    add_marker(work, "4_ensemble.blend", run="blend", files="files")
    page = check_page(write_report(work))
    assert "rows right; most often wrong" in page.text and "a blend of one, two" in page.text
    assert "weight of each run" in page.text and "ECE" in page.text


def test_the_summary_as_a_page_has_the_table_and_says_where_it_is(made, capsys):
    work = made("multiclass", {"base": 1.5, "try": (2.0, [0, 1], {"epochs": 1.0})})
    assert run(["--summary", "runs/bbc", "--html"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "written: runs/bbc/summary.html"
    page = check_page(work / "summary.html")
    assert "folds 0-1 of 3: not comparable with the others" in page.text
    assert any("over the steps" in image["alt"] for image in page.images)


def test_places_of_this_machine_are_taken_out_of_a_page(tmp_path):
    work, data = tmp_path / "a" / "bbc", tmp_path / "some data"
    text = f"{work}/base, {data}/train.csv, {Path.home()}/x, {work}-old, see /usr/bin"
    home = "~" if len(Path.home().parts) > 1 else ""
    assert (
        hide_places(text, work, str(data)) == f"runs/bbc/base, some data/train.csv, {home}/x, {work}-old, see /usr/bin"
    )


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_a_picture_is_told_in_words(made, kind):
    work = made(kind, {"base": 1.5})
    task = load_task(work)
    labels, page = encode_labels(task, read_train(task)), check_page(write_report(work))
    alts = [image["alt"] for image in page.images]
    counts = np.bincount(labels) if kind == "multiclass" else labels.sum(axis=0).astype(int)
    told = [f"{name} {count}" for name, count in zip(task.classes or task.labels, counts, strict=True)]
    told = [f"score {labels[:, 0].min():.4g} to {labels[:, 0].max():.4g}"] if kind == "regression" else told
    assert f"Texts of each label: {', '.join(told)}" in alts[0] and len(set(alts)) == len(alts)
