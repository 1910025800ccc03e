"""Shapes of labels that competitions really have: how train writes them, and how the sample does."""

import pytest

from tests.competition.shapes import (
    ID,
    ONE,
    TEXT,
    check_shape,
    number,
    one_hot,
    prose,
    quoted,
    shares,
    topic_list,
    topics,
    turn,
)

SHAPES = {
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
    "stars, and a metric of probabilities": (
        ID | TEXT | {"stars": turn(1, 2, 3)},
        ID | TEXT,
        ID | {"stars": 1},
        {"metric": "log_loss"},
        dict(kind="multiclass", classes=["1", "2", "3"], metric="log_loss"),
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
    "numbers in train, and one number in the sample that is no class": (
        ID | TEXT | {"label": turn(0, 1, 2)}, ID | TEXT, ID | {"prediction": 7}, {},
        dict(kind="multiclass", mapping={}, unclear="", writes=["id,prediction", "1000,0", "1001,1", "1002,2"]),
    ),
    "two numbers in train, and another in the sample": (
        ID | TEXT | {"label": turn(1, 2)}, ID | TEXT, ID | {"label": 0}, {},
        dict(unclear="form='probability' for that of '2'"),
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
    "words that the sample writes with other signs between": (
        ID | TEXT | {"label": turn("Not Effective", "Too Dry")}, ID | TEXT, ID | {"label": "not_effective"}, {},
        dict(mapping={"Not Effective": "not_effective", "Too Dry": "too_dry"})
        | dict(writes=["id,label", "1000,not_effective", "1001,too_dry"]),
    ),
    "signs where nobody agreed on a label": (
        ID | TEXT | {"label": turn("neutral", "-", "entailment", "?")}, ID | TEXT, ID | {"label": "neutral"}, {},
        dict(error=r"'label' holds '-' in data row 2 \(id '1'\), which is no label \(30 such rows\); .* drop_unl"),
    ),
    "signs where nobody agreed on a label, left out": (
        ID | TEXT | {"label": turn("neutral", "-", "entailment")}, ID | TEXT, ID | {"label": "neutral"},
        {"drop_unlabelled": True}, dict(kind="binary", ids=["0", "2", "3"], classes=["entailment", "neutral"]),
    ),
    "plus and minus": (
        ID | TEXT | {"label": turn("+", "-", "0")}, ID | TEXT, ID | {"label": "+"}, {},
        dict(kind="multiclass", classes=["+", "-", "0"]),
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
    "columns that write the classes otherwise": (
        ID | TEXT | {"topic": turn("Bad smell", "Too dry", "Texture")}, ID | TEXT,
        ID | {"texture": 0.3, "bad_smell": 0.3, "too_dry": 0.4}, {},
        dict(labels=["topic"], classes=["Texture", "Bad smell", "Too dry"], form="columns")
        | dict(mapping={"Texture": "texture", "Bad smell": "bad_smell", "Too dry": "too_dry"})
        | dict(writes=["id,texture,bad_smell,too_dry"], reads=["Bad smell", "Too dry", "Texture"]),
    ),
    "columns of one word and a number": (
        ID | TEXT | {"Class": turn(1, 3, 2)}, ID | TEXT, ID | {"class1": 0, "class2": 0, "class3": 0}, {},
        dict(labels=["Class"], classes=["1", "2", "3"], mapping={"1": "class1", "2": "class2", "3": "class3"}),
    ),
    "columns of labels that the sample writes otherwise": (
        ID | TEXT | {"Very hot": turn(0, 0, 1), "Mild": turn(0, 1)}, ID | TEXT, ID | {"mild": 0, "very_hot": 0}, {},
        dict(kind="multilabel", labels=["Mild", "Very hot"], mapping={})
        | dict(reads=[["0", "0"], ["1", "0"], ["0", "1"]], writes=["id,mild,very_hot", "1000,0.9,0.1"]),
    ),
    "columns of numbers that the sample writes otherwise": (
        ID | TEXT | {"Depth Score": number, "Care Score": number}, ID | TEXT,
        ID | {"care_score": 0.0, "depth_score": 0.0}, {"clip": False},
        dict(kind="regression", labels=["Care Score", "Depth Score"], writes=["id,care_score,depth_score"]),
    ),
    "a column of the sample that train has not": (
        ID | TEXT | {"label": turn(0, 1)}, ID | TEXT, ID | {"label": 0, "Usage": "Public"}, {},
        dict(error="asks for label, Usage, and train has no column 'Usage': leave it out of the sample, or say"),
    ),
    "columns of labels that begin alike in train": (
        ID | TEXT | {"is_hot": turn(0, 0, 1), "is_mild": turn(0, 1), "is_new": 1}, ID | TEXT,
        ID | {"mild": 0, "hot": 0}, {},
        dict(kind="multilabel", labels=["is_mild", "is_hot"], writes=["id,mild,hot", "1000,0.9,0.1"])
        | dict(reads=[["0", "0"], ["1", "0"], ["0", "1"]]),
    ),
    "shares of classes that begin alike in train": (
        ID | TEXT | {f"p.{name}": column for name, column in shares("x", "y", "z").items()}, ID | TEXT,
        ID | {"z": 0, "x": 0, "y": 0}, {},
        dict(layout="largest", classes=["p.z", "p.x", "p.y"], reads=["p.x", "p.y", "p.z"], writes=["id,z,x,y"]),
    ),
    "columns of labels that begin alike": (
        ID | TEXT | {"hot": turn(0, 0, 1), "mild": turn(0, 1)}, ID | TEXT, ID | {"pred_mild": 0.5, "pred_hot": 0.5}, {},
        dict(kind="multilabel", labels=["mild", "hot"], mapping={"mild": "pred_mild", "hot": "pred_hot"})
        | dict(writes=["id,pred_mild,pred_hot", "1000,0.9,0.1"]),
    ),
    "columns of numbers that begin alike": (
        ID | TEXT | {"depth": number, "care": number}, ID | TEXT, ID | {"care_hat": 0.0, "depth_hat": 0.0}, {},
        dict(kind="regression", labels=["care", "depth"], writes=["id,care_hat,depth_hat"]),
    ),
    "columns with words for numbers": (
        ID | TEXT | {"label": turn(0, 1, 2)}, ID | TEXT, ID | {"neutral": 0.3, "bad": 0.3, "good": 0.4}, {},
        dict(error="none of the classes neutral, bad, good .* or which column is which: mapping={'0': 'neutral', ...}"),
    ),
    "columns with words for numbers, and a mapping": (
        ID | TEXT | {"label": turn(0, 1, 2)}, ID | TEXT, ID | {"neutral": 0.3, "bad": 0.3, "good": 0.4},
        {"mapping": {"0": "bad", "1": "neutral", "2": "good"}},
        dict(classes=["1", "0", "2"], mapping={"0": "bad", "1": "neutral", "2": "good"}, form="columns")
        | dict(writes=["id,neutral,bad,good"]),
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
    "places in the text as labels": (
        ID | TEXT | {"location": lambda row: f"['{row} {row + 7}']"}, ID | TEXT, ID | {"location": "0 100"}, {},
        dict(error=r"'location' lists 60 different labels in 60 rows \(0 7, .*: these are no classes, but spans"),
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
        dict(kind="regression", metric="rmse", reads=["0.100", "0.101"], bounds=[[0.1, 0.159]])
        | dict(writes=["id,price", '1000,"0,1"', '1001,"0,1"']),
    ),
    "decimal commas, few values, and a sample with points": (
        ID | TEXT | {"note": turn("1,0", "1,5", "2", "3,7")}, ID | TEXT, ID | {"note": "2.5"}, {},
        dict(kind="regression", reads=["1.0", "1.5", "2", "3.7"], writes=["id,note", "1000,1.0", "1001,1.0"]),
    ),
    "half grades with commas": (
        ID | TEXT | {"grade": turn("1", "1,5", "2", "2,5", "3")}, ID | TEXT, ID | {"grade": "2,5"}, {},
        dict(kind="ordinal", classes=["1", "1.5", "2", "2.5", "3"])
        | dict(writes=["id,grade", "1000,1", '1001,"1,5"', "1002,2"]),
    ),
    "several columns with decimal commas": (
        ID | TEXT | {"care": lambda row: f"{row % 9},{row % 10}", "depth": lambda row: f"0,{row}"}, ID | TEXT,
        ID | {"care": "0,0", "depth": "0,0"}, {},
        dict(kind="regression", metric="mcrmse", reads=[["0.0", "0.0"], ["1.1", "0.1"]]),
    ),
    "lists of one or two numbers": (
        ID | TEXT | {"tags": turn("3", "3,7", "1", "1,2", "2,7", "7")}, ID | TEXT, ID | {"tags": "1"}, {},
        dict(kind="multilabel", separator=",", labels=["1", "2", "3", "7"], writes=["id,tags", '1000,"1,7"', "1001,3"])
        | dict(reads=[["0", "0", "1", "0"], ["0", "0", "1", "1"], ["1", "0", "0", "0"]]),
    ),
    "lists of one to three numbers, not in order": (
        ID | TEXT | {"tags": turn("3", "7,3", "1,2,7", "1", "2,1", "7,9")}, ID | TEXT, ID | {"tags": "1"}, {},
        dict(kind="multilabel", labels=["1", "2", "3", "7", "9"], reads=[["0", "0", "1", "0", "0"]]),
    ),
    "thousands": (
        ID | TEXT | {"price": turn("1,500", "2,000", "1,250,000", "500", "1,000", "250")}, ID | TEXT,
        ID | {"price": 0}, {},
        dict(error="'1,500' in data row 1 .*, a number with a sign or commas .* write 1500, or"),
    ),
    "tenths from 0 to 9": (
        ID | TEXT | {"value": lambda row: f"{row % 9},{row * 7 % 10}"}, ID | TEXT, ID | {"value": 0}, {},
        dict(kind="regression", reads=["0.0", "1.7", "2.4"]),
    ),
    "numbers with points between thousands": (
        ID | TEXT | {"price": lambda row: f"1.{100 + row},5{row % 10} €"}, ID | TEXT, ID | {"price": "0,00 €"}, {},
        dict(error="'1.100,50 €' in data row 1 .*, a number with a sign or commas .* write 1100.50, or"),
    ),
    "few prices with their currency": (
        ID | TEXT | {"price": turn("5 USD", "10 USD", "15 USD")}, ID | TEXT, ID | {"price": 0}, {},
        dict(error="'5 USD' in data row 1 .*, a number with a sign or commas .* write 5, or"),
    ),
    "answers of three annotators": (
        ID | TEXT | {"label_1": ONE, "label_2": turn("b", "b", "", "a"), "label_3": turn("c", "b", "a")},
        ID | TEXT, ID | {"label": "a"}, {},
        dict(kind="multiclass", layout="votes", labels=["label"], label_columns=["label_1", "label_2", "label_3"])
        | dict(reads=["a", "b", "c", "a", "b", "c"], classes=["a", "b", "c"], writes=["id,label", "1000,a", "1001,b"]),
    ),
    "answers of three annotators, without a sample": (
        TEXT | {"annotator_anna": turn(0, 1), "annotator_ben": turn(0, 1, 1), "annotator_cleo": turn(1, "", 0)},
        ID | TEXT, None, {},
        dict(kind="binary", layout="votes", labels=["label"], reads=["0", "1", "0", "1"], writes=["id,label"]),
    ),
    "answers of three annotators, of whom none knows some rows": (
        ID | TEXT | {"rater1": turn("x", "", "y"), "rater2": turn("", "", "y"), "rater3": turn("x", "", "x")},
        ID | TEXT, ID | {"mood": "x"}, {"drop_unlabelled": True},
        dict(labels=["mood"], ids=["0", "2", "3", "5"], reads=["x", "y", "x", "y"], metric="accuracy"),
    ),
    "answers of three annotators, and a sample with a column a class": (
        ID | TEXT | {"annotator1": ONE, "annotator2": turn("a", "b", "b"), "annotator3": turn("a", "c", "c")},
        ID | TEXT, ID | {"b": 0.3, "a": 0.3, "c": 0.4}, {},
        dict(kind="multiclass", layout="votes", classes=["b", "a", "c"], reads=["a", "b", "c"], form="columns"),
    ),
    "answers of three annotators, and what may be the truth": (
        ID | TEXT | {"gold": ONE, "label_1": ONE, "label_2": ONE, "label_3": turn("a", "b")}, ID | TEXT,
        ID | {"mood": "a"}, {}, dict(error="which column holds the labels"),
    ),
    "numbers of three raters, and a sample with fractions": (
        ID | TEXT | {"rater1": turn(1, 2, 3), "rater2": turn(2, 2, ""), "rater3": turn(2, 5, 3)}, ID | TEXT,
        ID | {"rating": 2.33}, {}, dict(kind="regression", layout="mean", reads=["1.66666667", "3", "3"]),
    ),
    "one 1 a row in numbered columns, and one label asked for": (
        ID | TEXT | {"class_1": turn(1, 0, 0), "class_2": turn(0, 1, 0), "class_3": turn(0, 0, 1)}, ID | TEXT,
        ID | {"label": 1}, {}, dict(error="which column holds the labels"),
    ),
    "several columns of classes": (
        ID | TEXT | {"topic": ONE, "mood": turn("x", "y")}, ID | TEXT, ID | {"topic": "a", "mood": "x"}, {},
        dict(error="columns topic, mood of train hold several labels, 'topic' of them in words: one work folder"),
    ),
    "arrays as numpy writes them": (
        ID | TEXT | {"mood": topic_list(lambda names: "[" + " ".join(map(repr, names)) + "]")}, ID | TEXT,
        ID | {"mood": "['news']"}, {}, dict(labels=["music", "news", "sport"], joiner="[' ']", kind="multilabel")
        | dict(reads=[["0", "1", "0"], ["0", "1", "1"], ["0", "0", "0"]], writes=["id,mood", "1000,['music']"]),
    ),
    "arrays that numpy cut short": (
        ID | TEXT | {"mood": turn("['a' 'b']", "['b']", "['a'\n 'b' ... 'c']")}, ID | TEXT, ID | {"mood": "['a']"}, {},
        dict(error=r"in data row 3 \(id '2'\), no whole list, and most rows hold one \(20 such rows\)"),
    ),
    "arrays of numbers": (
        ID | TEXT | {"tags": turn("[0 27]", "[0]", "[3]", "[3 27]", "[]")}, ID | TEXT, ID | {"tags": "[0 3]"}, {},
        dict(labels=["0", "3", "27"], reads=[["1", "0", "1"]], writes=["id,tags", "1000,[0]", "1001,[27]", "1002,[3]"]),
    ),
    "JSON of emojis and slashes": (
        ID | TEXT | {"mood": turn(r'["\ud83d\ude00", "a\/b"]', r'["\ud83d\ude00"]', '["a/b"]')}, ID | TEXT,
        ID | {"mood": '["a/b"]'}, {},
        dict(labels=["a/b", "😀"], reads=[["1", "1"], ["0", "1"], ["1", "0"]], writes=["id,mood", '1000,"[""a/b""]"']),
    ),
    "sets": (
        ID | TEXT | {"mood": topic_list(lambda names: "{" + ", ".join(map(repr, names)) + "}")}, ID | TEXT,
        ID | {"mood": "{'news', 'sport'}"}, {}, dict(kind="multilabel", writes=["id,mood", "1000,{'music'}"]),
    ),
    "arrays of a database": (
        ID | TEXT | {"mood": topic_list(lambda names: "{" + ",".join(names) + "}")}, ID | TEXT, ID | {"mood": "{}"}, {},
        dict(labels=["music", "news", "sport"], joiner="{,}", writes=["id,mood", "1000,{music}"]),
    ),
    "labels in lines": (
        ID | TEXT | {"mood": topics("\n")}, ID | TEXT, ID | {"mood": "news"}, {},
        dict(labels=["music", "news", "sport"], joiner="\n", reads=[["0", "1", "0"], ["0", "1", "1"]]),
    ),
    "labels with Chinese commas": (
        ID | TEXT | {"mood": topics("、")}, ID | TEXT, ID | {"mood": "news、sport"}, {},
        dict(separator="、", joiner="、"),
    ),
    "labels with two bars": (
        ID | TEXT | {"mood": topics(" || ")}, ID | TEXT, ID | {"mood": "news"}, {}, dict(separator="|", joiner=" || "),
    ),
    "numbers in brackets in the sample": (
        ID | TEXT | {"tags": turn("[0, 2]", "[0]", "[2, 5]", "[5]")}, ID | TEXT, ID | {"tags": "[0, 2]"}, {},
        dict(labels=["0", "2", "5"], writes=["id,tags", "1000,[0]", "1001,[5]"]),
    ),
    "hash tags": (
        ID | TEXT | {"mood": turn("#joy #fear", "#joy #hope", "#fear #hope", "#hope")}, ID | TEXT,
        ID | {"mood": "#joy"}, {},
        dict(kind="multilabel", labels=["#fear", "#hope", "#joy"], writes=["id,mood", "1000,#fear", "1001,#joy"]),
    ),
    "few percentages": (
        ID | TEXT | {"share": turn("10%", "50%", "90%")}, ID | TEXT, ID | {"share": "20%"}, {},
        dict(error="column 'share' holds '10%' in data row 1 .* write 10, or say kind='multiclass'"),
    ),
    "a name with a slash": (
        ID | TEXT | {"band": turn("AC/DC", "Sunn", "Low", "AC/DC")}, ID | TEXT, ID | {"band": "Low"}, {},
        dict(kind="multiclass", classes=["AC/DC", "Low", "Sunn"]),
    ),
    "a 0 or 1 for each label": (
        ID | TEXT | {"tags": turn("[0, 1, 1]", "[1, 0, 0]")}, ID | TEXT, ID | {"tags": "[0, 0, 0]"}, {},
        dict(error=r"'tags' holds 3 numbers in each row, such as '\[0, 1, 1\]': a 0 or 1 for each label"),
    ),
    "lists of objects": (
        ID | TEXT | {"spans": turn('[{"start": 1}]', '[{"start": 2}]')}, ID | TEXT, ID | {"spans": "a"}, {},
        dict(error="is an object and no label"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_labels_are_inferred_read_and_submitted(tmp_path, name):
    check_shape(tmp_path, SHAPES[name])
