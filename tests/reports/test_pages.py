"""Pages of HTML: every id and link resolves, nothing comes from elsewhere, texts are only texts, damage is named."""

import base64
import re
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kagglekit.__main__ import main
from kagglekit.competition.task import load_task
from kagglekit.files import read_json
from kagglekit.reports.compare import main as compare
from kagglekit.reports.executed import read_sections
from kagglekit.reports.overview import read_overview
from kagglekit.reports.page import hide_places
from kagglekit.reports.paired import read_data
from kagglekit.reports.report import write_report, write_summary
from kagglekit.reports.reproduce import list_commands
from kagglekit.reports.sections import OPEN, SECTIONS, count_labels
from kagglekit.run import main as run
from kagglekit.running.notebook import find_notebook
from tests.conftest import run_cells
from tests.reports.conftest import EVIL, PNG, add_blend, add_marker, cell, fake_run, words, write_executed

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


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "ordinal", "regression"])
def test_the_report_of_any_kind_of_task_is_whole(of_kind, monkeypatch, kind, capsys, drawn):
    work = of_kind(kind)
    monkeypatch.chdir(work.parents[1])
    assert main(["report", "runs/bbc"]) == 0
    assert "written: runs/bbc/report.html" in capsys.readouterr().out
    page = check_page(work / "report.html")
    assert "Not shown" not in page.text and "Damaged" not in page.text and "shown" in page.text
    assert [tag for tag in page.tags if tag == "h2"] == ["h2"] * len(SECTIONS)
    score = read_json(work / "blend/score.json")
    assert f"{load_task(work).metric} {score['cross_fitted']:.4f} ± {score['standard_error']:.4f}" in page.text
    assert f"95 % interval {score['low']:.4f} to {score['high']:.4f}" in page.text
    assert "submission.csv has 20 rows, made from blend, and passes all checks" in page.text
    assert "python -m kagglekit.run 1_eda work=runs/bbc data=data seed=3" in page.text
    assert "4_ensemble work=runs/bbc run=blend 'runs=[" in page.text and "5_submit work=runs/bbc run=blend" in page.text
    assert f"True score: {load_task(work).metric} 0.7700 on the held-back test labels." in page.text
    assert ("nothing to calibrate" in page.text) == (kind in ("ordinal", "regression"))
    assert ("right; most often wrong" in page.text) == (kind in ("multiclass", "ordinal"))


def test_a_blend_that_was_made_in_jupyterlab_and_submitted_in_batch_has_its_command(made):
    work = made("multiclass", {"one": 1.0, "two": 0.5})
    add_blend(work, "blend", ["one", "two"])
    add_marker(work, "5_submit.blend", run="blend")
    commands = list_commands(read_overview(work))
    assert [line.split()[3] for line in commands] == ["5_submit", "3_train", "3_train", "4_ensemble"]


def test_texts_and_labels_are_shown_and_never_run(of_kind):
    """Rows whose texts hold HTML, and a class that is named <b>0</b>."""
    work = of_kind("multiclass")
    assert compare(["weak", "good", f"work={work}", "--html"]) == 0
    paths = [write_report(work), work / "compare.weak.good.html"]
    for page in map(check_page, paths):
        assert 'alert("x")' in page.text and "<b>0</b>" in page.text
    check_page(write_summary(work))


def test_what_1_eda_showed_is_folded_in_and_its_html_is_read_as_text(made):
    work = made("multiclass")
    home = f"read from {Path.home()}/secret/train.csv and /home/someone/x"
    row = f"<tr><td>{EVIL}{escape(EVIL)}</td><td>1,490</td></tr>"
    html = f"<table><thead><tr><th>what</th><th>n</th></tr></thead>{row}</table>"
    png = {"image/png": base64.b64encode(PNG).decode()}
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
        cell("section()", {"data": {"text/markdown": "## Shown by code\n\nSaid by code."}}, {"text": "printed"}),
    )  # fmt: skip
    sections = read_sections(work / "notebooks/1_eda.ipynb")
    assert list(sections) == ["Task", "Labels", "Shown by code"]
    page = check_page(write_report(work))
    text = page.text
    assert "Each line was inferred" in text and "print(1)" in text and "Labels: a picture" in page.images[0]["alt"]
    assert "noise" not in text and "These words have no output" not in text and "someone" not in text
    assert "Said by code. printed" in text
    assert "read from ~/secret/train.csv and ~/x" in text and "1,490" in text


def test_the_sections_of_1_eda_that_are_open_are_there():
    cells = read_json(find_notebook("1_eda"))["cells"]
    headings = re.findall(r"(?m)^## (.*)$", "\n".join("".join(cell["source"]) for cell in cells))
    assert {*OPEN, "Task", "Result"} <= {*headings}


@pytest.mark.parametrize(
    ("file", "gone", "kept"),
    [
        ("good/params.json", "good/params.json is", ["Blend", "Errors", "Data"]),
        ("blend/weights.json", "blend/weights.json is", ["Data", "Runs", "Errors"]),
        ("blend/fold1/oof.parquet", "oof.parquet is", ["Runs", "How to make it again"]),
        ("task.json", "task.json is", ["Runs", "How to make it again"]),
        ("submission.csv", "submission", ["Runs", "Errors", "Blend"]),
        ("notebooks/1_eda.ipynb", "1_eda.ipynb is", ["Runs", "Errors", "Blend"]),
        ("good/fold0/history.jsonl", "history.jsonl is", ["Task", "Errors", "Blend"]),
        ("data/train.csv", "have changed since", ["Task", "Runs", "How to make it again"]),
    ],
)
def test_one_damaged_file_is_named_and_the_rest_is_shown(damaged, file, gone, kept):
    work = damaged(file)
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
    work = made("multiclass", {"base": 1.5})
    fake_run(work, "try", 0.5, [0, 1], recipe={"epochs": 1.0})
    assert run(["--summary", "runs/bbc", "--html"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "written: runs/bbc/summary.html"
    page = check_page(work / "summary.html")
    assert "folds 0-1 of 3: not comparable with the others" in page.text
    assert any("over the steps" in image["alt"] for image in page.images)


@pytest.mark.parametrize(("home", "shown"), [("/home/ann", "~/x"), ("/", "/home/ann/x")])
def test_places_of_this_machine_are_taken_out_of_a_page(home, shown, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", home)
    work, data = tmp_path / "a" / "bbc", tmp_path / "some data"
    text = f"{work}/base, {data}/train.csv, /home/ann/x, {work}-old, 3 / 4, see /usr/bin"
    there = f"runs/bbc/base, some data/train.csv, {shown}, {work}-old, 3 / 4, see /usr/bin"
    assert hide_places(text, work, str(data)) == there


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_a_picture_is_told_in_words(of_kind, kind):
    """Without the executed copy of 1_eda, whose pictures have the words of their headings."""
    data = read_data(of_kind(kind))
    task, labels = data.task, np.asarray(data.labels)
    path = write_report(of_kind(kind))
    assert "Labels" in path.read_text()
    counts = np.bincount(labels) if kind == "multiclass" else labels.sum(axis=0).astype(int)
    told = ", ".join(f"{name} {count}" for name, count in zip(task.classes or task.labels, counts, strict=True))
    if kind == "regression":
        spans = zip(task.labels, labels.min(axis=0), labels.max(axis=0), strict=True)
        told = ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, low, high in spans)
    assert count_labels(labels, task.classes or task.labels) == told
    alts = [image["alt"] for image in check_page(path).images]
    assert len(set(alts)) == len(alts) > 2
