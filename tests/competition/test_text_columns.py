"""Several text columns as one text: the boundary is kept by all that changes or compares texts."""

import json

import pandas as pd
import pytest

from kagglekit.augment.catalogue import make_augmenter
from kagglekit.competition.infer import infer
from kagglekit.competition.task import load_task, read_test, read_train
from kagglekit.competition.text_columns import (
    SEPARATOR,
    change_columns,
    is_empty,
    join_columns,
    read_template,
    show_columns,
    split_columns,
    swap_columns,
)
from kagglekit.data.clean import CLEANERS, clean_texts, is_installed
from kagglekit.data.duplicates import identical_groups, near_duplicate_groups
from kagglekit.files import CHECKSUM
from kagglekit.learners.tfidf import find_features

KETTLES = [f"metal kettle{SEPARATOR}lid", f"metal{SEPARATOR}kettle lid"]
ROWS = {
    "id": ["1", "2", "3", "4"],
    "rule": ["No spam", "Be kind", "", "No spam"],
    "body": ["b u y", "hey {you}", "x y", ""],
}


@pytest.fixture
def folder(tmp_path):
    table = pd.DataFrame(ROWS)
    table.assign(label=["0", "1", "0", "1"]).to_csv(tmp_path / "train.csv", index=False)
    table.to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"id": ROWS["id"], "label": "0.5"}).to_csv(tmp_path / "sample_submission.csv", index=False)
    return tmp_path


def test_columns_are_joined_empty_ones_too_and_come_apart():
    table = pd.DataFrame({"a": ["x", "", f"p{SEPARATOR}q"], "b": ["y", "z", " "]})
    texts = join_columns(table, ["a", "b"])
    assert [split_columns(text) for text in texts] == [["x", "y"], ["", "z"], ["p\ufffdq", " "]]
    assert [swap_columns(text, 0, 1) for text in texts][1] == f"z{SEPARATOR}"
    assert join_columns(table, ["a"]) == ["x", "", "p\ufffdq"]
    assert join_columns(table, ["a", "b"], "\n") == ["x\ny", "z", "p\ufffdq"]  # as version 0.2 did
    assert is_empty(f" {SEPARATOR}\n") and not is_empty(texts[1])
    assert show_columns(texts[0]) == "x ⏐ y"


@pytest.mark.parametrize("cleaner", list(filter(is_installed, CLEANERS)))
def test_no_cleaner_moves_a_boundary(cleaner):
    columns = [" Good  #day @you\u200b ", "", "ｆｕｌｌ https://x.y <b>bold</b> soooo!!! “q”", "\ufdd1 c"]
    (cleaned,) = clean_texts([SEPARATOR.join(columns)], [cleaner])
    assert split_columns(cleaned) == clean_texts(columns, [cleaner])


@pytest.mark.parametrize("recipe", [{"AEDA": {}}, {"EDA": {"replace": 0, "insert": 0}}])
def test_no_augmenter_moves_a_boundary(recipe):
    augmenter = make_augmenter(recipe, "")
    columns = ["one two three four five", "", "six seven eight nine ten"]
    changed = augmenter([SEPARATOR.join(columns)], seed=1)
    assert split_columns(changed[0]) == augmenter(columns, seed=1)
    assert changed[0] != SEPARATOR.join(columns)


def test_a_change_that_writes_the_separator_makes_no_column():
    assert change_columns([f"a{SEPARATOR}b"], lambda some: [f"{text}{SEPARATOR}" for text in some]) == [
        f"a\ufffd{SEPARATOR}b\ufffd"
    ]


def test_duplicates_and_tf_idf_see_the_boundary():
    assert identical_groups(KETTLES).tolist() == [0, 1]
    assert near_duplicate_groups(KETTLES, 0.8).tolist() == [0, 1]
    assert identical_groups([KETTLES[0], f" Metal  kettle {SEPARATOR} lid"]).tolist() == [0, 0]
    assert near_duplicate_groups([SEPARATOR, SEPARATOR], 0.8).tolist() == [0, 1]  # empty texts are no copies
    one, two = find_features([*KETTLES, *KETTLES, *["other\ufdd0words"] * 4], 2)[:2]
    assert abs(one - two).sum() > 0.1


def test_tf_idf_has_the_likeness_of_two_columns_last():
    texts = [f"metal kettle{SEPARATOR}metal kettle", f"paper bag{SEPARATOR}iron door"] * 2 + ["x\ufdd0y"] * 4
    assert find_features(texts, 2)[:, -1].toarray()[:2, 0] == pytest.approx([1, 0.0], abs=0.35)
    assert find_features([f"{SEPARATOR}the lid", f"{SEPARATOR}a kettle"] * 3, 2).shape[0] == 6  # no word in a column


def test_a_template_is_filled_and_kept(folder, tmp_path):
    task, findings = infer(folder, template="Rule: {rule} {{Post}}: {body}")
    assert task.text == ["rule", "body"]
    expected = ["Rule: No spam {Post}: b u y", "Rule: Be kind {Post}: hey {you}", "Rule:  {Post}: x y"]
    assert read_train(task)["text"].tolist()[:3] == read_test(task)["text"].tolist()[:3] == expected
    assert ("template", task.pattern, "given") in set(findings.itertuples(index=False, name=None))
    task.save(tmp_path / "work")
    assert load_task(tmp_path / "work") == task
    assert read_train(task.by_columns)["text"][0] == f"No spam{SEPARATOR}b u y"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"template": "Rule: {rules}"}, "'rules' is no column of train.csv; it has id, rule, body, label"),
        ({"template": "Rule: {rule"}, "expected '}' before end of string; write a brace itself as {{ or }}"),
        ({"template": "Rule: rule}"}, "Single '}' encountered in format string; write a brace itself as {{ or }}"),
        ({"template": "{rule!r}"}, "between braces stands the name of a column and nothing else"),
        ({"template": "{} {rule}"}, "between braces stands the name of a column and nothing else"),
        ({"template": "Rule"}, "names no column: write one in braces"),
        ({"template": ""}, "names no column: write one in braces"),
        ({"template": "{label} {rule}"}, "'label' is no column of test.csv"),
        ({"template": "{rule}", "text": ["rule", "body"]}, "name other columns: leave text out"),
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error(folder, given, message):
    with pytest.raises(ValueError) as error:
        infer(folder, **given)
    assert message in str(error.value)


def test_a_template_may_have_numbers_beside_text(folder):
    for name in ("train", "test"):
        table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
        table.assign(year="2026").to_csv(folder / f"{name}.csv", index=False)
    task = infer(folder, template="In {year}: {body}")[0]
    assert read_train(task)["text"][0] == "In 2026: b u y"


def test_a_task_of_version_0_2_joins_as_it_did(folder, tmp_path):
    task = infer(folder, text=["rule", "body"])[0]
    assert task.text_separator == SEPARATOR
    path = task.save(tmp_path / "work")
    values = json.loads(path.read_text())
    del values["text_separator"], values["pattern"], values[CHECKSUM]
    path.write_text(json.dumps(values))
    assert read_train(load_task(tmp_path / "work"))["text"].tolist() == [
        "No spam\nb u y",
        "Be kind\nhey {you}",
        "x y",
        "No spam",
    ]
    (tmp_path / "work" / "base").mkdir()
    (tmp_path / "work" / "base" / "params.json").write_text("{}")
    with pytest.raises(ValueError, match="has runs made for other settings"):
        task.save(tmp_path / "work")


def test_one_column_is_as_it_was(folder):
    task, findings = infer(folder, text="rule")
    assert read_train(task)["text"].tolist() == ROWS["rule"]
    assert "columns of a text" not in set(findings["what"])


def test_literal_text_and_columns_of_a_template():
    assert read_template("a{{b}} {x}, {y}") == [("a{", None), ("b}", None), (" ", "x"), (", ", "y")]
