"""The knobs `pattern` and `verbalizer` of a recipe: what they go with, and what becomes of them in a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kagglekit.data.patterns import count_masks, find_words, make_pattern
from kagglekit.losses import check_loss
from kagglekit.task import Task

if TYPE_CHECKING:
    from kagglekit.training.recipe import Recipe

EXAMPLE = "pattern='{text} It was {mask}.'"


def check_prompt(recipe: Recipe) -> None:
    """Raise ValueError where a pattern, the words for its masks and the other knobs contradict each other."""
    if recipe.verbalizer and not recipe.pattern:
        raise ValueError(f"verbalizer has words for the mask of a pattern, and there is no pattern: set {EXAMPLE}")
    if recipe.pooling == "mask" and not recipe.pattern:
        raise ValueError(f"pooling='mask' reads the masks of a pattern, and there is no pattern: set {EXAMPLE}")
    if not recipe.pattern:
        return
    masks, reads = count_masks(recipe.pattern), "mask" if recipe.verbalizer else recipe.pooling
    if recipe.pattern.strip() == "{text}":
        raise ValueError(f"pattern={recipe.pattern!r} adds nothing to the text: set {EXAMPLE}, or pattern=''")
    if recipe.chunks:
        raise ValueError(f"pattern stands around a text, and chunks={recipe.chunks} are several: set chunks=0")
    if reads == "mask" and not masks:
        knob = "verbalizer" if recipe.verbalizer else "pooling='mask'"
        raise ValueError(f"{knob} goes with the mask of a pattern, and {recipe.pattern!r} has none: set {EXAMPLE}")
    if masks and reads != "mask":
        raise ValueError(
            f"pattern={recipe.pattern!r} has a mask that pooling={reads!r} does not look for: name the words of each "
            "class in verbalizer, or set pooling='mask'"
        )
    if recipe.verbalizer:
        _check_alone(recipe)


def _check_alone(recipe: Recipe) -> None:
    """A verbalizer is the head, reads the masks and nothing else, and has words for the task's classes alone."""
    for knob, rest in (("head", ("linear",)), ("pooling", ("mean", "mask"))):
        value = getattr(recipe, knob)
        if value not in rest:
            raise ValueError(f"verbalizer is a head of its own, over the masks, and {knob}={value!r} has no effect")
    at = {name: recipe.beside.get(f"{name}_at") for name in ("vectors", "word_vectors")}
    joined = [name for name in ("numbers", "categories", *at) if recipe.beside.get(name) and not at.get(name)]
    joined += [name for name, where in at.items() if recipe.beside.get(name) and where == "last"]
    if joined:
        raise ValueError(
            f"beside: {joined[0]} are joined to the text vector, and a verbalizer reads the masks alone: leave them out"
            + (f", or set {joined[0]}_at to 'embeddings'" if joined[0] in at else "")
        )
    if any(recipe.auxiliary.values()):
        raise ValueError("auxiliary targets have no words in a verbalizer: leave them out, or set verbalizer={}")


def check_words(recipe: Recipe, task: Task) -> None:
    """Raise ValueError where a recipe has words for classes and the loss of the task is of something else."""
    if recipe.verbalizer and check_loss(recipe.loss, task.kind) not in ("softmax", "expectation"):
        how = "set loss={'cross_entropy': {}}" if task.kind == "ordinal" else "set verbalizer={}"
        raise ValueError(
            f"verbalizer gives one distribution over the classes of a task, and this one ({task.kind}) is learned by "
            f"{', '.join(recipe.loss) or 'a loss of values or labels'}: {how}"
        )


def prompt_options(recipe: Recipe, classes: Sequence[str], tokenizer) -> dict[str, Any]:
    """What `Classifier` must know of them, its pooling and its head among it.

    Raises ValueError as `make_pattern` and `find_words` do.
    """
    options: dict[str, Any] = {"pooling": recipe.pooling, "head": recipe.head}
    if recipe.pattern:
        options["mask_places"] = make_pattern(recipe.pattern, tokenizer).masks or None
    if recipe.verbalizer:
        words = find_words(recipe.verbalizer, classes, recipe.pattern, tokenizer)
        options |= {"pooling": "mask", "head": "verbalizer", "label_words": words}
    return options
