import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kagglekit.data.features import Features, check_features
from kagglekit.model.feature_layers import FeatureEncoder

TABLE = pd.DataFrame({"id": list("abcdef"), "age": ["1", "2", "", "4", " 5 ", "NA"], "price": ["1e3"] * 6})
TABLE["shop"] = ["north", "south", "", "north ", "NA", "east"]
NUMBERS = st.floats(-1e6, 1e6).map(lambda number: str(round(number, 3)))
CELLS = st.one_of(NUMBERS, st.sampled_from(["", "nan", "NA", "-1", "2.5"]))


def test_numbers_are_standardised_and_missing_ones_are_zero_with_a_sign_of_it():
    numbers = Features.fit(TABLE, ["age", "price"]).transform(TABLE)["numbers"]
    age = np.array([1, 2, 4, 5])
    assert numbers.dtype == np.float32 and numbers.shape == (6, 3)  # age, price, and whether age is missing
    assert np.allclose(numbers[[0, 1, 3, 4], 0], (age - age.mean()) / age.std())
    assert np.array_equal(numbers[[2, 5], 0], [0, 0])
    assert np.array_equal(numbers[:, 1], np.zeros(6))  # one value in all rows says nothing
    assert np.array_equal(numbers[:, 2], [0, 0, 1, 0, 0, 1])


def test_categories_are_counted_from_one_and_zero_is_unknown_or_missing():
    features = Features.fit(TABLE, categories=["shop"])
    assert features.known == [["NA", "east", "north", "south"]]
    assert features.transform(TABLE)["categories"].T.tolist() == [[3, 4, 0, 3, 1, 2]]
    other = features.transform(pd.DataFrame({"shop": ["west", "", "East", "east"]}))
    assert other["categories"].T.tolist() == [[0, 0, 0, 2]] and other["categories"].dtype == np.int64


def test_values_of_other_rows_do_not_change_what_is_learned():
    rows = [0, 1, 3]
    spoilt = TABLE.copy()
    spoilt.loc[[2, 4, 5], ["age", "price", "shop"]] = ["1e9", "-7", "elsewhere"]
    learned = [Features.fit(table.iloc[rows], ["age", "price"], ["shop"]) for table in (TABLE, spoilt)]
    assert learned[0] == learned[1]
    assert learned[0].known == [["north", "south"]] and learned[0].gaps == [False, False]
    clean, other = (learned[0].transform(table.iloc[rows]) for table in (TABLE, spoilt))
    assert all(np.array_equal(clean[name], other[name]) for name in clean)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(CELLS, st.sampled_from(["x", "y", "z", ""])), min_size=1, max_size=30), st.randoms())
def test_training_rows_have_mean_zero_and_deviation_one_in_any_order(cells, random):
    table = pd.DataFrame(cells, columns=["number", "kind"])
    features = Features.fit(table, ["number"], ["kind"])
    given = features.transform(table)
    present = given["numbers"][given["numbers"][:, 1] == 0, 0] if features.gaps[0] else given["numbers"][:, 0]
    assert np.isfinite(given["numbers"]).all()
    if len(present):
        values = [float(number) for number, _ in cells if number not in ("", "nan", "NA")]
        same = np.ptp(values) < 1e-9 * np.abs(values).max() or np.ptp(values) == 0
        assert abs(present.mean()) < 1e-3 and (same or abs(present.std() - 1) < 1e-3)
    codes = given["categories"][:, 0]
    assert (codes == 0).tolist() == (table["kind"] == "").tolist()
    assert set(codes) - {0} == set(range(1, features.sizes["categories"][0]))
    order = random.sample(range(len(table)), len(table))
    shuffled = table.iloc[order]
    again = Features.fit(shuffled, ["number"], ["kind"]).transform(shuffled)
    assert np.allclose(again["numbers"], given["numbers"][order], atol=1e-3)
    assert np.array_equal(again["categories"], given["categories"][order])


def test_a_stray_value_stays_finite():
    features = Features.fit(TABLE, ["age"])
    strays = features.transform(pd.DataFrame({"age": ["1e300", "-1e300"]}))["numbers"]
    assert strays[:, 0].tolist() == [1e4, -1e4]


def test_what_is_learned_survives_json():
    features = Features.fit(TABLE, ["age", "price"], ["shop"])
    again = Features(**json.loads(json.dumps(asdict(features))))
    assert again == features
    assert all(np.array_equal(again.transform(TABLE)[name], array) for name, array in features.transform(TABLE).items())


def test_a_column_with_nothing_in_it_is_zero():
    empty = pd.DataFrame({"n": ["", "NA"], "c": ["", " "]})
    features = Features.fit(empty, ["n"], ["c"])
    assert features.sizes == {"numbers": 2, "categories": [1]}
    given = features.transform(pd.DataFrame({"n": ["3", ""], "c": ["x", ""]}))
    assert given["numbers"].tolist() == [[3, 0], [0, 1]] and given["categories"].tolist() == [[0], [0]]


@pytest.mark.parametrize(("numbers", "categories"), [(["age"], []), ([], ["shop"]), (["age", "price"], ["shop"])])
def test_sizes_are_what_the_encoder_needs(numbers, categories):
    features = Features.fit(TABLE, numbers, categories)
    given = {name: torch.from_numpy(array) for name, array in features.transform(TABLE).items()}
    assert list(given) == [name for name, there in (("numbers", numbers), ("categories", categories)) if there]
    assert FeatureEncoder(**features.sizes, width=5)(**given).shape == (6, 5)


@pytest.fixture
def check(task):
    """check(numbers, categories, test): whether these columns of TABLE can be features."""
    files = {"train": "train.csv", "test": "test.csv"}
    competition = task("binary", files=files, group="shop", labels=["label"])

    def check(numbers=(), categories=(), test=TABLE, train=TABLE):
        check_features(competition, train, test, numbers, categories)

    return check


def test_good_columns_pass(check):
    check(["age", "price"], [])
    check([], ["age"])
    check()


@pytest.mark.parametrize("cell", ["five", "1,5", "12 years", "1_000", "inf", "1e999"])
def test_a_cell_that_is_no_number_is_named(check, cell):
    spoilt = TABLE.assign(age=["1", "2", "3", "4", cell, cell])
    words = rf"test.csv: column 'age' holds '{cell}' in data row 5 \(id 'e'\), which is no number \(2 such rows\)"
    with pytest.raises(ValueError, match=f"{words}; correct it, leave it empty, or name the column as a category"):
        check(["age"], test=spoilt)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"numbers": ["id"]}, "column 'id' is the id: it cannot be a feature"),
        ({"categories": ["label"]}, "column 'label' is a label"),
        ({"categories": ["shop"]}, "column 'shop' is the group"),
        ({"numbers": ["age"], "categories": ["age"]}, "column 'age' is named as a number and as a category"),
        ({"numbers": ["wage"]}, "train.csv has no column 'wage'"),
        ({"numbers": ["age"], "test": TABLE[["id", "price"]]}, "test.csv has no column 'age': features must be"),
    ],
)
def test_columns_that_cannot_be_features_are_errors(check, knobs, words):
    with pytest.raises(ValueError, match=words):
        check(**knobs)
