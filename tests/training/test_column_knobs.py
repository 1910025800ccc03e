"""Budget and truncation by text column, and two columns that change places, in training and in prediction."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kagglekit.competition.text_columns import SEPARATOR, split_columns, swap_columns
from kagglekit.learners.both_orders import BothOrders
from kagglekit.learners.tfidf import Baseline
from kagglekit.training.column_knobs import describe_swap, fill_in, find_sides
from kagglekit.training.finetune import FineTuner
from kagglekit.training.predict import SavedModel, predict
from kagglekit.training.recipe import Recipe
from kagglekit.training.training_rows import ExtraRows, gather_rows

TRAIN, VALID = np.arange(6, 24), np.arange(6)
SIDES = {"multiclass": ["win left", "win right", "tie"], "binary": ["no", "yes"]}


@pytest.fixture
def pairs(task, tables, backbone):
    """pairs(kind, **knobs): a FineTuner of the tiny model, whose text has the columns text left and text right."""

    def make(kind="multiclass", names=("left", "right"), **knobs):
        columns = {
            "text": list(names),
            "text_separator": SEPARATOR,
            "files": {"train": "train.csv", "test": "test.csv"},
        }
        what = task(kind, **columns)
        train, test = tables(what)
        for table in (train, test):
            table["text"] = [
                f"{text}{SEPARATOR}{other}" for text, other in zip(table["text"], table["text"][::-1], strict=True)
            ]
            table["size left"], table["size right"] = "1", [str(n) for n in range(len(table))]
        if kind in SIDES:
            written = dict(zip(what.classes, SIDES[kind], strict=True))
            train["label"], what = train["label"].map(written), replace(what, classes=SIDES[kind])
        knobs = {"max_length": 24, "epochs": 1, "batch_size": 6, "learning_rate": 5e-3, **knobs}
        made = FineTuner(what, train, test, backbone, Recipe(**knobs))
        made.precision = "fp32"
        return made

    return make


@pytest.mark.parametrize(
    ("columns", "names", "pairs"),
    [
        (("response_a", "response_b"), ["winner_model_a", "winner_model_b", "winner_tie"], {"a": "winner_model_a"}),
        (("textA", "textB"), ["a_better", "tie", "b_better"], {"a": "a_better"}),
        (("left", "right"), ["left", "right", "none"], {"a": "left"}),
        (("response_a", "response_b"), ["A", "B"], {"a": "A"}),
        (("answer one", "answer two"), ["two beats one", "one beats two"], {"a": "two beats one"}),
        (("question1", "question2"), ["len_question1", "len_question2"], {"a": "len_question1"}),
        (("question1", "question2"), ["0", "1", "2", "3"], {}),
        (("question1", "question2"), ["is_duplicate"], {}),
        (("anchor", "target"), ["0.0", "0.25"], {}),
        (("response_a", "response_b"), ["great", "bad"], {}),  # no piece of a word
        (("response_a", "response_b"), ["winner_a", "draw"], {}),
    ],
)
def test_labels_that_name_a_side_are_found_by_the_names_of_the_columns(columns, names, pairs):
    found = find_sides(*columns, names)
    assert list(found) == list(pairs.values())
    assert all(new in names and new != old for old, new in found.items())


@pytest.mark.parametrize(
    ("knobs", "task_options", "message"),
    [
        ({"budget": {"lift": 5}}, {}, "budget: 'lift' is no text column of the task: did you mean left?"),
        (
            {"truncation": {"label": "tail"}},
            {},
            "truncation: 'label' is no text column of the task: it has left, right",
        ),
        ({"swap": ["left", "middle"]}, {}, "swap: 'middle' is no text column of the task"),
        (
            {"budget": {"left": 5}},
            {"text": ["left"]},
            "budget is of text columns, and the text of this task is one column",
        ),
        (
            {"budget": {"left": 5}},
            {"pattern": "{left}: {right}"},
            "is made of its columns by template='{left}: {right}'",
        ),
        (
            {"swap": ["left", "right"]},
            {"text_separator": "\n"},
            "joined by line breaks by an earlier version: run 1_eda",
        ),
        ({"swap": {"columns": ["left", "right"], "labels": {"bad": "god"}}}, {}, "'god' is none of bad, mixed, good"),
        (
            {"swap": {"columns": ["left", "right"], "labels": {"bad": "good", "mixed": "good"}}},
            {},
            "exchanges a name with two others",
        ),
    ],
)
def test_a_knob_that_does_not_fit_the_columns_of_a_task_is_an_error(task, knobs, task_options, message):
    what = task("multiclass", **{"text": ["left", "right"], "text_separator": SEPARATOR, **task_options})
    with pytest.raises(ValueError) as error:
        fill_in(Recipe(**knobs), what)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"budget": {"left": -1}}, "budget: left=-1 is out of range: it must be 0 or more tokens"),
        ({"budget": {"left": 100, "right": 92}}, "below max_length=192 in all, where separators stand too"),
        ({"budget": {"left": "5"}}, "it must be dict\\[str, int\\]"),
        ({"budget": {"left": 5}, "chunks": 2}, "budget is of texts that are truncated"),
        ({"truncation": {"left": "top"}}, "truncation='top' is out of range: it must be one of head, tail"),
        ({"truncation": {"left": "tail"}, "chunks": 2}, "two ways to read a long text"),
        ({"swap": ["left"]}, "two different text columns"),
        ({"swap": ["left", "left"]}, "two different text columns"),
        ({"swap": {"column": ["a", "b"]}}, "swap='column' is out of range"),
        ({"swap": {"columns": ["a", "b"], "labels": ["x"]}}, "swap: labels=.* must be pairs of names"),
        ({"swap": {"columns": ["a", "b"], "labels": {"x": 1}}}, "swap: labels=.* must be pairs of names"),
    ],
)
def test_a_knob_of_columns_that_can_never_fit_is_an_error_at_once(knobs, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**knobs)


def test_ordered_classes_cannot_be_exchanged(task):
    what = task("ordinal", text=["left", "right"], text_separator=SEPARATOR)
    assert fill_in(Recipe(swap=["left", "right"]), what).swap["exchange"] == [0]
    with pytest.raises(ValueError, match="say kind='multiclass' in 1_eda"):
        fill_in(Recipe(swap={"columns": ["left", "right"], "labels": {"1": "3"}}), what)


def test_features_and_auxiliary_targets_of_one_side_do_not_cross_over(task, pairs):
    what = task("multiclass", text=["left", "right"], text_separator=SEPARATOR)
    lonely = {"numbers": ["size left"]}
    with pytest.raises(ValueError, match="the feature 'size left' is of one side"):
        fill_in(Recipe(swap=["left", "right"], features=lonely), what)
    kept = fill_in(Recipe(swap={"columns": ["left", "right"], "features": {}}, features=lonely), what)
    assert kept.swap["features"] == {} and fill_in(kept, what) == kept
    fine = pairs(swap=["left", "right"], auxiliary={"size right": 0.5})
    assert "size right learned in the order of the file alone" in describe_swap(fine.recipe.swap)
    labels = fine.all_labels.in_both_orders([1, 0, 2], fine.recipe.swap["one_order"]).auxiliary[0].labels
    assert not np.isnan(labels[:24]).any() and np.isnan(labels[24:]).all()
    assert not np.isnan(fine.all_labels.in_both_orders([1, 0, 2]).auxiliary[0].labels).any()


def test_what_is_filled_in_says_everything_and_stays(task):
    what = task("multiclass", text=["q", "left", "right"], classes=SIDES["multiclass"], text_separator=SEPARATOR)
    features = {"numbers": ["size left", "size right", "age"]}
    given = dict(budget={"right": 9}, truncation={"left": "tail"}, swap=["right", "left"], features=features)
    recipe = fill_in(Recipe(**given), what)
    assert list(recipe.budget.items()) == [("q", 0), ("left", 0), ("right", 9)]
    assert list(recipe.truncation.items()) == [("q", "head"), ("left", "tail"), ("right", "head")]
    assert recipe.swap["places"] == [2, 1] and recipe.swap["exchange"] == [1, 0, 2]
    assert recipe.swap["features"] == {"size left": "size right"}
    assert fill_in(recipe, what) == fill_in(Recipe.read(recipe.as_dict()), what) == recipe
    assert describe_swap(recipe.swap) == (
        "swap: right and left change places at random, and with them win left and win right, size left and size right"
    )


def test_a_budget_and_rules_by_column_are_what_the_model_reads(pairs):
    fine = pairs(budget={"left": 4}, truncation={"left": "head", "right": "tail"}, max_length=12)
    for text, ids in zip(fine.train["text"], fine.rows.tokens, strict=True):
        left, right = (fine.tokenizer(part, add_special_tokens=False)["input_ids"] for part in split_columns(text))
        at = ids.tolist().index(3)
        assert ids[1:at].tolist() == left[: at - 1] and len(ids) <= 12
        assert at - 1 >= min(4, len(left))
        assert ids[at + 1 : -1].tolist() == right[len(right) - (len(ids) - at - 2) :]


def test_token_types_reach_the_model(pairs, monkeypatch):
    fine = pairs()
    model, seen = fine.untrained(TRAIN), []
    model.backbone.register_forward_pre_hook(lambda module, args, given: seen.append(given), with_kwargs=True)
    examples = fine._gather(TRAIN, 0).examples
    batch = examples.__getitems__([0, 1])
    batch.pop("labels")
    first = model(**batch)["logits"]
    assert seen[0]["token_type_ids"].unique().tolist() == [0, 1]
    batch.pop("token_type_ids")
    assert not torch.allclose(first, model(**batch)["logits"])


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel", "regression", "ordinal"])
def test_training_reads_either_order_with_the_labels_of_that_order(pairs, kind):
    fine = pairs(kind, swap=["left", "right"])
    rows = fine._gather(TRAIN, 0)
    plain, n = fine.rows.tokens, len(TRAIN)
    assert len(rows.examples) == n and len(rows.examples.examples) == 2 * n
    turned, labels = 0, []
    for epoch in range(4):
        rows.examples.epoch = epoch
        batch, again = (rows.examples.__getitems__(list(range(n))) for _ in range(2))
        assert torch.equal(batch["input_ids"], again["input_ids"])
        for place, ids in enumerate(batch["input_ids"].tolist()):
            own = [token for token in ids if token]
            is_turned = own != plain[[TRAIN[place]]].flat.tolist()
            turned += is_turned
            labels.append((is_turned, rows.examples.examples.arrays["labels"][place], batch["labels"][place]))
    assert 0.25 < turned / (4 * n) < 0.75
    exchange = fine.recipe.swap["exchange"]
    for is_turned, own, read in labels:
        if kind == "multiclass":
            assert int(read) == (exchange[int(own)] if is_turned else int(own))
        else:
            assert np.array_equal(own, read)


def test_label_columns_that_name_a_side_are_exchanged(task, tables, backbone):
    what = task("multilabel", labels=["a wins", "b wins"], text=["text a", "text b"], text_separator=SEPARATOR)
    train, test = tables(what)
    for table in (train, test):
        table["text"] = table["text"] + SEPARATOR + "film"
    fine = FineTuner(what, train, test, backbone, Recipe(max_length=24, swap=["text a", "text b"]))
    arrays = fine._gather(TRAIN, 0).examples.examples.arrays["labels"]
    assert np.array_equal(arrays[: len(TRAIN)], arrays[len(TRAIN) :, ::-1])
    assert (arrays[:, 0] != arrays[:, 1]).any()


@pytest.mark.parametrize(
    "more",
    [{}, {"chunks": 2, "chunk_stride": 2, "max_length": 12}, {"features": {"numbers": ["size left", "size right"]}}],
)
def test_predictions_are_the_mean_of_both_orders_also_of_the_saved_model(pairs, tmp_path, more):
    fine = pairs(swap=["left", "right"], **more)
    fitted = fine.fit(TRAIN, VALID, tmp_path / "fold0", 0)
    saved = SavedModel(tmp_path / "fold0" / "model", fine.settings, precision="fp32")
    assert np.allclose(saved.predict(fine.test), fitted.test, atol=1e-6)
    turned = fine.test.assign(text=[swap_columns(text, 0, 1) for text in fine.test["text"]])
    turned = turned.rename(columns={"size left": "size right", "size right": "size left"})
    assert np.allclose(saved.predict(turned)[:, [1, 0, 2]], fitted.test, atol=1e-6)
    single = SavedModel(tmp_path / "fold0" / "model", fine.settings | {"swap": []}, precision="fp32")
    one, two = single.predict(fine.test), single.predict(turned)[:, [1, 0, 2]]
    assert not np.allclose(one, two, atol=1e-4)
    assert np.allclose((one + two) / 2, fitted.test, atol=1e-6)


@pytest.mark.parametrize("copies", [0, 1])
def test_changed_copies_extra_rows_and_a_teacher_stand_in_both_orders(pairs, copies):
    on_the_fly = {} if copies else {"augment_share": 1.0}
    fine = pairs(swap=["left", "right"], augment={"AEDA": {}}, augment_copies=copies, **on_the_fly)
    extra = ExtraRows(fine.test[["id", "text"]], np.eye(3, dtype=np.float32)[[0] * 7], np.ones(7, np.float32))
    teacher = np.random.default_rng(0).random((24, 3)).astype(np.float32)
    given = fine.rows, fine.all_labels, fine.recipe, fine.tokenizer
    rows = gather_rows(TRAIN, *given, augmenter=fine.augmenter, extra=extra, teacher=teacher)
    n = 18 * (1 + copies) + 7
    assert len(rows.examples) == n and len(rows.inputs) == 2 * n
    texts = rows.inputs.columns["text"].tolist()
    assert [swap_columns(text, 0, 1) for text in texts[:n]] == texts[n:]
    arrays = rows.examples.examples.arrays
    assert np.array_equal(arrays["teacher"][:n], arrays["teacher"][n:][:, [1, 0, 2]])
    assert np.array_equal(arrays["labels"][:n], arrays["labels"][n:][:, [1, 0, 2]])
    assert set(rows.examples.__getitems__([0, n - 1])) >= {"input_ids", "token_type_ids", "teacher", "labels"}


def test_tf_idf_learns_both_orders_and_predicts_their_mean(pairs, tmp_path):
    fine = pairs(swap=["left", "right"])
    swap = fine.recipe.swap
    made = BothOrders(fine.task, fine.train, fine.test, swap, lambda *tables: Baseline(fine.task, *tables))
    assert len(made.learner.train) == 48
    labels = made.learner.train["label"]
    exchange = {"win left": "win right", "win right": "win left", "tie": "tie"}
    assert labels[24:].tolist() == [exchange[label] for label in labels[:24]]
    fitted = made.fit(TRAIN, VALID, tmp_path, 0)
    turned_tables = (
        table.assign(text=[swap_columns(text, 0, 1) for text in table["text"]]) for table in (fine.train, fine.test)
    )
    train, test = turned_tables
    train["label"] = train["label"].map(exchange)
    other = BothOrders(fine.task, train, test, swap, lambda *tables: Baseline(fine.task, *tables))
    assert fitted.oof.shape == (6, 3) and fitted.test.shape == (7, 3)
    assert np.allclose(other.fit(TRAIN, VALID, tmp_path, 0).test[:, [1, 0, 2]], fitted.test, atol=0.05)


def test_without_swap_nothing_is_read_twice(pairs):
    fine = pairs()
    assert fine.rows.swapped is None and fine.rows.turned is not None
    assert type(fine._gather(TRAIN, 0).examples).__name__ == "Examples"
    examples = fine._gather(TRAIN, 0).features.examples(fine.test_rows)
    assert examples.other is None and predict(fine.untrained(TRAIN), examples, "fp32").shape == (7, 3)
