"""What is read from source is what the classes say of themselves."""

from dataclasses import replace

import pytest

from kagglekit import declared
from kagglekit.augment.catalogue import AUGMENTERS
from kagglekit.data.words import CHINESE
from kagglekit.declared import check_contents, read_augmenters, read_names, read_tricks
from kagglekit.ensembling.methods import CALIBRATIONS, METHODS, THRESHOLDS
from kagglekit.options import knobs_of
from kagglekit.scoring.catalogue import AT_K, METRICS
from kagglekit.tricks import TRICKS

TRAITS = ("needs_dropout", "fits_chunks", "mixes_texts", "chooses")


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


@pytest.mark.parametrize(
    ("file", "variable", "known"),
    [
        ("ensembling/methods.py", "METHODS", METHODS),
        ("ensembling/methods.py", "CALIBRATIONS", CALIBRATIONS),
        ("ensembling/methods.py", "THRESHOLDS", THRESHOLDS),
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
        ({"FGM": None}, "tricks: FGM takes start, epsilon as a dict, not None"),
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
