"""The catalogue of augmenters. In a notebook they are data: `{"EDA": {"keep": ["not"]}, "AEDA": {}}`."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kagglekit.augment.augmenter import Augmenter
from kagglekit.augment.back_translation import BackTranslation
from kagglekit.augment.eda import AEDA, EDA
from kagglekit.augment.synonyms import Dictionary, MLMSynonyms
from kagglekit.competition.text_columns import change_columns
from kagglekit.declared import check_contents, read_augmenters
from kagglekit.files import Damaged, read_json, replacing, resolve

EVERY = (EDA, AEDA, MLMSynonyms, Dictionary, BackTranslation)
AUGMENTERS = {one.__name__: one for one in EVERY}


@dataclass(eq=False)
class Chain(Augmenter):
    """Several augmenters one after the other, each column of a text by itself; an empty chain changes nothing."""

    augmenters: Sequence[Augmenter] = ()

    def __call__(self, texts: Sequence[str], seed: int) -> list[str]:
        for augmenter in self.augmenters:
            texts = change_columns(texts, partial(augmenter, seed=seed))
        return list(texts)


def make_augmenter(recipe: dict[str, dict[str, Any]], backbone: str) -> Augmenter:
    """The augmenters of a recipe, name -> options, applied in its order; nothing is loaded yet.

    backbone: the one that is trained, a folder or a name, for augmenters whose options name no other. Raises ValueError
    for an unknown name or option (it says which there are) and an option out of range, FileNotFoundError for a missing
    file.
    """
    known, chosen = read_augmenters(), []
    check_contents("augment", "augmenter", recipe, known)
    for name, options in recipe.items():
        own = {"backbone": options.get("backbone") or backbone} if "backbone" in known[name].knobs else {}
        chosen.append(AUGMENTERS[name](**options | own))
        chosen[-1].check()
    return Chain(chosen)


def augment_texts(texts: Sequence[str], augmenter: Augmenter, seed: int, cache: Path | None = None) -> list[str]:
    """`augmenter(texts, seed)`, cached in the folder `cache` under a hash of texts, knobs, seed and the state of the
    files that the knobs name."""
    if cache is None:
        return augmenter(texts, seed)
    texts = list(texts)
    key = hashlib.sha256(json.dumps([texts, repr(augmenter), seed, _named_files(augmenter)]).encode())
    file = cache / f"{key.hexdigest()[:16]}.json"
    with suppress(FileNotFoundError, Damaged):
        return read_json(file, list)
    augmented = augmenter(texts, seed)
    with replacing(file) as part:
        part.write_text(json.dumps(augmented))  # in ASCII, so that a lone surrogate is no error
    return augmented


def _named_files(augmenter: Augmenter) -> list:
    """Name, size and modification time of the files that an augmenter's knobs name, or that such folders hold."""
    if isinstance(augmenter, Chain):
        return [_named_files(one) for one in augmenter.augmenters]
    paths = [resolve(value) for value in vars(augmenter).values() if isinstance(value, str) and value]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.glob("*")))]
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
