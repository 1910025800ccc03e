"""The prompt of a recipe: its pattern, the words for the masks, and the other knobs that go with them, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kagglekit.losses.catalogue import check_loss
from kagglekit.options import Knobs

if TYPE_CHECKING:  # a recipe is checked before a kernel starts
    from kagglekit.competition.task import Task

EXAMPLE = "pattern='{text} It was {mask}.'"


def check_prompt(recipe: Knobs) -> None:
    """Raise ValueError where a pattern, the words for its masks and the other knobs contradict each other."""
    if recipe.verbalizer and not recipe.pattern:
        raise ValueError(f"verbalizer has words for the mask of a pattern, and there is no pattern: set {EXAMPLE}")
    if recipe.pooling == "mask" and not recipe.pattern:
        raise ValueError(f"pooling='mask' reads the masks of a pattern, and there is no pattern: set {EXAMPLE}")
    if not recipe.pattern:
        return
    from kagglekit.data.patterns import count_masks

    masks, reads = count_masks(recipe.pattern), "mask" if recipe.verbalizer else recipe.pooling
    if recipe.pattern.strip() == "{text}":
        raise ValueError(f"pattern={recipe.pattern!r} adds nothing to the text: set {EXAMPLE}, or pattern=''")
    if recipe.chunks:
        raise ValueError(f"pattern stands around a text, and chunks={recipe.chunks} are several: set chunks=0")
    if reads == "mask" and not masks:
        name = "verbalizer" if recipe.verbalizer else "pooling='mask'"
        raise ValueError(f"{name} goes with the mask of a pattern, and {recipe.pattern!r} has none: set {EXAMPLE}")
    if masks and reads != "mask":
        raise ValueError(
            f"pattern={recipe.pattern!r} has a mask that pooling={reads!r} does not look for: name the words of each "
            "class in verbalizer, or set pooling='mask'"
        )
    if recipe.verbalizer:
        _check_verbalizer(recipe)


def _check_verbalizer(recipe: Knobs) -> None:
    """A verbalizer is the head, reads the masks and nothing else, and has words for the task's classes alone."""
    for name, rest in (("head", ("linear",)), ("pooling", ("mean", "mask"))):
        value = getattr(recipe, name)
        if value not in rest:
            raise ValueError(f"verbalizer is a head of its own, over the masks, and {name}={value!r} has no effect")
    at = {name: recipe.features.get(f"{name}_at") for name in ("vectors", "word_vectors")}
    joined = [name for name in ("numbers", "categories", *at) if recipe.features.get(name) and not at.get(name)]
    joined += [name for name, where in at.items() if recipe.features.get(name) and where == "last"]
    if joined:
        raise ValueError(
            f"features: {joined[0]} are joined to the text vector, and a verbalizer reads the masks alone: leave them "
            "out" + (f", or set {joined[0]}_at to 'embeddings'" if joined[0] in at else "")
        )
    if any(recipe.auxiliary.values()):
        raise ValueError("auxiliary targets have no words in a verbalizer: leave them out, or set verbalizer={}")


def check_words(recipe: Knobs, task: Task) -> None:
    """Raise ValueError where a recipe has words for classes that the task lacks, or its loss is of something else."""
    if recipe.verbalizer and check_loss(recipe.loss, task.kind) not in ("softmax", "expectation"):
        how = "set loss={'cross_entropy': {}}" if task.kind == "ordinal" else "set verbalizer={}"
        raise ValueError(
            f"verbalizer gives one distribution over the classes of a task, and this one ({task.kind}) is learned by "
            f"{', '.join(recipe.loss) or 'a loss of values or labels'}: {how}"
        )
    if recipe.verbalizer:
        from kagglekit.data.patterns import check_classes

        check_classes(recipe.verbalizer, task.classes)


def prompt_options(recipe: Knobs, classes: Sequence[str], tokenizer) -> dict[str, Any]:
    """The pooling, the head, and the places of masks and words of the classes, as options of `Classifier`.

    Raises ValueError as `make_pattern` and `find_words` do.
    """
    from kagglekit.data.patterns import find_words, make_pattern

    options: dict[str, Any] = {"pooling": recipe.pooling, "head": recipe.head}
    if recipe.pattern:
        options["mask_places"] = make_pattern(recipe.pattern, tokenizer).masks or None
    if recipe.verbalizer:
        words = find_words(recipe.verbalizer, classes, recipe.pattern, tokenizer)
        options |= {"pooling": "mask", "head": "verbalizer", "label_words": words}
    return options
