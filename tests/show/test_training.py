"""Tables of a run before it is trained."""

import numpy as np
import pytest

from kagglekit.runs.run_knobs import TrainingRun
from kagglekit.show.training import decode_row, show_model, show_recipe, show_settings, show_tokens
from kagglekit.training.finetune import FineTuner
from kagglekit.training.recipe import Recipe


@pytest.fixture
def tuner(task, tables, backbone):
    def make(**knobs):
        what = task("multiclass")
        return FineTuner(what, *tables(what), backbone, Recipe(**{"max_length": 8} | knobs))

    return make


def test_a_recipe_shows_what_differs_and_the_learning_rate_that_it_comes_to(tuner):
    fine = tuner(pooling="max")
    model = fine.untrained(np.arange(20))
    run = TrainingRun(work="runs/x", run="other", folds=[1], hours=2.0, seed=4)
    table = show_recipe(run, fine.recipe, rates=fine.rates(model))
    assert list(table.index) == ["backbone", "seed", "max_length", "pooling", "learning_rate"]
    assert table.loc["pooling"].tolist()[:2] == ["max", "auto"] and table.loc["backbone", "value"] == "minilm"
    rate = fine.plan_rates(np.arange(20))["head"].max()
    words = table.loc["learning_rate", "value"]
    assert words.endswith("by the size of the backbone") and float(words.split(",")[0]) == pytest.approx(rate, rel=0.05)
    assert list(show_recipe(TrainingRun(), Recipe()).index) == ["backbone"]
    adapted = tuner(tuning="lora")  # not the rate of all weights
    shown = show_recipe(adapted.recipe, rates=adapted.rates(adapted.untrained(np.arange(20)))).loc[
        "learning_rate", "value"
    ]
    assert shown == f"{adapted.plan_rates(np.arange(20))['head'].max():.2g}, by the size of the backbone"
    fixed = show_recipe(TrainingRun(), Recipe(learning_rate=1e-4))
    assert fixed.loc["learning_rate", "value"] == "0.0001"


@pytest.mark.parametrize("knobs", [{}, {"chunks": 3, "chunk_stride": 2}])
def test_what_is_read_of_the_texts_is_counted_and_shown(tuner, knobs):
    fine = tuner(**knobs)
    lengths = fine.rows.tokens.lengths
    table = show_tokens(fine.rows, fine.test_rows, 8)
    assert table.loc["train", "longest"] == lengths.max() and table.loc["test", "texts"] == "7"
    assert table.loc["train", "share with 8 or more"] == f"{(lengths >= 8).mean():.1%}"
    text = decode_row(fine.rows, fine.tokenizer)
    assert text.startswith("[CLS]") and text.endswith("[SEP]")


def test_the_parts_of_a_model_have_all_its_parameters(tuner):
    fine = tuner(pooling="attention", freeze_layers=1, freeze_embeddings=True)
    model = fine.untrained(np.arange(20))
    table = show_model(model)
    assert list(table.index) == ["backbone", "pooling", "head"] and table.loc["backbone", "what"].endswith("2 layers")
    counts = table[["parameters", "trained"]].map(lambda text: int(text.replace(",", "")))
    assert counts["parameters"].sum() == sum(p.numel() for p in model.parameters())
    assert counts["trained"].sum() == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert set(show_model(model, learns=False)["trained"]) == {"0"}  # as with epochs=0


def test_of_other_learners_the_settings_that_say_something_are_shown():
    assert show_settings({"backbone": "tfidf", "start": "", "clean": []}).empty
    table = show_settings({"backbone": "minilm", "learner": "frozen", "learner_options": {"classifier": "svm"}})
    assert table["value"].to_dict() == {"learner_options": "{'classifier': 'svm'}"}


def test_an_untrained_model_leaves_random_numbers_as_they_were(tuner):
    fine = tuner()
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    first, second = (fine.untrained(np.arange(20)) for _ in range(2))
    assert (np.random.get_state()[1] == before).all()
    assert sum(p.numel() for p in first.parameters()) == sum(p.numel() for p in second.parameters())
