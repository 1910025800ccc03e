"""Checks of a recipe: the features that it names, and knobs that contradict each other; those of a prompt: `prompt`."""

from collections import Counter

from kagglekit.annotations import accepts
from kagglekit.declared import read_tricks
from kagglekit.decoders.lora_options import ADAPTED, LoraOptions
from kagglekit.options import Knobs, check_range

FEATURES = {  # what a model may read besides the text -> its type
    "numbers": "list[str]",  # columns of train and test
    "categories": "list[str]",
    "vectors": "str",  # a file with a vector for each document, see `read_document_vectors`
    "test_vectors": "str",  # the same for the rows of test, where it is another file
    "vectors_at": "Literal['last', 'embeddings']",  # joined before the head, or added to the word embeddings
    "images": "str",  # a column of train and test with files of images, below the folder of the competition
    "images_by": "str",  # a vision model; empty: the image encoder of the run that `start` names
    "word_vectors": "str",  # a file with a vector for each word, see `read_word_vectors`
    "word_vectors_at": "Literal['last', 'embeddings']",
}
GOES_WITH = {
    "images_by": "images",
    "vectors_at": "vectors",
    "test_vectors": "vectors",
    "word_vectors_at": "word_vectors",
}
NAMES = {"numbers": "column", "categories": "column", "images": "column", "images_by": "model"} | dict.fromkeys(
    ("vectors", "test_vectors", "word_vectors"), "file"
)


def check_features(recipe: Knobs) -> None:
    """Raise ValueError for features of another type, of which one needs another, or that stand twice."""
    for name, value in recipe.features.items():
        check_range(f"features: {name}", value, accepts(FEATURES[name], value), FEATURES[name])
    for name, needed in GOES_WITH.items():
        if recipe.features.get(name) and not recipe.features.get(needed):
            raise ValueError(f"features: {name} goes with {needed}, and there are none: name their file")
    if recipe.features.get("images") and recipe.features.get("vectors"):
        raise ValueError("features: images are read as vectors, and there are others: leave images or vectors out")
    if recipe.chunks and recipe.features.get("vectors_at") == "embeddings":
        raise ValueError("features: vectors of documents cannot be added to the embeddings of chunks: set chunks=0")
    twice = [name for name, times in Counter(recipe.train_columns).items() if times > 1]
    if twice:
        raise ValueError(f"column {twice[0]!r} is named twice, among features or what is learned")


def check_contradictions(recipe: Knobs) -> None:
    """Raise ValueError for tricks, chunks and schedules of which one would undo another, or have no effect."""
    drops = recipe.dropout != 0 or recipe.attention_dropout not in (0, None) or recipe.head_dropout != 0
    drops |= recipe.tuning in ADAPTED and LoraOptions(**recipe.lora).dropout > 0
    for name in recipe.tricks:
        traits = read_tricks()[name].traits
        if traits["needs_dropout"] and not drops:
            raise ValueError(f"tricks: {name} compares two passes through dropout, and dropout=0: set dropout=0.1")
        if traits["needs_layers"] and recipe.tuning == "head":
            raise ValueError(
                f"tricks: {name} works on the layers of the backbone, and tuning='head' trains none: leave it out"
            )
        if traits["chooses"] and recipe.keep_best:
            raise ValueError(f"keep_best and {name} both say which weights are kept in the end: choose one")
        if not traits["fits_chunks"] and (recipe.chunks or recipe.answers):
            what = "chunks are several texts: set chunks=0" if recipe.chunks else "answers are several texts"
            raise ValueError(f"tricks: {name} mixes token by token, and {what}")
    if recipe.chunks and recipe.truncation != "head":
        raise ValueError(
            f"truncation={recipe.truncation!r} and chunks={recipe.chunks} are two ways to read a long text: choose one"
        )
    if recipe.chunks and recipe.chunk_stride >= recipe.max_length:
        raise ValueError(f"chunk_stride={recipe.chunk_stride} must be below max_length={recipe.max_length}, of a chunk")
    if recipe.chunks and recipe.augment and not recipe.augment_copies:
        raise ValueError("augment: texts in chunks are changed ahead only: set augment_copies=1, or chunks=0")
    if recipe.cycle_growth > 1 and recipe.cycles == 1:
        raise ValueError(f"cycle_growth={recipe.cycle_growth} is of two cycles or more: set cycles=2 too")
