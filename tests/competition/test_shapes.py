"""Shapes that competitions really have: which files and columns there are, and which of them are what."""

import pytest

from tests.competition.shapes import (
    ID,
    NEW,
    NOUNS,
    ONE,
    PAIR,
    PARSED,
    PHOTOS,
    PHRASES,
    TEXT,
    TWO,
    check_shape,
    number,
    one_hot,
    prose,
    turn,
)

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
    "pairs of sentences with their parses": (
        ID | PAIR | PARSED | {"gold": ONE},
        ID | PAIR | PARSED,
        ID | {"gold": "a"},
        {},
        dict(text=["first", "second"], labels=["gold"], left="tree (parses), parse (parses)"),
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
    "posts with photos, one of few files too": (
        ID | PHOTOS | {"post": prose, "mood": turn("bad", "good")},
        ID | PHOTOS | {"post": prose},
        ID | {"mood": "bad"},
        {},
        dict(text=["post"], group=None, left="photo (images), badge (images)")
        | dict(images=["photo", "badge"]),
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
    "several columns, of which one is named label": (
        ID | TEXT | {"source": ONE, "label": turn("x", "y")}, ID | TEXT, ID | {"answer": ""}, {},
        dict(labels=["label"], left="source (3 values, in train only)", writes=["id,answer", "1000,x"]),
    ),
    "row names that R wrote": (
        {"": lambda row: row + 1} | ID | TEXT | {"stars": turn(1, 2, 3)}, {"": lambda row: row + 1} | ID | TEXT,
        {"": lambda row: row + 1} | ID | {"stars": 1}, {},
        dict(id="id", kind="ordinal", labels=["stars"], writes=[",id,stars", "1001,1000,1", "1002,1001,2"]),
    ),
    "an index without a name, and a sample in another order": (
        {"": lambda row: row} | TEXT | {"y": ONE}, {"": lambda row: row} | TEXT,
        {"id": lambda row: 2011 - row, "y": "a"}, {},
        dict(id="index", labels=["y"], ids=["0", "1"], writes=["id,y", "1011,c", "1010,b"]),
    ),
    "names that are numbers, as pandas writes them": (
        {"0": prose, "1": turn(0, 1)}, {"0": prose}, None, {}, dict(text=["0"], labels=["1"], kind="binary"),
    ),
    "titles of two words and long descriptions": (
        ID | {"title": lambda row: f"{NOUNS[row % 7]} mk{row}", "description": lambda row: prose(row) * 3, "y": ONE},
        ID | {"title": lambda row: f"{NOUNS[row % 7]} mk{row}", "description": lambda row: prose(row) * 3},
        ID | {"y": "a"}, {}, dict(text=["title", "description"]),
    ),
    "names that are written otherwise in test": (
        {"Review Title": prose, "Review Text": prose, "ID": lambda row: row, "Y": ONE},
        {"review_title": prose, "review_text": prose, "id": lambda row: row}, ID | {"y": "a"}, {},
        dict(id="ID", text=["Review Title", "Review Text"], labels=["Y"], writes=["id,y", "1000,a"]),
    ),
    "a text that train and test call otherwise": (
        ID | {"comment": prose, "y": turn(0, 1)}, ID | {"content": prose, "lang": "tr"}, ID | {"y": 0.5}, {},
        dict(text=["comment"], renamed={"test": {"content": "comment"}}, kind="binary"),
    ),
    "texts that train and test call otherwise": (
        ID | {"comment": prose, "y": turn(0, 1)}, ID | {"content": prose, "title": prose}, ID | {"y": 0.5}, {},
        dict(error="train alone has 'comment' and test alone has 'content', 'title': give a text the same name"),
    ),
    "a sample with texts that repeat, and no ids": (
        {"title": turn("So good", "So bad")} | TEXT | {"y": ONE}, {"title": turn("So good", "So bad")} | TEXT,
        {"title": turn("So good", "So bad")} | TEXT | {"y": "a"}, {},
        dict(id="", labels=["y"], writes=["title,text,y", f"So good,{prose(1000)},a", f"So bad,{prose(1001)},b"]),
    ),
    "search terms of two words": (
        ID | {"term": "x", "search_term": lambda row: f"{NOUNS[row % 7]} mk{row}", "title": lambda row: prose(row) * 2}
        | {"y": ONE},
        ID | {"term": "x", "search_term": lambda row: f"{NOUNS[row % 7]} mk{row}", "title": lambda row: prose(row) * 2},
        ID | {"y": "a"}, {}, dict(text=["search_term", "title"]),
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
    "no header in train and test, which have all columns": (
        {"4": turn(4, 0), "NO_QUERY": "NO_QUERY", prose(70): prose},
        {"0": turn(0, 4), "NO_QUERY": "NO_QUERY", prose(71): prose}, None, {"labels": "column 1"},
        dict(text=["column 3"], labels=["column 1"], kind="binary", reads=["4", "4", "0"], id="")
        | dict(left="column 2 (1 value)", writes=["column 1", "0", "4"]),
    ),
    "no header in train and test, and pairs": (
        {"0": turn(0, 1), "怎么办": lambda row: f"怎么{row}办理", "如何是好呢": lambda row: f"如何是{row}"},
        {"如何退款": lambda row: f"如何{row}退款", "怎么改名呢": lambda row: f"怎么改{row}"}, None, {},
        dict(text=["column 2", "column 3"], labels=["column 1"], kind="binary", writes=["column 1", "0", "1"]),
    ),
    "no header in train and test, and no labels": (
        {prose(70): prose}, {prose(71): prose}, None, {},
        dict(error=r"train has no column that test has not: say labels=, .*; they are column 1 \(words\)"),
    ),
    "no header in train and test, of which test has too few columns": (
        {"0": turn(0, 1), "x": turn("x", "y"), "y": "y", prose(70): prose}, {prose(71): prose}, None, {},
        dict(error="train has 4 columns and test 1, and neither has a header: put a line of names above"),
    ),
    "no header in test": (
        ID | TEXT | {"y": ONE}, {"1000": lambda row: row, prose(0): prose}, ID | {"y": "a"}, {},
        dict(error="test.csv has no header: its first line holds '1000', and no name of train.csv. .* id, text, y"),
    ),
    "a text that is called as its column, and no header lacks": (
        {"text": turn("text", *map(prose, range(59)))} | {"y": ONE}, TEXT, None, {}, dict(text=["text"], labels=["y"]),
    ),
    "no sample, a word that repeats in train, and a count": (
        {"word": lambda row: f"w{row % 20}"} | TEXT | {"y": ONE, "idx": lambda row: row},
        {"word": lambda row: f"w{row}"} | TEXT | {"idx": lambda row: row}, None, {}, dict(id="idx", labels=["y"]),
    ),
    "no sample, and a test with a blank column of labels": (
        ID | TEXT | {"y": ONE}, ID | TEXT | {"y": ""}, None, {}, dict(id="id", labels=["y"], writes=["id,y", "1000,a"]),
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
        TEXT | {"The Label": turn(0, 1)}, {"text": lambda row: prose(row % 3)} | {"The Label": turn(0, 1)}, None,
        {"labels": "the_label"}, dict(id="", text=["text"], labels=["The Label"], writes=["The Label", "0", "1"]),
    ),
    "several columns, of which one holds what the sample shows": (
        ID | TEXT | {"source": ONE, "mood": turn("x", "y")}, ID | TEXT, ID | {"answer": "y"}, {}, dict(labels=["mood"]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_is_inferred_read_and_submitted(tmp_path, name):
    check_shape(tmp_path, SHAPES[name])
