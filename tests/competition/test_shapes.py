"""One row a shape that competitions really have: what must be inferred of it, and what its submission looks like."""

import re

import numpy as np
import pandas as pd
import pytest

from kagglekit.competition.infer import infer, summarise
from kagglekit.competition.submission import check_submission, make_submission
from kagglekit.competition.task import encode_labels, load_task, read_sample, read_test, read_train
from kagglekit.scoring.metrics import CLASSES

ROWS, TESTS = 60, 12
NOUNS = ["kettle", "window", "garden", "ferry", "lamp", "market", "waiter"]


def prose(row, start="the"):
    """Eight words that no other row has."""
    return f"{start} {NOUNS[row % 7]} of the {NOUNS[row // 7 % 7]} was seen on day{row}"


def turn(*values):
    """Values that take turns, row by row."""
    return lambda row: values[row % len(values)]


def number(row):
    return f"{row * 37 % 101 / 20 - 1:.3f}"


def write(folder, train, test, sample, header=True):
    """A competition: {column: function of the row, or a value}; sample may be None. Rows of test count from 1000."""
    for name, columns, rows, shown in (
        ("train", train, range(ROWS), True),
        ("test", test, range(1000, 1000 + TESTS), True),
        ("sample_submission", sample, range(1000, 1000 + TESTS), header),
    ):
        if columns is None:
            continue
        cells = {k: [str(v(row)) for row in rows] if callable(v) else [str(v)] * len(rows) for k, v in columns.items()}
        pd.DataFrame(cells).to_csv(folder / f"{name}.csv", index=False, header=shown)


ID, TEXT = {"id": lambda row: row}, {"text": prose}
ONE = turn("a", "b", "c")
PAIR = {"first": prose, "second": lambda row: prose(row, "a")}
TWO = {"question": lambda row: prose(row % 20), "answer": lambda row: prose(row, "an")}
PHRASES = {"anchor": lambda row: f"{NOUNS[row % 7]} frame", "target": lambda row: f"{NOUNS[row % 7]} frame {row}x"}
NEW = {"question": lambda row: prose(row // 2, "every"), "answer": lambda row: prose(row, "an")}
TOPICS = turn("news", "news sport", "", "music", "sport music", "sport")


def topics(sep):
    return lambda row: sep.join(TOPICS(row).split())


def topic_list(write):
    return lambda row: write(TOPICS(row).split())


def quoted(names):
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def one_hot(*names):
    return {name: (lambda row, place=place: int(row % len(names) == place)) for place, name in enumerate(names)}


def shares(*names):
    return {name: (lambda row, place=place: 0.5 if row % 3 == place else 0.25) for place, name in enumerate(names)}


# name: (train, test, sample, given, expected); expected has fields of the task, `left`: the finding "not used",
# `reads`: the labels of the first rows, `writes`: the first lines of the submission of likely predictions
SHAPES = {
    "topics of articles": (
        {"ArticleId": lambda row: row, "Text": prose, "Category": ONE},
        {"ArticleId": lambda row: row, "Text": prose},
        {"ArticleId": lambda row: row, "Category": "b"},
        {},
        dict(id="ArticleId", text=["Text"], labels=["Category"], kind="multiclass", classes=["a", "b", "c"])
        | dict(form="label", metric="accuracy", group=None, writes=["ArticleId,Category", "1000,a", "1001,b"]),
    ),
    "disaster tweets": (
        ID | {"keyword": turn("fire", "flood", "", "storm"), "location": "", "text": prose, "target": turn(0, 1)},
        ID | {"keyword": "fire", "location": "", "text": prose},
        ID | {"target": 0},
        {},
        dict(text=["text"], kind="binary", classes=["0", "1"], form="label", metric="accuracy")
        | dict(left="keyword (3 values), location (nothing)", writes=["id,target", "1000,0", "1001,1"]),
    ),
    "authors as columns": (
        ID | TEXT | {"author": turn("HPL", "EAP", "MWS")},
        ID | TEXT,
        ID | {"EAP": 0.4, "HPL": 0.3, "MWS": 0.3},
        {},
        dict(labels=["author"], classes=["EAP", "HPL", "MWS"], form="columns", metric="log_loss", kind="multiclass"),
    ),
    "toxic comments": (
        ID | TEXT | {"toxic": turn(0, 0, 1), "threat": turn(0, 0, 0, 1), "insult": turn(1, 0)},
        ID | TEXT,
        ID | {"toxic": 0.5, "threat": 0.5, "insult": 0.5},
        {},
        dict(kind="multilabel", labels=["toxic", "threat", "insult"], metric="roc_auc", form="columns"),
    ),
    "a fraction of readers, and a metric of classes": (
        ID | TEXT | {"target": turn(0.0, 0.7, 0.25, 0.5)},
        ID | TEXT,
        ID | {"prediction": 0.0},
        {"metric": "roc_auc"},
        dict(kind="binary", layout="threshold", classes=["0", "1"], form="probability", reads=["0", "1", "0", "1"]),
    ),
    "a fraction of readers": (
        ID | TEXT | {"target": turn(0.0, 0.7, 0.25, 0.5)},
        ID | TEXT,
        ID | {"prediction": 0.0},
        {},
        dict(kind="regression", bounds=[[0.0, 0.7]], metric="rmse", layout=""),
    ),
    "pairs of questions, train with ids of its own": (
        ID | {"qid1": lambda row: 2 * row} | PAIR | {"same": turn(0, 1)},
        {"test_id": lambda row: row} | PAIR,
        {"test_id": lambda row: row, "same": 0.37},
        {},
        dict(id="test_id", text=["first", "second"], labels=["same"], kind="binary", form="probability")
        | dict(left="qid1 (numbers, in train only)", ids=["0", "1"]),
    ),
    "a battle, with one 1 a row": (
        ID | {"model_a": ONE} | PAIR | one_hot("win_a", "win_b", "win_tie"),
        ID | PAIR,
        ID | {"win_a": 0.33, "win_b": 0.33, "win_tie": 0.33},
        {},
        dict(kind="multiclass", labels=["win"], classes=["win_a", "win_b", "win_tie"], layout="largest")
        | dict(metric="log_loss", left="model_a (3 values, in train only)", reads=["win_a", "win_b", "win_tie"]),
    ),
    "one 1 a row, and a sample that names the winner": (
        ID | TEXT | one_hot("m1", "m2", "tie"),
        ID | TEXT,
        ID | {"winner": "tie"},
        {"labels": ["m1", "m2", "tie"]},
        dict(kind="multiclass", labels=["label"], classes=["m1", "m2", "tie"], form="label", mapping={})
        | dict(writes=["id,winner", "1000,m1"]),
    ),
    "one 1 in nearly every row": (
        ID | TEXT | {"x": turn(1, 0, 0), "y": turn(0, 1, 0), "z": turn(0, 0, 1, 0, 0, 1, 0, 1)},
        ID | TEXT,
        ID | {"x": 0.5, "y": 0.5, "z": 0.5},
        {},
        dict(kind="multilabel", layout="", labels=["x", "y", "z"], metric="roc_auc"),
    ),
    "one 1 a row, and several labels all the same": (
        ID | TEXT | one_hot("x", "y", "z"),
        ID | TEXT,
        ID | {"x": 0.5, "y": 0.5, "z": 0.5},
        {"kind": "multilabel"},
        dict(kind="multilabel", layout="", labels=["x", "y", "z"]),
    ),
    "votes that sum to 1": (
        ID | TEXT | shares("yes", "no", "other"),
        ID | TEXT,
        ID | {"yes": 0.3, "no": 0.3, "other": 0.4},
        {},
        dict(kind="multiclass", layout="largest", classes=["yes", "no", "other"], metric="log_loss")
        | dict(reads=["yes", "no", "other"]),
    ),
    "votes that sum to 1, as numbers": (
        ID | TEXT | shares("yes", "no", "other"),
        ID | TEXT,
        ID | {"yes": 0.3, "no": 0.3, "other": 0.4},
        {"metric": "rmse"},
        dict(kind="regression", layout="", labels=["yes", "no", "other"]),
    ),
    "fractions of several labels, and a metric of classes": (
        ID | TEXT | {"rude": turn(0.2, 0.8), "mild": turn(1.0, 0.1, 0.3)},
        ID | TEXT,
        ID | {"rude": 0.5, "mild": 0.5},
        {"metric": "log_loss"},
        dict(kind="multilabel", layout="threshold", labels=["rude", "mild"], reads=[["0", "1"], ["1", "0"]]),
    ),
    "readability": (
        {"id": lambda row: f"c{row}", "url_legal": "", "excerpt": prose, "target": number, "standard_error": number},
        {"id": lambda row: f"c{row}", "url_legal": "", "excerpt": prose},
        {"id": lambda row: f"c{row}", "target": 0.0},
        {},
        dict(text=["excerpt"], labels=["target"], kind="regression", metric="rmse", form="label")
        | dict(left="url_legal (nothing), standard_error (numbers, in train only)"),
    ),
    "several grades": (
        ID | TEXT | {"cohesion": turn("1.0", "2.5", "4"), "syntax": turn("3.5", "2")},
        ID | TEXT,
        ID | {"cohesion": 3.0, "syntax": 3.0},
        {},
        dict(kind="regression", metric="mcrmse", bounds=[[1.0, 4.0], [2.0, 3.5]], form="columns"),
    ),
    "essays from 1 to 6": (
        {"essay_id": lambda row: f"{row:05}", "full_text": prose, "score": turn(1, 2, 3, 4, 5, 6)},
        {"essay_id": lambda row: f"{row:05}", "full_text": prose},
        {"essay_id": lambda row: f"{row:05}", "score": 3},
        {},
        dict(kind="ordinal", classes=[*"123456"], metric="qwk", writes=["essay_id,score", "01000,1", "01001,2"]),
    ),
    "stars, and a metric of probabilities": (
        ID | TEXT | {"stars": turn(1, 2, 3)},
        ID | TEXT,
        ID | {"stars": 1},
        {"metric": "log_loss"},
        dict(kind="multiclass", classes=["1", "2", "3"], metric="log_loss"),
    ),
    "phrases, and numbers between 0 and 1": (
        ID | PHRASES | {"channel": turn("web site", "app store"), "context": turn("A47", "B12")}
        | {"received": lambda row: f"2021-03-{row % 28 + 1:02}", "score": turn(0, 0.25, 0.5)},
        ID | PHRASES | {"channel": "web site", "context": "A47", "received": "2021-04-01"},
        ID | {"score": 0},
        {"metric": "pearson"},
        dict(text=["anchor", "target"], kind="regression", metric="pearson", group=None)
        | dict(left="channel (2 values), context (2 values), received (dates)"),
    ),
    "questions with several answers, of which test has the same": (
        ID | TWO | {"user": lambda row: f"user{row % 20}", "url": lambda row: f"https://a.org/{row}", "good": number},
        ID | TWO | {"user": lambda row: f"user{row % 20}", "url": lambda row: f"https://a.org/{row}"},
        ID | {"good": 0.1},
        {},
        dict(text=["question", "answer"], group=None, left="user (codes), url (links)"),
    ),
    "questions with several answers, of which test has others": (
        ID | NEW | {"topic": turn("a", "b"), "good": number},
        ID | NEW | {"topic": turn("a", "b")},
        ID | {"good": 0.1},
        {},
        dict(text=["question", "answer"], group="question", left="topic (2 values)"),
    ),
    "questions with several answers, and no group": (
        ID | NEW | {"good": number}, ID | NEW, ID | {"good": 0.1}, {"group": ""}, dict(group=None, metric="rmse"),
    ),
    "phrases of sentences": (
        ID | {"SentenceId": lambda row: row // 3, "Phrase": prose, "Sentiment": turn(0, 1, 2, 3, 4)},
        ID | {"SentenceId": lambda row: row // 3, "Phrase": prose},
        ID | {"Sentiment": 2},
        {},
        dict(id="id", text=["Phrase"], group="SentenceId", classes=[*"01234"], kind="multiclass"),
    ),
    "phrases of sentences, each with the phrase good": (
        ID
        | {"SentenceId": lambda row: row // 3, "y": turn(0, 1, 2)}
        | {"Phrase": lambda row: prose(row) if row % 3 else "Good"},
        ID | {"SentenceId": lambda row: row // 3, "Phrase": prose},
        ID | {"y": 2},
        {},
        dict(text=["Phrase"], group=None, left="SentenceId (numbers)"),
    ),
    "a group that is given": (
        ID | TEXT | {"Author ": lambda row: f"author {row % 9}", "label": ONE},
        ID | TEXT | {"Author ": "somebody"},
        ID | {"label": "a"},
        {"group": "author"},
        dict(group="Author", text=["text"]),
    ),
    "an id in capitals": (
        ID | PAIR | {"label": turn("agreed", "disagreed", "unrelated")},
        ID | PAIR,
        {"Id": lambda row: row, "Category": "unrelated"},
        {},
        dict(id="id", text=["first", "second"], labels=["label"], submission=["Id", "Category"])
        | dict(writes=["Id,Category", "1000,agreed"]),
    ),
    "names with blanks, and labels in capitals": (
        {" ID": lambda row: row, "Text ": prose, "Hot": turn(0, 1), "Mild": turn(0, 0, 1)},
        {"id": lambda row: row, "text": prose},
        {"id": lambda row: row, "hot": 0.5, "mild": 0.5},
        {},
        dict(id="ID", text=["Text"], labels=["Hot", "Mild"], writes=["id,hot,mild"]),
    ),
    "labels alone, and texts of numbers": (
        {"label": turn(0, 1, 2), "text": lambda row: " ".join(str(row * k % 97) for k in range(12))},
        {"text": lambda row: " ".join(str(row * k % 97) for k in range(12))},
        {"label": 0},
        {},
        dict(id="", text=["text"], labels=["label"], writes=["label", "0", "1", "2"], ids=["row1", "row2"]),
    ),
    "a sample without a header": (
        ID | {"description": prose, "jobflag": turn(1, 2, 3, 4)}, ID | {"description": prose},
        ID | {"x": 3}, {},
        dict(id="id", labels=["jobflag"], header=False, classes=[*"1234"], writes=["1000,1", "1001,2"]),
    ),
    "a sample of labels alone without a header": (
        TEXT | {"label": ONE}, TEXT, {"x": "b"}, {},
        dict(id="", header=False, form="label", writes=["a", "b", "c"]),
    ),
    "the text is the id": (
        TEXT | {"label": ONE}, TEXT, TEXT | {"label": "a"}, {},
        dict(id="text", text=["text"], labels=["label"], writes=["text,label", f"{prose(1000)},a"]),
    ),
    "the text is the id, and repeats": (
        TEXT | {"label": ONE},
        {"text": lambda row: prose(row % 5)},
        {"text": lambda row: prose(row % 5), "label": "a"},
        {},
        dict(id="", text=["text"], writes=["text,label", f"{prose(0)},a", f"{prose(1)},b"]),
    ),
    "another name of the id in test": (
        {"key": lambda row: row} | TEXT | {"label": ONE}, {"key": lambda row: row} | TEXT, ID | {"label": "a"}, {},
        dict(id="key", writes=["id,label", "1000,a"], ids=["0", "1"]),
    ),
    "ids that only count": (
        TEXT | {"label": ONE}, TEXT, {"Id": lambda row: row - 1000, "label": "a"}, {},
        dict(id="", labels=["label"], writes=["Id,label", "0,a", "1,b"]),
    ),
    "labels with blanks between": (
        ID | TEXT | {"tags": topics(" ")}, ID | TEXT, ID | {"tags": turn("", "news sport")}, {},
        dict(kind="multilabel", labels=["music", "news", "sport"], separator=" ", form="list", metric="f1_samples")
        | dict(reads=[["0", "1", "0"], ["0", "1", "1"], ["0", "0", "0"]], writes=["id,tags", "1000,music"]),
    ),
    "labels with commas between": (
        ID | TEXT | {"tags": topics(", ")}, ID | TEXT, ID | {"tags": "news"}, {},
        dict(kind="multilabel", labels=["music", "news", "sport"], separator=","),
    ),
    "labels as a JSON list": (
        ID | TEXT | {"tags": topic_list(quoted)}, ID | TEXT, ID | {"tags": "[]"}, {},
        dict(kind="multilabel", labels=["music", "news", "sport"], joiner="list", may_be_empty=True)
        | dict(writes=["id,tags", '1000,"[""music""]"']),
    ),
    "labels as a list of Python": (
        ID | TEXT | {"tags": topic_list(str)}, ID | TEXT, ID | {"tags": "['news']"}, {},
        dict(kind="multilabel", joiner="python", writes=["id,tags", "1000,['music']"]),
    ),
    "labels in one cell, and a column each in the sample": (
        ID | TEXT | {"tags": topics("|")}, ID | TEXT, ID | dict.fromkeys(["sport", "news", "music", "travel"], 0),
        {"labels": "tags"},
        dict(error=r"column 'travel' is '0' in every row"),
    ),
    "labels in one cell, and columns that the sample has": (
        ID | TEXT | {"tags": topics("|")}, ID | TEXT, ID | {"sport": 0, "news": 0, "music": 0}, {},
        dict(kind="multilabel", labels=["sport", "news", "music"], form="columns", separator="|", metric="roc_auc"),
    ),
    "classes of two words": (
        ID | TEXT | {"mood": turn("very good", "good", "very bad", "bad")}, ID | TEXT, ID | {"mood": "good"}, {},
        dict(kind="multiclass", layout="", classes=["bad", "good", "very bad", "very good"]),
    ),
    "classes of two words, said to be one label": (
        ID | TEXT | {"mood": topics(" ")}, ID | TEXT, ID | {"mood": "news"}, {"label_sep": "", "drop_unlabelled": True},
        dict(kind="multiclass", layout="", classes=["music", "news", "news sport", "sport", "sport music"]),
    ),
    "the three likeliest": (
        ID | TEXT | {"species": turn("ash", "elm", "fir", "oak")}, ID | TEXT, ID | {"species": "ash elm fir"}, {},
        dict(kind="multiclass", form="top3", joiner=" ", metric="map@3", writes=["id,species", "1000,ash elm fir"]),
    ),
    "the three likeliest, as asked": (
        ID | TEXT | {"species": turn("ash", "elm", "fir", "oak")}, ID | TEXT, ID | {"species": "ash"}, {"form": "top3"},
        dict(kind="multiclass", form="top3", writes=["id,species", "1000,ash elm fir"]),
    ),
    "words in train, numbers in the sample": (
        ID | TEXT | {"label": turn("none", "hate", "rude")}, ID | TEXT, ID | {"label": 0}, {},
        dict(form="label", unclear="holds '0', which is none of the classes hate, none, rude; run 1_eda again"),
    ),
    "words in train, numbers in the sample, and a mapping": (
        ID | TEXT | {"label": turn("none", "hate", "rude")}, ID | TEXT, ID | {"label": 0},
        {"mapping": {"none": 0, "rude": 1, "hate": 2}},
        dict(unclear="", mapping={"none": "0", "rude": "1", "hate": "2"}, writes=["id,label", "1000,2", "1001,0"]),
    ),
    "words in train, numbers in the sample, and a form": (
        ID | TEXT | {"label": turn("none", "hate", "rude")}, ID | TEXT, ID | {"label": 0}, {"form": "label"},
        dict(unclear="", mapping={}, writes=["id,label", "1000,hate"]),
    ),
    "ham and spam, and a probability": (
        ID | TEXT | {"label": turn("ham", "spam")}, ID | TEXT, ID | {"label": 0}, {"form": "probability"},
        dict(unclear="", kind="binary", classes=["ham", "spam"], metric="roc_auc"),
    ),
    "a probability, and a metric that counts classes": (
        ID | TEXT | {"label": turn(0, 1)}, ID | TEXT, ID | {"label": 0.5}, {"metric": "accuracy"},
        dict(error="metric='accuracy' counts classes, and form='probability' submits none: say form='label'"),
    ),
    "true and false in train": (
        ID | TEXT | {"fake": turn("True", "False")}, ID | TEXT, ID | {"fake": 0}, {},
        dict(kind="binary", mapping={"False": "0", "True": "1"}, unclear="", writes=["id,fake", "1000,0", "1001,1"]),
    ),
    "true and false in the sample": (
        ID | TEXT | {"fake": turn(1, 0)}, ID | TEXT, ID | {"fake": "False"}, {},
        dict(kind="binary", mapping={"0": "False", "1": "True"}, writes=["id,fake", "1000,False", "1001,True"]),
    ),
    "numbers that the sample writes with decimals": (
        ID | TEXT | {"label": turn(0, 1, 2)}, ID | TEXT, ID | {"label": turn("1.0", "0.0")}, {},
        dict(kind="multiclass", classes=["0", "1", "2"], writes=["id,label", "1000,0.0", "1001,1.0"]),
    ),
    "numbers with decimals that the sample writes without": (
        ID | TEXT | {"label": turn("0.0", "1.0")}, ID | TEXT, ID | {"label": 1}, {},
        dict(kind="binary", classes=["0.0", "1.0"], form="label", writes=["id,label", "1000,0", "1001,1"]),
    ),
    "words that the sample writes in small letters": (
        ID | TEXT | {"label": turn("No", "Yes")}, ID | TEXT, ID | {"label": "yes"}, {},
        dict(mapping={"No": "no", "Yes": "yes"}, writes=["id,label", "1000,no", "1001,yes"]),
    ),
    "true and false in several columns": (
        ID | TEXT | {"hot": turn("True", "False"), "mild": turn("False", "True", "True")}, ID | TEXT,
        ID | {"hot": 0.5, "mild": 0.5}, {},
        dict(kind="multilabel", labels=["hot", "mild"], reads=[["1", "0"], ["0", "1"]], metric="roc_auc"),
    ),
    "one true a row": (
        ID | TEXT | {"x": turn("true", "false", "false"), "y": turn("false", "true", "true")}, ID | TEXT,
        ID | {"x": 0.5, "y": 0.5}, {},
        dict(kind="binary", layout="largest", classes=["x", "y"], reads=["x", "y", "y"], metric="log_loss"),
    ),
    "a sample that has the text too": (
        ID | TEXT | {"label": ONE}, ID | TEXT, ID | TEXT | {"label": "a"}, {},
        dict(id="id", text=["text"], labels=["label"], writes=["id,text,label", f"1000,{prose(1000)},a"]),
    ),
    "a test with an empty column of labels": (
        ID | TEXT | {"label": ONE}, ID | TEXT | {"label": ""}, ID | {"label": "a"}, {},
        dict(labels=["label"], text=["text"], kind="multiclass"),
    ),
    "from -1 to 1": (
        {"tweet_id": lambda row: f"T{row}", "safe_text": prose, "label": turn(-1, 0, 1), "agreement": turn(1, 0.5)},
        {"tweet_id": lambda row: f"T{row}", "safe_text": prose},
        {"tweet_id": lambda row: f"T{row}", "label": turn("1.0", "0.0")},
        {},
        dict(kind="regression", bounds=[[-1.0, 1.0]], text=["safe_text"], left="agreement (2 values, in train only)"),
    ),
    "from -1 to 1, as classes": (
        ID | TEXT | {"label": turn(-1, 0, 1)}, ID | TEXT, ID | {"label": turn("1.0", "0.0")}, {"kind": "multiclass"},
        dict(kind="multiclass", classes=["-1", "0", "1"], writes=["id,label", "1000,-1.0", "1001,0.0", "1002,1.0"]),
    ),
    "a class without a row in train": (
        ID | TEXT | {"label": turn("news", "sport")}, ID | TEXT, ID | {"sport": 0.3, "news": 0.3, "music": 0.4}, {},
        dict(kind="multiclass", classes=["sport", "news", "music"], writes=["id,sport,news,music"]),
    ),
    "three classes, and one more in the sample": (
        ID | TEXT | {"label": ONE}, ID | TEXT, ID | {"a": 0.2, "b": 0.2, "c": 0.3, "d": 0.3}, {},
        dict(kind="multiclass", classes=["a", "b", "c", "d"], form="columns", metric="log_loss"),
    ),
    "columns that begin alike": (
        ID | TEXT | {"label": turn("cat", "dog", "cow")}, ID | TEXT,
        ID | {"prob_cat": 0.3, "prob_dog": 0.3, "prob_cow": 0.4}, {},
        dict(labels=["label"], classes=["cat", "dog", "cow"], form="columns", writes=["id,prob_cat,prob_dog,prob_cow"])
        | dict(mapping={"cat": "prob_cat", "dog": "prob_dog", "cow": "prob_cow"}),
    ),
    "columns with numbers for classes": (
        ID | TEXT | {"label": ONE}, ID | TEXT, ID | {"0": 0.3, "1": 0.3, "2": 0.4},
        {"mapping": {"a": 1, "b": 0, "c": 2}, "classes": ["a", "b", "c"]},
        dict(form="columns", mapping={"a": "1", "b": "0", "c": "2"}, writes=["id,0,1,2"]),
    ),
    "labels that are written in two ways": (
        ID | TEXT | {"label": turn("good", "bad", "Good", "good ", "bad")}, ID | TEXT, ID | {"label": "good"},
        {"merge_spellings": True},
        dict(kind="binary", classes=["bad", "good"], reads=["good", "bad", "good", "good"]),
    ),
    "numbers that are written in two ways": (
        ID | TEXT | {"label": turn("1", "1.0", "0", "0")}, ID | TEXT, ID | {"label": "0"}, {"merge_spellings": True},
        dict(kind="binary", classes=["0", "1"], reads=["1", "1", "0"]),
    ),
    "a class that is called NA": (
        ID | TEXT | {"region": turn("NA", "EU")}, ID | TEXT, ID | {"region": "NA"}, {},
        dict(kind="binary", classes=["EU", "NA"]),
    ),
    "rows without a label": (
        ID | TEXT | {"label": turn("a", "nan", "b", "", "N/A", "NULL")}, ID | TEXT, ID | {"label": "a"},
        {"drop_unlabelled": True},
        dict(kind="binary", classes=["a", "b"], reads=["a", "b", "a"], ids=["0", "2", "6"]),
    ),
    "several columns, of which one is named label": (
        ID | TEXT | {"source": ONE, "label": turn("x", "y")}, ID | TEXT, ID | {"answer": ""}, {},
        dict(labels=["label"], left="source (3 values, in train only)", writes=["id,answer", "1000,x"]),
    ),
    "row names that R wrote": (
        {"": lambda row: row + 1} | ID | TEXT | {"stars": turn(1, 2, 3)}, {"": lambda row: row + 1} | ID | TEXT,
        {"": lambda row: row + 1} | ID | {"stars": 1}, {},
        dict(id="id", kind="ordinal", labels=["stars"], writes=[",id,stars", "1001,1000,1", "1002,1001,2"]),
    ),
    "titles of two words and long descriptions": (
        ID | {"title": lambda row: f"{NOUNS[row % 7]} mk{row}", "description": lambda row: prose(row) * 3, "y": ONE},
        ID | {"title": lambda row: f"{NOUNS[row % 7]} mk{row}", "description": lambda row: prose(row) * 3},
        ID | {"y": "a"}, {}, dict(text=["title", "description"]),
    ),
    "relevance from 1 to 4": (
        ID | TEXT | {"relevance": turn(1, 2, 3, 4)}, ID | TEXT, ID | {"prediction": 4}, {},
        dict(kind="ordinal", metric="qwk", writes=["id,prediction", "1000,1"]),
    ),
    "numbers of many categories": (
        ID | TEXT | {"category_id": lambda row: 7000 + row % 25}, ID | TEXT, ID | {"category_id": 7001}, {},
        dict(kind="multiclass", metric="accuracy", writes=["id,category_id", "1000,7000", "1001,7001"]),
    ),
    "labels with blanks around, and a sample without": (
        ID | TEXT | {"label": turn(" pos", "neg ")}, ID | TEXT, ID | {"label": "pos"}, {},
        dict(mapping={" pos": "pos", "neg ": "neg"}, writes=["id,label", "1000,pos", "1001,neg"]),
    ),
    "labels with blanks around, and a sample with them": (
        ID | TEXT | {"label": turn(" pos", "neg ")}, ID | TEXT, ID | {"label": " pos"}, {},
        dict(mapping={}, writes=["id,label", "1000, pos", "1001,neg "]),
    ),
    "the three likeliest, some of which train lacks": (
        ID | TEXT | {"species": turn("ash", "elm", "fir")}, ID | TEXT, ID | {"species": "ash elm yew"}, {},
        dict(form="top3", metric="map@3", unclear="holds 'yew', which is none of the classes"),
    ),
    "two columns of train that the sample joins": (
        ID | TEXT | {"Category": ONE, "Mistake": turn("NA", "x")}, ID | TEXT, ID | {"Category:Mistake": "a:NA b:x"}, {},
        dict(error=r"give it a column 'Category:Mistake' of both, train\['Category'\] \+ ':' \+ train\['Mistake'\]"),
    ),
    "spans of the text as labels": (
        ID | TEXT | {"selected": lambda row: prose(row)[4:30]}, ID | TEXT, ID | {"selected": ""}, {},
        dict(error="'selected' of train holds 49 different values in 60 rows: these are no classes, but texts"),
    ),
    "percentages": (
        ID | TEXT | {"share": lambda row: f"{row}%"}, ID | TEXT, ID | {"share": "50%"}, {},
        dict(error=r"column 'share' holds '0%' in data row 1 \(id '0'\), .* write 0, or say kind='multiclass'"),
    ),
    "prices": (
        ID | TEXT | {"price": lambda row: f"$ {1000 + row:,}.50"}, ID | TEXT, ID | {"price": "$ 5.00"}, {},
        dict(error=r"column 'price' holds '\$ 1,000.50' in data row 1 .* write 1000.50, or"),
    ),
    "decimal commas": (
        ID | TEXT | {"price": lambda row: f"0,{100 + row}"}, ID | TEXT, ID | {"price": "0,5"}, {},
        dict(error="'0,100' in data row 1 .* a number with a comma for its point .* write 0.5, not 0,5"),
    ),
    "a text that train and test call otherwise": (
        ID | {"comment": prose, "y": turn(0, 1)}, ID | {"content": prose}, ID | {"y": 0.5}, {},
        dict(error="train alone has 'comment' and test alone has 'content': give a text the same name in both"),
    ),
    "several rows of the sample for one of test": (
        ID | TEXT | {"y": ONE}, ID | TEXT, {"id_part": lambda row: f"{row}_A", "y": "a"}, {},
        dict(error=r"test.csv has no column with the ids of sample_submission.csv \('id_part', such as '1000_A'\)"),
    ),
    "ids with decimals in the sample": (
        ID | TEXT | {"y": ONE}, ID | TEXT, {"id": lambda row: f"{row}.0", "y": "a"}, {},
        dict(error=r"\(id '1000.0'\) is not in column 'id' of test.csv .* begins with '1000'; both"),
    ),
    "no header in train": (
        {"gj04": "gj04", "1": turn(0, 1), "A rat sat.": prose}, {"index": lambda row: row, "sentence": prose}, None, {},
        dict(error="train.csv has no header: its first line holds 'gj04', .* 3 names above it; .* in test.csv"),
    ),
    "no sample, and pairs without spaces": (
        {"q1": lambda row: f"怎么办{row}", "q2": lambda row: f"如何是{row}", "label": turn(0, 1)},
        {"q1": lambda row: f"怎么办{row}", "q2": lambda row: f"如何是{row}"}, None, {},
        dict(id="", text=["q1", "q2"], kind="binary", writes=["label", "0", "1"]),
    ),
    "no sample, a label and its name": (
        TEXT | {"label": turn(100, 101, 102), "label_desc": ONE}, ID | TEXT, None, {},
        dict(id="id", labels=["label"], left="label_desc (3 values, in train only)", writes=["id,label", "1000,100"]),
    ),
    "no sample, and labels that most rows lack": (
        ID | TEXT | {"a": turn(0, 1), "b": turn("NULL", "x", "NULL", "y")}, ID | TEXT, None, {"labels": "b"},
        dict(error=r"'b' holds 'NULL' in data row 1 .* drop_unlabelled=True, or name it in classes="),
    ),
    "no sample, and a test with labels": (
        TEXT | {"label": turn(0, 1)}, {"text": lambda row: prose(row % 3)} | {"label": turn(0, 1)}, None,
        {"labels": "label"}, dict(id="", text=["text"], labels=["label"], writes=["label", "0", "1"]),
    ),
    "several columns, of which one holds what the sample shows": (
        ID | TEXT | {"source": ONE, "mood": turn("x", "y")}, ID | TEXT, ID | {"answer": "y"}, {}, dict(labels=["mood"]),
    ),
}  # fmt: skip


def likely(task, rows):
    """Predictions by which the classes take turns."""
    if task.kind in CLASSES:
        wanted = np.arange(rows) % len(task.classes)
        order = (np.arange(len(task.classes)) - wanted[:, None]) % len(task.classes)  # those that follow are likelier
        probs = 2.0**-order
        return probs / probs.sum(axis=1, keepdims=True)
    places = np.arange(rows)[:, None] + np.arange(len(task.labels))
    if task.kind == "multilabel":
        return np.where(places % 3, 0.1, 0.9)
    return (places % max(1, len(task.classes))).astype(float)


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_inferred_read_and_submitted(tmp_path, name):
    train, test, sample, given, expected = SHAPES[name]
    write(tmp_path, train, test, sample, expected.get("header", True))
    expected = dict(expected)
    if message := expected.pop("error", None):
        with pytest.raises(ValueError, match=message):
            infer(tmp_path, **given)
        return
    task, findings = infer(tmp_path, **given)
    told = findings.set_index("what")["found"]
    left, reads, ids = expected.pop("left", None), expected.pop("reads", None), expected.pop("ids", None)
    writes, unclear = expected.pop("writes", None), expected.pop("unclear", "")
    assert {field: getattr(task, field) for field in expected} == expected
    assert left is None or told["not used"] == left
    assert unclear in task.unclear and bool(task.unclear) == bool(unclear) and "\n" not in summarise(task, findings)
    task.save(tmp_path / "work")
    task = load_task(tmp_path / "work")
    rows, tests, shown = read_train(task), read_test(task), read_sample(task)
    encode_labels(task, rows)
    found = rows[task.labels].to_numpy().tolist()
    found = [row[0] for row in found] if len(task.labels) == 1 else found
    assert reads is None or found[: len(reads)] == reads
    assert ids is None or rows["id"].tolist()[: len(ids)] == ids
    if unclear:
        with pytest.raises(ValueError, match=re.escape(unclear)):
            make_submission(task, shown, tests["id"], likely(task, len(tests)))
        return
    frame = make_submission(task, shown, tests["id"], likely(task, len(tests)))
    check_submission(frame, shown, task)
    lines = frame.to_csv(index=False, header=task.header, lineterminator="\n").split("\n")
    assert writes is None or lines[: len(writes)] == writes
