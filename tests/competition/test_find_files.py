"""Which file is which, and columns that stand in other files: competitions in the shapes in which people find them."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.find_files import find_table, role_of
from kagglekit.competition.infer import infer
from kagglekit.competition.submission import check_submission, make_submission
from kagglekit.competition.task import load_task, read_sample, read_test, read_train
from kagglekit.competition.text_columns import SEPARATOR
from tests.competition.folders import BARE, IDS, PROMPTED, PROMPTS, SAMPLE, TEST, TEST_IDS, TEXTS, TRAIN, written

SHAPES = {  # files, parameters, (train, test, sample), what is told
    "usual": ({"train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": SAMPLE}, {}, "", ""),
    "no sample": (
        {"train.csv": TRAIN, "test.csv": TEST},
        {},
        "train.csv test.csv",
        "sample submission | made: id, label",
    ),
    "no sample, no ids": (
        {"train.csv": {"text": TRAIN["text"], "label": TRAIN["label"]}, "test.csv": {"text": TEST["text"]}},
        {},
        "train.csv test.csv",
        "made: label",
    ),
    "word2vec": (
        {
            "labeledTrainData.tsv": TRAIN,
            "testData.tsv": TEST,
            "unlabeledTrainData.tsv": {"id": ["u"], "text": ["words"]},
            "sampleSubmission.csv": SAMPLE,
        },
        {},
        "labeledTrainData.tsv testData.tsv sampleSubmission.csv",
        "train | labeledTrainData.tsv | it shares most columns with test, of unlabeledTrainData.tsv",
    ),
    "rounds": (
        {
            "train.csv": TRAIN,
            "test_a.csv": {**TEST, "id": list("wxyz")},
            "test_b.csv": TEST,
            "submit_example.csv": SAMPLE,
        },
        {},
        "train.csv test_b.csv submit_example.csv",
        "test | test_b.csv | it has the ids of the sample submission, of test_a.csv",
    ),
    "answers beside": (
        {"train.csv": TRAIN, "test.csv": TEST, "test_labels.csv": SAMPLE, "sample_submit.csv": SAMPLE},
        {},
        "train.csv test.csv sample_submit.csv",
        "not used | test_labels.csv",
    ),
    "stages": (
        {
            "train.csv": TRAIN,
            "test.csv": TEST,
            "sample_submission_2.csv": SAMPLE,
            "sample_submission_1.csv": {**SAMPLE, "id": list("wxyz")},
        },
        {},
        "train.csv test.csv sample_submission_2.csv",
        "sample_submission | sample_submission_2.csv | it has the ids of test",
    ),
    "below": (
        {"data/Train.csv": TRAIN, "data/Test.csv": TEST, "data/SubmissionFormat.csv": SAMPLE},
        {},
        "data/Train.csv data/Test.csv data/SubmissionFormat.csv",
        "",
    ),
    "folders": (
        {"train/data.csv": TRAIN, "test/data.csv": TEST, "sample_submission.csv": SAMPLE},
        {},
        "train/data.csv test/data.csv sample_submission.csv",
        "train | train/data.csv | by its name",
    ),
    "archive beside": (
        {"train.csv": TRAIN, "train.csv.zip": "PK", "test.csv": TEST, "sample_submission.csv": SAMPLE},
        {},
        "",
        "",
    ),
    "named": (
        {"one.csv": TRAIN, "two.csv": TEST, "three.csv": SAMPLE, "train.csv": SAMPLE},
        {"train": "one.csv", "test": "two.csv", "sample": "three.csv"},
        "one.csv two.csv three.csv",
        "not used | train.csv",
    ),
    "two trains": (
        {"toxic-train.csv": TRAIN, "bias-train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": SAMPLE},
        {"train": "bias-train.csv"},
        "bias-train.csv test.csv sample_submission.csv",
        "",
    ),
    "labels apart": (
        {
            "train_data.csv": {**TEST, "id": IDS[:4]},
            "train_label.csv": {"id": IDS[:4], "label": list("abab")},
            "test.csv": TEST,
            "sample_submission.csv": SAMPLE,
        },
        {},
        "train_data.csv test.csv sample_submission.csv",
        "join train_label.csv | label | found by 'id'; test has no row there",
    ),
    "labels of test": (
        {
            "train.csv": TRAIN,
            "test.csv": TEST,
            "test_labels.csv": {"id": TEST_IDS, "label": list("abab")},
            "sample_submission.csv": SAMPLE,
        },
        {},
        "",
        "not used | test_labels.csv | columns of the rows of test",
    ),
    "features and labels apart": (
        {
            "train_features.csv": {**TEST, "id": IDS[:4]},
            "train_labels.csv": {"id": IDS[:4], "label": list("abab")},
            "test_features.csv": TEST,
            "submission_format.csv": SAMPLE,
        },
        {},
        "train_features.csv test_features.csv submission_format.csv",
        "join train_labels.csv | label | found by 'id'; test has no row there",
    ),
    "texts as files": (
        {"train.csv": BARE, "sample_submission.csv": SAMPLE, **TEXTS},
        {},
        "train.csv test sample_submission.csv",
        "join train | text | found by 'id'; test has no row there",
    ),
    "texts as files, no sample": ({"train.csv": BARE, **TEXTS}, {}, "train.csv test", "made: id, label"),
    "texts as files, of both": (
        {"train.csv": BARE, "test.csv": {"id": TEST_IDS}, "sample_submission.csv": SAMPLE, **TEXTS},
        {},
        "",
        "join train, test | text | found by 'id'",
    ),
    "texts in a folder for each class": (
        {f"train/{'b' if row else 'a'}/r{row}.txt": text for row, text in enumerate(TRAIN["text"])}
        | {f"test/t{row}.txt": text for row, text in enumerate(TEST["text"])}
        | {"train/unsup/u1.txt": "no label", "train/urls.feat": "x"},
        {},
        "train test",
        "rows of train | 12 texts | each file is a row, and its name the id, that of its folder the label",
    ),
    "texts in a folder for each class, test too": (
        {
            f"20news-{part}/{'b' if row else 'a'}/{rows['id'][row]}": text
            for part, rows in (("train", TRAIN), ("test", TEST))
            for row, text in enumerate(rows["text"])
        },
        {},
        "20news-train 20news-test",
        "made: id, label | there is no file of one; sample= names it; the labels of test are not read",
    ),
    "texts in a table of their own": (
        {
            "train.csv": BARE,
            "test.csv": {"id": TEST_IDS},
            "sample_submission.csv": SAMPLE,
            "articles.csv": {name: TEST[name] + TRAIN[name] for name in TEST},
            "about.csv": {"source": ["x"]},
        },
        {},
        "",
        "join articles.csv | text | found by 'id'",
    ),
    "texts in a table of their own, and no test": (
        {
            "train.csv": BARE,
            "sample_submission.csv": SAMPLE,
            "articles.csv": {name: TEST[name] + TRAIN[name] for name in TEST},
        },
        {},
        "train.csv sample_submission.csv sample_submission.csv",
        "test | sample_submission.csv | there is no table of that name: its ids are those of texts in articles.csv",
    ),
    "texts in one folder, by the names of its files": (
        {
            "train.csv": {"file": [f"{id}.txt" for id in IDS], "label": TRAIN["label"]},
            "test.csv": {"file": [f"{id}.TXT" for id in TEST_IDS], "id": TEST_IDS},
            "sample_submission.csv": SAMPLE,
            **{f"docs/{name.split('/')[1]}": text for name, text in TEXTS.items()},
        },
        {},
        "",
        "join docs | text | found by 'file'",
    ),
    "columns apart, and ids that train and test share": (
        {
            "training_text.csv": "id||text\n" + "".join(f"t{n}||{text}\n" for n, text in enumerate(TRAIN["text"])),
            "test_text.csv": "id||text\n" + "".join(f"t{n}||{text}\n" for n, text in enumerate(TEST["text"])),
            "training_variants.csv": {
                "id": [f"t{n}" for n in range(12)],
                "gene": ["x", "y"] * 6,
                "label": TRAIN["label"],
            },
            "test_variants.csv": {"id": TEST_IDS, "gene": list("xyxy")},
            "submission.csv": {"id": TEST_IDS, "a": [0] * 4, "b": [1] * 4},
        },
        {},
        "training_text.csv test_text.csv submission.csv",
        "join training_variants.csv | gene, label | found by 'id'; test has no row there",
    ),
    "parts that Spark wrote": (
        {
            "train.parquet/part-00000-ab.csv": {name: cells[:5] for name, cells in TRAIN.items()},
            "train.parquet/part-00001-ab.csv": {name: cells[5:] for name, cells in TRAIN.items()},
            "train.parquet/_SUCCESS": "",
            "test.csv": TEST,
        },
        {},
        "train.parquet/part-00000-ab.csv test.csv",
        "rows of part-00000-ab.csv | 2 parts",
    ),
    "labels of test that hide": (
        {"train.csv": TRAIN, "test.csv": {**TEST, "label": [-1] * 4}, "validation.csv": TRAIN},
        {},
        "train.csv test.csv",
        "made: id, label",
    ),
    "essays beside": (
        {
            "train.csv": {**TRAIN, "essay": IDS[:3] * 4},
            "test.csv": {**TEST, "essay": TEST_IDS[:2] * 2},
            "sample_submission.csv": SAMPLE,
            **TEXTS,
        },
        {"join": {"train": "essay", "test": "essay"}, "text": ["text", "train.text"]},
        "",
        "join train, test | train.text | found by 'essay'",
    ),
    "labels apart, no sample": (
        {
            "X_train_v2.csv": {"": IDS[:4], "key": list("wxyz"), "text": TRAIN["text"][:4]},
            "Y_train_v2.csv": {"": IDS[:4], "label": list("abab")},
            "X_test_v2.csv": {"": TEST_IDS, "key": list("abcd"), "text": TEST["text"]},
        },
        {},
        "X_train_v2.csv X_test_v2.csv",
        "sample submission | made: , label",
    ),
    "examples": (
        {"train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": {"ID": TEST_IDS[2:], "label": ["b", "a"]}},
        {},
        "",
        "rows of sample_submission.csv | 2 examples | it shows the form; the submission has a row for each of the 4",
    ),
    "examples with other ids": (
        {"train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": {"ID": ["id1", "id2"], "label": ["b", "a"]}},
        {},
        "",
        "rows of sample_submission.csv | 2 examples",
    ),
    "examples without ids": (
        {"train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": {"label": ["b", "a"]}},
        {},
        "",
        "rows of sample_submission.csv | 2 examples",
    ),
    "a sample of Excel": (
        {"train.csv": TRAIN, "test.csv": TEST, "Sample_Submission.xlsx": "PK"},
        {},
        "train.csv test.csv",
        "sample_submission | none | Sample_Submission.xlsx is not read: save the sheet as CSV UTF-8 beside it",
    ),
    "a sample with tabs": (
        {"train.csv": TRAIN, "test.csv": TEST, "sample_submit.tsv": SAMPLE},
        {},
        "train.csv test.csv sample_submit.tsv",
        "delimiter of sample_submit.tsv | a tab | the submission is written with it too",
    ),
    "a sample in JSON": (
        {"train.csv": TRAIN, "test.csv": TEST, "sample.json": pd.DataFrame(SAMPLE).to_json(orient="records")},
        {},
        "train.csv test.csv sample.json",
        "format of sample.json | not that of a CSV | the submission is written as CSV",
    ),
    "parts of one table": (
        {
            "data/train-00000-of-00002.csv": {name: cells[:5] for name, cells in TRAIN.items()},
            "data/train-00001-of-00002.csv": {name: cells[5:] for name, cells in TRAIN.items()},
            "data/test-00000-of-00001.csv": TEST,
        },
        {},
        "data/train-00000-of-00002.csv data/test-00000-of-00001.csv",
        "rows of train-00000-of-00002.csv | 2 parts | their names say that they are one table",
    ),
    "labelled rows beside": (
        {
            "train.csv": TRAIN,
            "test.csv": TEST,
            "dev.csv": {**TRAIN, "id": TEST_IDS * 3},
            "labels.csv": {"label": ["a"]},
        },
        {},
        "train.csv test.csv",
        "not used | dev.csv | labelled rows as of train: extra= of 3_train learns them too\n"
        "not used | labels.csv | has label;",
    ),
    "several rows for one of test": (
        {"train.csv": TRAIN, "test.csv": TEST, "things.csv": {"id": TEST_IDS * 2, "price": range(8)}},
        {},
        "train.csv test.csv",
        "not used | things.csv | several rows for one 'id': with one row each, join= would add its columns",
    ),
    "lines of fastText": (
        {
            "train.ft.txt": "".join(f"__label__{b} {a}\n" for a, b in zip(TRAIN["text"], TRAIN["label"], strict=True)),
            "test.csv": TEST,
        },
        {},
        "train.ft.txt test.csv",
        "train.ft.txt | columns label and text | its lines are those of fastText",
    ),
    "JSON in .txt": (
        {"train.txt": pd.DataFrame(TRAIN).to_json(orient="records", lines=True), "test.csv": TEST},
        {},
        "train.txt test.csv",
        "made: id, label",
    ),
    "prompts": (
        {
            "a_train.csv": PROMPTED[0],
            "a_test.csv": PROMPTED[1],
            "prompts_train.csv": PROMPTS,
            "prompts_test.csv": {"prompt": ["p3"], "about": ["x y z"]},
            "sample_submission.csv": SAMPLE,
        },
        {"join": {"prompts_train.csv": "prompt", "prompts_test.csv": "prompt"}, "text": ["about", "text"]},
        "a_train.csv a_test.csv sample_submission.csv",
        "join prompts_train.csv, prompts_test.csv | about | found by 'prompt'",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_competition_goes_from_its_files_to_a_submission_of_its_form(tmp_path, shape):
    files, given, names, told = SHAPES[shape]
    task, findings = infer(written(tmp_path / "data", files), **given)
    names = names or "train.csv test.csv sample_submission.csv"
    assert [
        task.files.get(role) for role in ("train", "test", "sample_submission") if role in task.files
    ] == names.split()
    assert told in "\n".join(" | ".join(map(str, row)) for row in findings.itertuples(index=False))
    task.save(tmp_path / "work")
    task, sample = load_task(tmp_path / "work"), read_sample(task)
    train, test = read_train(task), read_test(task)
    assert "number 1" in train["text"][1] and "number 1" in test["text"][1] and train["label"][1] == "b"
    assert test["id"].tolist() == TEST_IDS or not task.id
    if "join" in given:
        assert all(len(text.split(SEPARATOR)) == 2 for text in [*train["text"], *test["text"]])
    submission = make_submission(task, sample, test["id"], np.full((4, 2), 0.5, dtype=np.float32))
    check_submission(submission, sample, task)
    assert len(submission) == 4 and {"label", "a"} & {*submission}


def test_no_file_has_a_header(tmp_path):
    train = "".join(f"{id}\t{text}\t{label}\n" for id, text, label in zip(*TRAIN.values(), strict=True))
    test = "".join(f"{id}\t{text}\n" for id, text in zip(*TEST.values(), strict=True))
    sample = "".join(f"{id},a\n" for id in reversed(TEST_IDS))
    task, _ = infer(written(tmp_path, {"train.tsv": train, "test.tsv": test, "sample_submit.csv": sample}))
    assert (task.id, task.text, task.labels, task.header) == ("column 1", ["column 2"], ["column 3"], False)
    frame = make_submission(task, read_sample(task), read_test(task)["id"], np.eye(2)[[0, 1, 1, 1]])
    assert frame.to_numpy().tolist() == [["t3", "b"], ["t2", "b"], ["t1", "b"], ["t0", "a"]]


def test_what_could_be_joined_is_told_with_the_parameter_that_would(tmp_path):
    files = {"train.csv": PROMPTED[0], "test.csv": {**TEST, "prompt": ["p1"] * 4}, "prompts.csv": PROMPTS}
    _, findings = infer(written(tmp_path, files))
    told = "\n".join(findings["reason"])
    assert "join={'prompts.csv': 'prompt'} would add their columns" in told
    _, findings = infer(written(tmp_path, {"test.csv": PROMPTED[1]}))
    assert "'prompt' in test has values that are not there" in "\n".join(findings["reason"])


def test_a_text_that_changes_or_is_gone_is_seen_like_any_other_file(tmp_path):
    folder = written(tmp_path / "data", {"train.csv": BARE, "sample_submission.csv": SAMPLE, **TEXTS})
    infer(folder)[0].save(tmp_path / "work")
    assert load_task(tmp_path / "work")
    (folder / "train" / "r3.txt").write_text("changed")
    with pytest.raises(ValueError, match="have changed since 1_eda read them"):
        load_task(tmp_path / "work")
    shutil.rmtree(folder / "train")
    with pytest.raises(FileNotFoundError, match="train is gone: put it back"):
        load_task(tmp_path / "work")


def test_an_index_without_a_name_is_told_and_is_no_label(tmp_path):
    for name in ("", "Unnamed: 0"):
        files = {
            "train.csv": {name: range(12), **TRAIN},
            "test.csv": TEST,
            "sample_submission.csv": {"id": TEST_IDS, "y": "a"},
        }
        task, findings = infer(written(tmp_path, files))
        assert task.labels == ["label"] and "an index that pandas wrote, most likely" in "\n".join(findings["reason"])


def test_the_encoding_of_the_largest_file_is_that_of_small_ones(tmp_path):
    texts = [f"这部电影非常好看，第{n}次" for n in range(12)]
    files = {
        "train.csv": pd.DataFrame({**TRAIN, "text": texts}).rename(columns={"label": "情感"}).to_csv(index=False),
        "test.csv": pd.DataFrame({"id": TEST_IDS, "text": texts[:4]}).to_csv(index=False),
        "sample_submission.csv": "id,情感\n" + "".join(f"{id},a\n" for id in TEST_IDS),
    }
    written(tmp_path, {name: text.encode("utf-8" if name == "test.csv" else "gb18030") for name, text in files.items()})
    task, findings = infer(tmp_path)
    assert (task.encoding, task.labels) == ("gb18030", ["情感"]) and "encoding of train.csv" in set(findings["what"])
    assert read_train(task)["text"].tolist() == texts and read_test(task)["text"].tolist() == texts[:4]
    assert read_sample(replace(task, encoding="gb18030")).columns[1] == "情感"


NAMES = {
    "train": "train Train train_data labeledTrainData train_set trainset training jigsaw-toxic-comment-train 训练集",
    "test": "test test_public testData test_a test.no_label Test_set x_test 测试集",
    "sample_submission": "sample_submission sampleSubmission submit_example sample_submit submission_format submission "
    "SubmissionFormat sample gender_submission test_submission 提交示例 sample_sub",
    "": "latest contest strain prompts dev",
}


@pytest.mark.parametrize("role", NAMES)
def test_the_usual_names_say_their_role(role):
    assert {name: role_of(name) for name in NAMES[role].split()} == dict.fromkeys(NAMES[role].split(), role)


@pytest.mark.parametrize("name", ["sample_submission.csv", "sampleSubmission.csv.zip", "Sample-Submission_v2.parquet"])
def test_a_table_is_found_by_its_name_alone(tmp_path, name):
    for file in (name, "train.csv", ".sample_submission.csv.12.part", "sample_submission.txt"):
        (tmp_path / file).write_text("x")
    assert find_table(tmp_path, "sample_submission").name == name
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_table(tmp_path / "nowhere", "train")
    (tmp_path / "train.parquet").write_text("x")
    with pytest.raises(ValueError, match=r"2 files that could be train: train\.csv, train\.parquet"):
        find_table(tmp_path, "train")
