"""The model of a finished fold reads new rows as those that it was trained on."""

import numpy as np
import pytest

from kagglekit.model.classifier import Classifier
from kagglekit.training.predict import SavedModel

TRAIN, VALID = np.arange(6, 24), np.arange(6)


@pytest.fixture
def fit(tuner, tmp_path):
    """fit(kind, **knobs): a fine-tuner of a tiny model, what its fold predicted, and the folder of the model."""

    def make(kind="multiclass", **knobs):
        fine = tuner(kind, **{"max_length": 10, "learning_rate": 2e-2, **knobs})
        return fine, fine.fit(TRAIN, VALID, tmp_path / "fold0", 0), tmp_path / "fold0" / "model"

    return make


@pytest.mark.parametrize(
    ("kind", "knobs"),
    [
        ("multiclass", {"truncation": "tail"}),
        ("regression", {"pooling": "attention"}),
        ("multilabel", {"chunks": 3, "chunk_stride": 2, "dropout": 0.1}),
        ("ordinal", {"features": {"numbers": ["stars"], "categories": ["shop"]}, "loss": {"corn": {}}}),
    ],
)
def test_it_predicts_new_rows_as_its_fold_did(fit, kind, knobs):
    tuner, fitted, folder = fit(kind, **knobs)
    model = SavedModel(folder, tuner.recipe.as_dict() | {"backbone": "b", "start": ""}, precision="fp32")
    assert np.allclose(model.predict(tuner.test), fitted.test, atol=1e-5)
    assert np.allclose(model.predict(tuner.train.iloc[VALID]), fitted.oof, atol=1e-5)


def test_it_reads_the_vectors_of_new_rows_from_the_file_of_test(fit, tables, tmp_path):
    train, test = tables(type("Any", (), {"kind": "binary", "labels": ["label"]}))
    for name, table, width in (("train", train, 3), ("test", test, 3)):
        frame = table[["id"]].assign(**{f"v{k}": np.arange(len(table)) * (k + 1.0) for k in range(width)})
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    files = {"vectors": str(tmp_path / "train.parquet"), "test_vectors": str(tmp_path / "test.parquet")}
    tuner, fitted, folder = fit(features=files)
    model = SavedModel(folder, tuner.recipe.as_dict(), precision="fp32")
    assert np.allclose(model.predict(tuner.test), fitted.test, atol=1e-5)
    assert np.allclose(model.predict(tuner.train.iloc[VALID], of_train=True), fitted.oof, atol=1e-5)
    with pytest.raises(ValueError, match="has no vector of id '0'"):
        model.predict(tuner.train)


def test_the_model_itself_is_loaded_when_it_is_asked_and_once(fit):
    tuner, _, folder = fit()
    model = SavedModel(folder, tuner.recipe.as_dict())
    assert "classifier" not in vars(model)
    assert isinstance(model.classifier, Classifier) and model.classifier is model.classifier
    assert not model.classifier.training and len(model.examples(tuner.test)) == len(tuner.test)


def test_a_folder_without_a_model_and_rows_without_a_column_are_named(fit, tmp_path):
    tuner, _, folder = fit(features={"numbers": ["stars"]})
    with pytest.raises(FileNotFoundError, match="fold0 has no model: train its fold again"):
        SavedModel(tmp_path / "fold0", tuner.recipe.as_dict())
    with pytest.raises(ValueError, match="reads the column 'stars', which the rows do not have: set features"):
        SavedModel(folder, tuner.recipe.as_dict()).predict(tuner.test.drop(columns="stars"))
