"""Checks of a recipe's prompt: its pattern, the words that answer it, what goes with them; and of descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import TYPE_CHECKING, Any

from kagglekit.competition.text_columns import rename_template, template_columns
from kagglekit.losses.catalogue import check_loss
from kagglekit.options import Knobs, did_you_mean

if TYPE_CHECKING:  # a recipe is checked before a kernel starts
    from kagglekit.competition.task import Task
    from kagglekit.tricks.trick import Trick

EXAMPLE = "pattern='{text} It was {mask}.'"
LETTERS = ascii_letters[26:] + ascii_letters[:26]  # of the classes, in their order
OWN = ("text", "mask", "classes")  # names in braces that are no columns
OPTION = "option"  # another, where candidate answers are scored


def check_prompt(recipe: Knobs) -> None:
    """Raise ValueError where a pattern, the words that answer it and the other knobs contradict each other."""
    answers = "verbalizer" if recipe.verbalizer else "head='answer'" if recipe.head == "answer" else ""
    if recipe.answers:
        _check_options(recipe, answers)
    if answers and not recipe.pattern:
        raise ValueError(f"{answers} has words for the mask of a pattern, and there is no pattern: set {EXAMPLE}")
    if not recipe.epochs and not answers:
        raise ValueError("epochs=0 predicts with a new head, which knows nothing: set head='answer', or a verbalizer")
    if recipe.pooling == "mask" and not recipe.pattern:
        raise ValueError(f"pooling='mask' reads the masks of a pattern, and there is no pattern: set {EXAMPLE}")
    if not recipe.pattern:
        return
    from kagglekit.data.patterns import count_masks

    masks, reads = count_masks(recipe.pattern), "mask" if answers else recipe.pooling
    if recipe.pattern.strip() == "{text}" and not recipe.chat:
        raise ValueError(f"pattern={recipe.pattern!r} adds nothing to the text: set {EXAMPLE}, or pattern=''")
    if recipe.chunks:
        raise ValueError(f"pattern stands around a text, and chunks={recipe.chunks} are several: set chunks=0")
    if reads == "mask" and not masks and not recipe.chat:
        name = answers or "pooling='mask'"
        raise ValueError(f"{name} goes with the mask of a pattern, and {recipe.pattern!r} has none: set {EXAMPLE}")
    if masks and reads != "mask":
        raise ValueError(
            f"pattern={recipe.pattern!r} has a mask that pooling={reads!r} does not look for: name the words of each "
            "class in verbalizer, or set head='answer' or pooling='mask'"
        )
    if answers:
        _check_answers(recipe, answers)


def _check_answers(recipe: Knobs, answers: str) -> None:
    """Words are the head, are read at the masks and nothing else, and are those of the task's classes alone."""
    for name, rest in (("head", ("linear", "answer")), ("pooling", ("auto", "mean", "mask", "last_token"))):
        value = getattr(recipe, name)
        if value not in rest:
            raise ValueError(f"{answers} is a head of its own, over the masks, and {name}={value!r} has no effect")
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


def _check_options(recipe: Knobs, answers: str) -> None:
    """One score an option is a head of its own, over the vector of each option and nothing else."""
    joined = [name for name in ("numbers", "categories", "vectors", "word_vectors") if recipe.features.get(name)]
    against = {
        answers: "words are of classes, and each option has a score",
        "epochs=0": not recipe.epochs and "the score of an option is of a new layer, which knows nothing",
        "head": recipe.head != "linear" and "each option has one linear layer",
        "chunks": recipe.chunks and "an option is read in one piece",
        f"features: {joined[:1]}": joined and "a score is of the text of an option alone",
        "auxiliary": any(recipe.auxiliary.values()) and "answers are chosen among, and nothing else is learned",
        "swap": recipe.swap and "the columns of options stand in the order of their classes",
        "augment_copies=0": recipe.augment and not recipe.augment_copies and "options are changed ahead only",
    }
    for name, why in against.items():
        if name and why:
            raise ValueError(f"answers and {name} do not go together: {why}")


def check_words(recipe: Knobs, task: Task) -> None:
    """Raise ValueError where a recipe has words for classes that the task lacks, or its loss is of something else."""
    if recipe.answers and check_loss(recipe.loss, task.kind) != "softmax":
        raise ValueError(
            f"answers are chosen by a softmax over their scores, which does not fit {recipe.loss or task.kind}"
        )
    if not recipe.verbalizer and recipe.head != "answer":
        return
    if check_loss(recipe.loss, task.kind) not in ("softmax", "expectation"):
        what = "head='answer'" if recipe.head == "answer" else "verbalizer"
        how = "set loss={'cross_entropy': {}}" if task.kind == "ordinal" else f"leave {what} out"
        raise ValueError(
            f"{what} gives one distribution over the classes of a task, and this one ({task.kind}) is learned by "
            f"{', '.join(recipe.loss) or 'a loss of values or labels'}: {how}"
        )
    if recipe.verbalizer:
        from kagglekit.data.patterns import check_classes

        check_classes(recipe.verbalizer, task.classes)


def pattern_columns(pattern: str, columns: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """The text columns that a pattern names; `{text}` alone is the whole text, beside others a column of that name.

    Raises ValueError for a pattern of options that does not say where one stands.
    """
    names = template_columns(pattern, "pattern") if pattern else []
    if options and pattern and (OPTION not in names or {"text", *options} & {*names}):
        raise ValueError(
            f"pattern={pattern!r} is read once for each of the answers: write {{{OPTION}}} where it stands, and the "
            "other columns by their names"
        )
    others = [name for name in names if name not in (*OWN, *([OPTION] if options else []))]
    return [name for name in names if name in others or (others and name == "text" and name in columns)]


def fill_in_prompt(recipe: Knobs, task: Task) -> dict[str, Any]:
    """Knobs of a prompt, filled in for a task: letters as the words of its classes for head='answer' without words, and
    the classes in place of {classes}, as "A. cat", a line each, or as their words.

    Raises ValueError for more classes than letters, and for classes without words to list.
    """
    verbalizer, pattern = recipe.verbalizer, recipe.pattern
    if recipe.head == "answer" and not verbalizer:
        if len(task.classes) > len(LETTERS):
            raise ValueError(
                f"head='answer' has {len(LETTERS)} letters, and the task has {len(task.classes)} classes: "
                "name a word of each in verbalizer"
            )
        joined = "".join(task.classes)  # single letters, or digits, are answers by themselves
        single = joined.isascii() and (joined.isalpha() or joined.isdigit()) and max(map(len, task.classes)) == 1
        verbalizer = {name: [name if single else LETTERS[at]] for at, name in enumerate(task.classes)}
    if len(task.text) == 1 and pattern:
        pattern = rename_template(pattern, lambda name: "text" if name == task.text[0] else name)
    if "classes" in (template_columns(pattern, "pattern") if pattern else ()):
        if not task.classes:
            raise ValueError(f"pattern={recipe.pattern!r} lists the classes, and the task ({task.kind}) has none")
        words = {name: (verbalizer.get(name) or [name])[0] for name in task.classes}
        lettered = any(len(word) == 1 and word != name for name, word in words.items())
        listed = "\n".join(f"{word}. {name}" for name, word in words.items()) if lettered else ", ".join(words.values())
        listed = listed.replace("{", "{{").replace("}", "}}")
        pattern = rename_template(pattern, lambda name: name).replace("{classes}", listed)
    changed = {"verbalizer": verbalizer, "pattern": pattern}
    return {name: value for name, value in changed.items() if value != getattr(recipe, name)}


def prompt_options(recipe: Knobs, classes: Sequence[str], tokenizer) -> dict[str, Any]:
    """The pooling, the head, and the places of masks and words of the classes, as options of `Classifier`.

    Raises ValueError as `make_pattern` and `find_words` do.
    """
    from kagglekit.data.patterns import find_words

    options: dict[str, Any] = {"pooling": recipe.pooling, "head": "options" if recipe.answers else recipe.head}
    pattern = read_prompt(recipe, tokenizer) if recipe.pattern else None
    if pattern is not None and (recipe.verbalizer or recipe.pooling == "mask"):
        options["mask_places"] = pattern.masks
    if recipe.verbalizer:
        words = find_words(recipe.verbalizer, classes, pattern, tokenizer)
        options |= {"pooling": "mask", "head": "verbalizer", "label_words": words}
    return options


def read_prompt(recipe: Knobs, tokenizer):
    """The pattern of a recipe that is filled in, in the tokens of a tokenizer: a `Pattern`."""
    from kagglekit.data.patterns import make_pattern

    shared = [column for column in recipe.budget if column not in recipe.answers]
    columns = [*shared, OPTION] if recipe.answers else shared
    words = [word for own in recipe.verbalizer.values() for word in own]
    return make_pattern(recipe.pattern, tokenizer, columns, recipe.chat, recipe.system, words)


def check_descriptions(descriptions: Mapping[str, str], task: Task) -> None:
    """Raise ValueError for descriptions of what is no class or label of a task, of only one, or that are empty."""
    classes = task.classes or task.labels
    if descriptions and task.kind == "regression":
        raise ValueError("auxiliary_descriptions are of classes or labels, and this task has values: leave them out")
    for name, text in descriptions.items():
        if name not in classes:
            meant = did_you_mean(name, classes) or f": the task has {', '.join(map(str, classes))}"
            raise ValueError(f"auxiliary_descriptions: {name!r} is no class{meant}")
        if not text.strip():
            raise ValueError(f"auxiliary_descriptions: that of {name!r} is empty: describe it, or leave it out")
    if len(descriptions) == 1:
        raise ValueError(
            f"auxiliary_descriptions: with that of {next(iter(descriptions))!r} alone there is no other to be less "
            "like: describe two classes or more"
        )


def compare_with_descriptions(recipe: Knobs, classes: Sequence[str], tokenizer, pad_id: int) -> list[Trick]:
    """The trick that compares texts with the descriptions of their classes, where there are some."""
    from kagglekit.data.tokens import tokenize
    from kagglekit.tricks.supcon import Descriptions

    if not recipe.auxiliary_descriptions:
        return []
    trick = Descriptions(recipe.descriptions_weight, recipe.descriptions_temperature)
    read = tokenize([*recipe.auxiliary_descriptions.values()], tokenizer, recipe.max_length)
    trick.tokens, trick.numbers = read.pad(pad_id), [*map(classes.index, recipe.auxiliary_descriptions)]
    return [trick]
