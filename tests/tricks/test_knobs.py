"""The catalogue as data: every knob of every trick, what it may be, and what a wrong one is told."""

import ast
import inspect
import math
import re
from dataclasses import fields
from pathlib import Path

import pytest
from trick_cases import CASES

import kagglekit
from kagglekit import tricks
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.tricks import ADVERSARIAL, TRICKS, make_tricks
from kagglekit.tricks.trick import Trick

NAMES, ATTACKS = sorted(TRICKS), [trick.__name__ for trick in ADVERSARIAL]
KNOBS = {name: inspect.signature(getattr(tricks, name)).parameters for name in NAMES}
LEFT = {("EMA", "warmup"), ("RDrop", "doubled"), ("Mixup", "layer")}  # bool; and what only a model can judge
OTHERS = {float: 0.25, int: 2, bool: True, str: ""}  # a value of each type
TYPES = {  # of a knob -> what it cannot be
    float: ["1", None, True, [0.5]],
    int: [0.5, "1", None, True],
    bool: [1, "yes", None],
}
OUT_OF_RANGE = [
    (name, knob, value)
    for name, knobs in KNOBS.items()
    for knob, given in knobs.items()
    for value in [
        *({**CASES[name].wrong, "start": [-0.1, 1.0, 2], "every": [0, -1]}.get(knob, [])),
        *([math.nan] if isinstance(given.default, float) else []),
    ]
]


def others(name):
    """Another value for each knob."""
    return {knob: OTHERS[type(given.default)] for knob, given in KNOBS[name].items()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [lambda name: {}, others], ids=["defaults", "others"])
def test_repr_is_the_line_that_builds_it(name, options):
    made = getattr(tricks, name)(**options(name))
    again = eval(repr(made), vars(tricks))
    assert type(again) is type(made) and repr(again) == repr(made)
    assert {knob: getattr(again, knob) for knob in KNOBS[name]} == {knob: getattr(made, knob) for knob in KNOBS[name]}


def test_masking_has_such_a_repr_too():
    masking = DynamicMasking(4, 30, [0, 2, 3], 0.2)
    knobs = "mask_id=4, vocabulary=30, special_ids=[0, 2, 3], probability=0.2, start=0.0"
    assert repr(masking) == f"DynamicMasking({knobs})"


@pytest.mark.parametrize("name", NAMES)
def test_every_knob_has_a_default_and_every_trick_can_start_late(name):
    assert [knob for knob in KNOBS[name] if knob in ("start", "every")] == list(KNOBS[name])[-1 - (name in ATTACKS) :]
    assert all(type(given.default) in OTHERS for given in KNOBS[name].values())
    assert issubclass(getattr(tricks, name), Trick)


@pytest.mark.parametrize("name", NAMES)
def test_a_constructor_stores_its_arguments_and_what_is_learned_ends_in_an_underscore(name):
    made = getattr(tricks, name)(**others(name))
    assert {knob: vars(made)[knob] for knob in KNOBS[name]} == others(name)
    assert all(knob in KNOBS[name] or knob.endswith("_") for knob in vars(made))


@pytest.mark.parametrize("name", NAMES)
def test_what_it_does_says_the_docstring_knob_by_knob(name):
    words = inspect.getdoc(getattr(tricks, name))
    assert all(f"\n{knob.name}: {knob.metadata['words']}" in words for knob in fields(TRICKS[name]))
    module = inspect.getdoc(inspect.getmodule(getattr(tricks, name)))
    assert any(f"{year}" in module + words for year in range(1992, 2030))  # where it comes from


def test_every_knob_with_a_range_is_tried_out_of_it():
    tried = {(name, knob) for name in NAMES for knob in CASES[name].wrong}
    assert tried | LEFT == {(name, knob) for name in NAMES for knob in KNOBS[name] if knob not in ("start", "every")}


@pytest.mark.parametrize(("name", "knob", "value"), OUT_OF_RANGE)
def test_a_knob_out_of_range_is_a_clear_error(name, knob, value):
    with pytest.raises(ValueError, match=f"{name}: {knob}={value!r} is out of range: it must be "):
        make_tricks({name: {knob: value}})


@pytest.mark.parametrize(("name", "knob"), [(name, knob) for name, knobs in KNOBS.items() for knob in knobs])
def test_a_knob_of_another_type_is_a_clear_error(name, knob):
    kind = type(KNOBS[name][knob].default)
    for value in TYPES[kind]:
        with pytest.raises(ValueError) as error:
            make_tricks({name: {knob: value}})
        assert str(error.value) == (f"tricks: {name}: {knob}={value!r} is out of range: it must be {kind.__name__}")


@pytest.mark.parametrize("name", NAMES)
def test_whole_numbers_are_numbers_and_the_defaults_are_in_range(name):
    assert repr(make_tricks({name: {}})) == f"[{getattr(tricks, name)()!r}]"
    assert make_tricks({name: {"start": 0}})[0].start == 0


def test_a_recipe_becomes_tricks_in_its_order():
    made = make_tricks({"RDrop": {"doubled": False}, "PGD": {"epsilon": 0.5, "steps": 2, "start": 0.1}})
    assert repr(made) == (
        "[RDrop(alpha=1.0, doubled=False, start=0.0), PGD(steps=2, epsilon=0.5, alpha=0.3, start=0.1, every=1)]"
    )
    assert make_tricks({}) == []
    assert [type(trick).__name__ for trick in make_tricks({name: {} for name in NAMES[::-1]})] == NAMES[::-1]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"SIFT": {}}, f"no trick 'SIFT'; there are {', '.join(TRICKS)}$"),
        ({"make_tricks": {}}, "no trick 'make_tricks'"),
        ({"inspect": {}}, "no trick 'inspect'"),
        ({"WeightAverage": {}}, "no trick 'WeightAverage'"),
        (
            {"FGM": {"eps": 1.0}},
            r"FGM has no knob 'eps': did you mean epsilon\?$",
        ),
        ({"FGM": {}, "EMA": None}, "EMA takes .* not None"),
        ({"GradualUnfreezing": {"start": 0.6}}, "until=0.5 is out of range: it must be 0, or above start=0.6"),
    ],
)
def test_a_wrong_recipe_is_a_clear_error(recipe, words):
    with pytest.raises(ValueError, match=words):
        make_tricks(recipe)


@pytest.mark.parametrize("layer", [3, -3])
def test_a_layer_that_the_backbone_has_not_is_a_clear_error_once_there_is_a_backbone(trainer, layer):
    run = trainer(make_tricks({"Mixup": {"layer": layer}}))
    with pytest.raises(ValueError, match=f"Mixup: layer={layer} is out of range: it must be from -2 to 2"):
        run.fit()


@pytest.mark.parametrize("name", ["CheckpointSoup"])
def test_what_chooses_by_evaluations_needs_some(trainer, name):
    with pytest.raises(ValueError, match=f"{name} averages the weights of the best evaluations, and there are none"):
        trainer(make_tricks({name: {}})).fit()


def test_what_each_trick_declares():
    declared = {"needs_dropout": {"RDrop"}, "chooses": {"CheckpointSoup"}, "mixes_texts": {"Mixup"}}
    for trait, names in declared.items():
        assert {name for name in NAMES if getattr(TRICKS[name], trait)} == names
    assert {name for name in NAMES if not TRICKS[name].fits_chunks} == {"Mixup"}


NAMED_STILL = {  # module -> tricks that its code names: what is left to switch to what a trick declares
    "gains/recipes.py": set(NAMES),  # a race tries each of them
    "losses/catalogue.py": {"SupCon"},  # "supcon" among the losses is pointed to the tricks, and losses cannot ask them
    "runs/leaks.py": {"CheckpointSoup"},
    "training/recipe.py": {"EMA", "FGM"},  # the example in the words of the knob `tricks`
}


def named_in(file):
    """The tricks that the code of a module names, docstrings aside."""
    text = file.read_text(encoding="utf-8")
    if not (names := {name for name in NAMES if name in text}):
        return names
    tree = ast.parse(text)
    texts = {node.value: node for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # a docstring is a statement
    words = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in texts]
    words += [getattr(node, "id", getattr(node, "attr", getattr(node, "name", ""))) for node in ast.walk(tree)]
    return {name for name in names if any(re.search(rf"\b{name}\b", word) for word in words if isinstance(word, str))}


def test_no_other_module_names_a_trick():
    library = Path(kagglekit.__file__).parent
    for file in library.rglob("*.py"):
        path = file.relative_to(library).as_posix()
        if not path.startswith("tricks/"):
            assert named_in(file) <= NAMED_STILL.get(path, set()), path
