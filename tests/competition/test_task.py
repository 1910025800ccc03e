"""The task of a competition travels: it is saved, loaded, and reads the rows of its files."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from kagglekit.competition.infer import infer
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.competition.text_columns import SEPARATOR
from kagglekit.files import read_json, write_json
from tests.competition.shapes import TEXTS, competition, found


def test_train_test_and_sample_are_read_as_text(tmp_path):
    extra = {"title": ["A title that speaks", "", "One more of them", "  "]}
    folder = competition(tmp_path, train=extra, test={"title": ["x", "", "z"]})
    task = found(folder, text=["title", "text"])
    train = read_train(task)
    assert train.columns.tolist() == ["id", "text", "label"]
    assert train["id"].tolist() == ["000", "001", "002", "003"]
    assert train["text"].tolist() == [
        f"A title that speaks{SEPARATOR}{TEXTS[0]}",
        f"{SEPARATOR}{TEXTS[1]}",
        f"One more of them{SEPARATOR}{TEXTS[2]}",
        f"  {SEPARATOR}{TEXTS[3]}",
    ]
    assert read_test(task).to_dict("list") == {
        "id": ["7", "8", "9"],
        "text": [f"x{SEPARATOR}{TEXTS[0]}", f"{SEPARATOR}{TEXTS[1]}", f"z{SEPARATOR}{TEXTS[2]}"],
    }
    assert read_sample(task).to_dict("list") == {"id": ["7", "8", "9"], "label": ["", "", ""]}
    encoded = encode_labels(task, train)
    assert encoded.dtype == np.int64 and encoded.tolist() == [0, 1, 0, 1]


def test_columns_beside_the_text_are_read_as_they_are_written(tmp_path):
    train, test = {"stars": ["5", "", "3", "x"], "votes": ["1", "2", "3", "4"]}, {"stars": ["1", "NA", " 2"]}
    task = found(competition(tmp_path, train=train, test=test), text="text")
    assert read_train(task, ["votes", "stars"]).columns.tolist() == ["id", "text", "label", "votes", "stars"]
    assert read_train(task, ["stars"])["stars"].tolist() == ["5", "", "3", "x"]
    assert read_test(task, ["stars"]).to_dict("list")["stars"] == ["1", "NA", " 2"]
    with pytest.raises(ValueError, match=r"test\.csv has no column 'votes': it has id, text, stars"):
        read_test(task, ["votes"])
    with pytest.raises(ValueError, match=r"train\.csv has no column 'colour': it has id, text"):
        read_train(task, ["stars", "colour"])
    for name in ("id", "text", "label"):
        with pytest.raises(ValueError, match=f"column '{name}' of train.csv cannot be read again"):
            read_train(task, [name])


def test_empty_texts_are_kept_counted_and_reported(tmp_path):
    task, findings = infer(
        competition(tmp_path, train={"text": [TEXTS[0], "", TEXTS[1], " "]}, test={"text": ["x y z", "", "z"]})
    )
    reasons = findings.set_index("what")
    assert reasons.loc["empty texts in train", "found"] == "2 of 4"
    assert "data row 2 (id '001')" in reasons.loc["empty texts in train", "reason"]
    assert reasons.loc["empty texts in test", "found"] == "1 of 3"
    assert read_train(task)["text"].tolist() == [TEXTS[0], "", TEXTS[1], ""]


def test_train_without_ids_has_its_rows_numbered(tmp_path):
    task, findings = infer(competition(tmp_path, train={"id": None}))
    assert read_train(task)["id"].tolist() == ["row1", "row2", "row3", "row4"]
    assert "ids of train" in set(findings["what"])


def test_a_saved_task_is_loaded_as_it_was(tmp_path):
    task = found(competition(tmp_path / "data"))
    assert task.save(tmp_path / "work") == tmp_path / "work" / "task.json"
    assert load_task(tmp_path / "work") == task
    assert read_json(tmp_path / "work" / "task.json") == asdict(task)
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["task.json"]


def test_a_work_folder_of_another_competition_is_refused_and_left_alone(tmp_path):
    work = tmp_path / "work"
    found(competition(tmp_path / "one")).save(work)
    before = (work / "task.json").read_bytes()
    other = found(competition(tmp_path / "two", sample="a"))
    with pytest.raises(ValueError, match=r"work belongs to another competition.*one\): use another work="):
        other.save(work)
    with pytest.raises(ValueError, match="belongs to another competition"):
        other.save(work, overwrite=True)
    assert (work / "task.json").read_bytes() == before


def test_other_settings_are_refused_once_there_are_runs(tmp_path):
    work, task = tmp_path / "work", found(competition(tmp_path / "data"))
    task.save(work)
    changed = replace(task, metric="f1_macro")
    changed.save(work)
    (work / "base").mkdir()
    (work / "base" / "params.json").write_text("{}")
    changed.save(work)
    with pytest.raises(
        ValueError, match=r"runs made for other settings \(base\); metric: 'f1_macro' is now 'accuracy'"
    ):
        task.save(work)
    replace(changed, data=str(tmp_path / "moved")).save(work)  # the same files elsewhere
    task.save(work, overwrite=True)
    assert load_task(work) == task


def test_loading_says_what_is_missing_or_has_changed(tmp_path):
    work = tmp_path / "work"
    with pytest.raises(FileNotFoundError, match=r"task\.json does not exist: run 1_eda first"):
        load_task(work)
    folder = competition(tmp_path / "data")
    found(folder).save(work)
    (folder / "test.csv").write_text("id,text\n7,x\n")
    with pytest.raises(ValueError, match=r"the files in .*data have changed since 1_eda"):
        load_task(work)
    (folder / "test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.csv is gone: put it back, or run 1_eda again"):
        load_task(work)
    (work / "task.json").write_text('{"kind": "binary"}')
    with pytest.raises(ValueError, match="another version of kagglekit"):
        load_task(work)


def test_a_task_of_version_0_2_opens(tmp_path):
    work, task = tmp_path / "work", found(competition(tmp_path / "data"))
    path = task.save(work)
    old = read_json(path)
    for name in ("renamed", "header", "layout", "mapping", "bounds", "unclear", "spellings", "joiner", "separator"):
        del old[name]
    write_json(path, old)
    assert load_task(work) == replace(task, joiner="", mapping={})


def test_what_only_the_submission_depends_on_may_change_while_there_are_runs(tmp_path):
    folder, work = competition(tmp_path / "data", columns={"label": ["0"] * 3}), tmp_path / "work"
    found(folder).save(work)
    (work / "base").mkdir()
    (work / "base" / "params.json").write_text("{}")
    said = found(folder, mapping={"a": 0, "b": 1})
    said.save(work)
    assert found(folder).unclear and not load_task(work).unclear and load_task(work) == said
