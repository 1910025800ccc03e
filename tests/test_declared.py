"""What is read from source is what the classes say of themselves."""

from dataclasses import fields, is_dataclass, replace

import pytest

from kagglekit import declared
from kagglekit.augment.catalogue import AUGMENTERS
from kagglekit.data.words import CHINESE
from kagglekit.declared import (
    check_contents,
    read_augmenters,
    read_learner,
    read_masking,
    read_methods,
    read_names,
    read_tricks,
)
from kagglekit.ensembling.methods import CALIBRATIONS, EVERYTHING, METHODS, THRESHOLDS
from kagglekit.learners.choose import OTHERS
from kagglekit.model.shallow import SHALLOW
from kagglekit.options import knobs_of
from kagglekit.pretraining.masking import MASKINGS, masking_options
from kagglekit.pretraining.pretraining_run import OF_SCORER
from kagglekit.pretraining.stage_knobs import OPTIONS, SCORED
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.scoring.catalogue import AT_K, METRICS
from kagglekit.tricks import TRICKS

TRAITS = ("needs_dropout", "fits_chunks", "mixes_texts", "needs_layers", "chooses")


@pytest.mark.parametrize(("read", "known"), [(read_tricks, TRICKS), (read_augmenters, AUGMENTERS)])
def test_names_knobs_and_ranges_are_those_of_the_classes(read, known):
    assert list(read()) == list(known)
    for name, kind in known.items():
        knobs, there = knobs_of(kind), read()[name].knobs
        assert there.keys() == knobs.keys()
        for knob in knobs.values():
            assert there[knob.name] == replace(knob, type=getattr(knob.type, "__name__", knob.type))
            assert knob.name != "chinese" or list(knob.choices) == list(CHINESE)


def test_traits_are_those_of_the_classes():
    for name, trick in TRICKS.items():
        assert {trait: read_tricks()[name].traits[trait] for trait in TRAITS} == {
            trait: getattr(trick, trait) for trait in TRAITS
        }


def test_options_of_methods_maskings_objectives_and_learners_are_those_of_their_classes():
    for name, method in EVERYTHING.items():
        made = method.make()
        known = {one.name: getattr(made, one.name) for one in fields(made) if one.init} if is_dataclass(made) else {}
        there = read_methods()[name].knobs
        assert there.keys() == known.keys(), name
    for name in MASKINGS:
        assert {*read_masking(name).knobs} == {*masking_options(name), *(OF_SCORER if name in SCORED else ())}, name
    assert {name: tuple(one.options) for name, one in OBJECTIVES.items()} == OPTIONS
    for name, kind in OTHERS.items():
        own = [one.name for one in fields(kind)[4:] if one.name != "cache"]
        assert list(read_learner(name).knobs) == own


@pytest.mark.parametrize(
    ("file", "variable", "known"),
    [
        ("ensembling/methods.py", "METHODS", METHODS),
        ("ensembling/methods.py", "CALIBRATIONS", CALIBRATIONS),
        ("ensembling/methods.py", "THRESHOLDS", THRESHOLDS),
        ("model/shallow.py", "SHALLOW", SHALLOW),
        ("scoring/catalogue.py", "METRICS", METRICS),
        ("scoring/catalogue.py", "AT_K", AT_K),
    ],
)
def test_the_names_of_a_catalogue_are_its_keys(file, variable, known):
    assert read_names(file, variable) == tuple(known)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"FMG": {}}, "tricks: there is no trick 'FMG': did you mean FGM. There are FGM, PGD"),
        ({"Trick": {}}, "there is no trick 'Trick'"),
        ({"FGM": None}, "tricks: FGM takes start, every, epsilon as a dict, not None"),
        ({"PGD": {"every": 0}}, "tricks: PGD: every=0 is out of range: it must be 1 or more"),
        ({"RDrop": {"every": 2}}, "tricks: RDrop has no knob 'every'"),
        ({"FGM": {"epsilon": -1}}, "tricks: FGM: epsilon=-1 is out of range: it must be 0 or more"),
        ({"EMA": {"decay": "0.9"}}, "tricks: EMA: decay='0.9' is out of range: it must be float"),
        ({"EMA": {"dacay": 0.9}}, "tricks: EMA has no knob 'dacay': did you mean decay"),
        ({"AWP": {"start": 1}}, "start=1 is out of range: it must be from 0 to below 1"),
    ],
)
def test_what_a_recipe_holds_is_checked_by_what_was_read(recipe, words):
    with pytest.raises(ValueError, match=words):
        check_contents("tricks", "trick", recipe, read_tricks())
    assert declared.read_tricks() is read_tricks()  # read once
