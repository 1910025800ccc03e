"""Knobs: what a field says, and what is read from it."""

import json
import subprocess
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from pydoc import plain, render_doc
from typing import Any

import pytest

from kagglekit.data.truncation import TRUNCATIONS
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS
from kagglekit.learners import choose
from kagglekit.model.heads import HEADS
from kagglekit.model.pooling import POOLINGS
from kagglekit.options import RENAMED, Knob, Knobs, current_names, knob, knobs_of, make_knobs, named
from kagglekit.pretraining.masking import MASKINGS
from kagglekit.pretraining.stage_knobs import HIDING, Stage
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.runs.blend_knobs import EnsembleRun, SubmitRun
from kagglekit.runs.run_knobs import READS, PretrainingRun, TrainingRun
from kagglekit.selftraining.distillation_loss import LOSSES
from kagglekit.selftraining.selftraining_knobs import DistillationOptions, SelfTrainingOptions
from kagglekit.training.recipe import SCHEDULES, Recipe
from kagglekit.training.recipe_checks import FEATURES

KINDS = (Recipe, TrainingRun, Stage, PretrainingRun, EnsembleRun, SubmitRun, SelfTrainingOptions, DistillationOptions)


@dataclass(frozen=True)
class Oven(Knobs):
    owner = "bake"

    degrees: "float | None" = knob(180.0, "of the oven", above=0, most=300)
    trays: "int" = knob(1, "at a time", least=1)
    mode: "str" = knob("fan", "of the heat", choices=("fan", "grill"))
    spices: "dict[str, Any]" = knob({}, "name -> grams", choices=("salt", "thyme"))


@pytest.mark.parametrize(
    ("bounds", "words", "inside", "outside"),
    [
        ({"above": 0}, "above 0", [0.1, 1e9], [0, -1, float("inf"), float("nan")]),
        ({"least": 0}, "0 or more", [0, 7], [-1, float("inf")]),
        ({"least": 1}, "1 or more", [1], [0]),
        ({"above": 0, "below": 1}, "above 0 and below 1", [0.5], [0, 1]),
        ({"least": 0, "below": 1}, "from 0 to below 1", [0, 0.9], [1, -0.1]),
        ({"above": 0, "most": 1}, "above 0, and at most 1", [1], [0, 1.1]),
        ({"least": 0, "most": 1}, "from 0 to 1", [0, 1], [1.1, -1]),
        ({"choices": ("a", "b")}, "one of a, b", ["a"], ["c"]),
        ({"choices": ("", "b")}, 'one of "", b', ["", "b"], ["c"]),
        ({"least": 0, "choices": ("all",)}, "0 or more, or all", [0, "all"], [-1, "none"]),
        ({}, "", [float("inf"), "x", None, True], []),
    ],
)
def test_a_rule_is_said_in_words_and_kept(bounds, words, inside, outside):
    one = Knob("x", "Any", None, **bounds)
    assert one.rule == words
    assert all(map(one.fits, inside)) and not any(map(one.fits, outside))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"trays": 1.5}, "bake: trays=1.5 is out of range: it must be int"),
        ({"degrees": 0}, "bake: degrees=0 is out of range: it must be above 0, and at most 300"),
        ({"mode": "steam"}, "bake: mode='steam' is out of range: it must be one of fan, grill"),
        ({"spices": {"salt": 1, "mint": 2}}, "bake: spices='mint' is out of range: it must be one of salt, thyme"),
        ({"degree": 200}, r"bake has no knob 'degree': did you mean degrees\?$"),
    ],
)
def test_a_dataclass_of_knobs_refuses_what_does_not_fit(given, words):
    with pytest.raises(ValueError, match=words):
        Oven(**given)
    with pytest.raises(ValueError, match=words):
        replace(Oven(), **given)


def test_knobs_are_plain_data_and_defaults_are_not_shared():
    assert Oven() == Oven(180.0, 1) and Oven(degrees=None).as_dict()["degrees"] is None
    assert Oven().spices is not Oven().spices
    assert Oven.read({"mode": "grill", "work": "runs/bbc"}) == Oven(mode="grill")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_field_has_words_and_a_default_that_fits_and_stands_in_the_manual(kind):
    manual = plain(render_doc(kind))
    assert list(knobs_of(kind)) == [one.name for one in fields(kind)]
    for one in knobs_of(kind).values():
        one.check(one.default)
        assert one.words and f"{one}" in manual and one.words in manual and one.rule in manual


@pytest.mark.parametrize(
    ("kind", "name", "catalogue"),
    [
        (Recipe, "truncation", TRUNCATIONS),
        (Recipe, "pooling", ["auto", *POOLINGS]),
        (Recipe, "head", [*HEADS, "answer"]),
        (Recipe, "schedule", SCHEDULES),
        (Recipe, "features", FEATURES),
        (Stage, "objective", OBJECTIVES),
        (Stage, "masking", MASKINGS),
        (EnsembleRun, "method", ["auto", *METHODS]),
        (EnsembleRun, "calibrate", ["", *CALIBRATIONS]),
        (EnsembleRun, "thresholds", ["", "auto", *THRESHOLDS]),
        (DistillationOptions, "loss", ["", *LOSSES]),
        (TrainingRun, "learner", ["finetune", *choose.OTHERS]),
    ],
)
def test_the_choices_of_a_knob_are_those_of_its_catalogue(kind, name, catalogue):
    assert list(knobs_of(kind)[name].choices) == list(catalogue)


def test_what_a_learner_reads_and_which_objectives_hide_tokens_are_declared_right():
    known = knobs_of(TrainingRun, Recipe).keys()
    assert set(READS) == {"tfidf", "soup", *choose.OTHERS} and all(names <= known for names in READS.values())
    for name, kind in choose.OTHERS.items():
        fields_ = {one.name for one in fields(kind)}
        assert READS[name] & knobs_of(Recipe).keys() - {"clean", "swap", "candidates"} <= fields_
    assert list(HIDING) == [name for name, objective in OBJECTIVES.items() if objective.hides_tokens]


def test_only_says_which_knobs_go_together():
    for kinds in ((Recipe, TrainingRun), (Stage, PretrainingRun), (EnsembleRun,)):
        known = knobs_of(*kinds)
        for one in known.values():
            for name, needed in one.only.items():
                assert needed in (True, False) or all(known[name].fits(value) for value in needed)
    stored = {"chunk_stride": 4, "patience": 3, "epochs": 2}  # of an older version, where they had no effect
    assert Recipe.read(stored) == Recipe(epochs=2) and Recipe.read({**stored, "chunks": 2}).chunk_stride == 4


def test_no_knob_of_a_notebook_stands_in_two_dataclasses():
    for one, other in ((Recipe, TrainingRun), (Stage, PretrainingRun)):
        assert not knobs_of(one).keys() & knobs_of(other).keys()
    assert not RENAMED.keys() & {name for kind in KINDS for name in knobs_of(kind)}


def test_the_fields_are_read_without_torch_and_the_like():
    modules = (
        "training.recipe",
        "pretraining.stage_knobs",
        "selftraining.selftraining_knobs",
        "runs.run_knobs",
        "runs.blend_knobs",
    )
    code = f"import sys, {', '.join(f'kagglekit.{module}' for module in modules)}\n"
    code += "print({'torch', 'transformers', 'pandas', 'numpy', 'sklearn'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "set()\n", done.stderr


def test_a_notebooks_parameters_become_its_dataclasses():
    run, recipe = make_knobs(
        TrainingRun, Recipe, shown={"seed": 3, "epochs": 2.0}, rest={"head": "flat", "checkpoint_every": 9}
    )
    assert run == TrainingRun(seed=3, checkpoint_every=9) and recipe == Recipe(epochs=2.0, head="flat")
    for rest, words in (
        ({"poling": "max"}, "the notebook has no knob 'poling': did you mean pooling"),
        ({"cut": "tail"}, "cut is now called truncation"),
        ({"try_rates": True}, "try_rates is now called find_learning_rate"),
        ({"epochs": 3.0}, "recipe: epochs stands in the parameter cell: set it there"),
        ({"warmup": 2.0}, "warmup=2.0 is out of range"),
    ):
        with pytest.raises(ValueError, match=words):
            make_knobs(TrainingRun, Recipe, shown={"epochs": 2.0}, rest=rest)


def test_a_recipe_of_version_0_1_has_the_names_of_today():
    old = {"cut": "tail", "beside": {"numbers": ["a"]}, "learner_options": {"cut": "head", "classifier": "svm"}}
    new = {"truncation": "tail", "features": {"numbers": ["a"]}}
    new["learner_options"] = {"truncation": "head", "classifier": "svm"}
    assert current_names(old) == new == current_names(new) and json.loads(json.dumps(new)) == new


def test_what_knobs_name_is_found_wherever_it_stands():
    values = {
        "backbone": "models/tiny",
        "start": "mlm + other/run",
        "soup_of": ["a", "b"],
        "pseudo": {"teacher": "base", "unlabelled": ["one.csv", "two.csv"], "threshold": 0.9},
        "distill": {},
        "features": {"numbers": ["age"], "vectors": "v.parquet"},
        "augment": {"Dictionary": {"file": "d.txt", "share": 0.2}, "EDA": {}},
        "auxiliary": {"topic": 0.5},
        "seed": 1,
    }
    knobs = knobs_of(TrainingRun, Recipe).values()
    assert named(knobs, values, "run") == [
        *(("start", name) for name in ("mlm", "other/run")),
        *(("soup_of", name) for name in ("a", "b")),
        ("pseudo: teacher", "base"),
    ]
    files = [("pseudo: unlabelled", "one.csv"), ("pseudo: unlabelled", "two.csv"), ("features: vectors", "v.parquet")]
    assert named(knobs, values, "file") == files
    assert named(knobs, values, "model") == [("backbone", "models/tiny"), ("augment: Dictionary", "d.txt")]
    assert named(knobs, values, "column") == [("features: numbers", "age"), ("auxiliary", "topic")]
    assert named(knobs_of(PretrainingRun).values(), {"scorer": "base", "texts": ["t"]}, "run") == [("scorer", "base")]
    assert Any  # of the annotations above
