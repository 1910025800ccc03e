"""Inputs of a model: tokens of each row, and features: columns, document vectors and word vectors."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import StandardScaler

from kagglekit.competition.checks import name_row
from kagglekit.competition.text_columns import is_empty, split_columns
from kagglekit.data.batches import Examples
from kagglekit.data.chunks import Chunks, make_chunks
from kagglekit.data.clean import clean_texts
from kagglekit.data.features import Candidates, Features
from kagglekit.data.patterns import fill_pattern
from kagglekit.data.tokens import WHOLE, Tokens, tokenize
from kagglekit.data.vectors import read_document_vectors, read_word_vectors
from kagglekit.files import read_json, write_json
from kagglekit.training.column_knobs import each_option, of_options, swap_table
from kagglekit.training.images import image_vectors
from kagglekit.training.prompt import read_prompt
from kagglekit.training.recipe import Recipe

FILE = "beside.json"  # in the folder of a model


@dataclass
class Inputs:
    """Rows of train, of test, or others.

    columns: the table that they came from, its texts cleaned. vectors: document vectors, (rows, width) float32.
    swapped: tokens of the other order of two text columns, and swap: of the recipe, filled in; None: there is none.
    """

    tokens: Tokens | Chunks
    pad_id: int
    columns: pd.DataFrame
    vectors: np.ndarray | None = None
    swapped: Tokens | Chunks | None = None
    swap: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: np.ndarray) -> "Inputs":
        """These row numbers, in that order."""
        vectors, swapped = (None if part is None else part[rows] for part in (self.vectors, self.swapped))
        return Inputs(self.tokens[rows], self.pad_id, self.columns.iloc[rows], vectors, swapped, self.swap)

    def __add__(self, other: "Inputs") -> "Inputs":
        """The rows of both, one after the other."""
        vectors = None if self.vectors is None else np.concatenate([self.vectors, other.vectors])
        columns = pd.concat([self.columns, other.columns], ignore_index=True)
        swapped = None if self.swapped is None else self.swapped + other.swapped
        return Inputs(self.tokens + other.tokens, self.pad_id, columns, vectors, swapped, self.swap)

    def turned(self) -> "Inputs":
        """The rows in the other order of the two text columns that are swapped."""
        return Inputs(self.swapped, self.pad_id, swap_table(self.columns, self.swap), self.vectors)


def read_inputs(
    table: pd.DataFrame,
    tokenizer,
    recipe: Recipe,
    cache: Path | None = None,
    vectors: str | None = None,
    images: str | Path | None = None,
) -> Inputs:
    """Clean and tokenise the texts of a table (columns id, text): truncated, in chunks or in a pattern, by the recipe.

    cache: folder for tokens and vectors of images. vectors: file with the document vectors of these ids, see
    `read_document_vectors`. images: folder of the competition, in which the files of a column of images are; None: they
    are not read.
    """
    table = table.assign(text=clean_texts(table["text"], recipe.clean))
    found = read_document_vectors(vectors, table["id"]) if vectors else None
    if images is not None and (column := recipe.features.get("images")):
        ids, cells = table["id"].tolist(), table[column].tolist()
        found = image_vectors(recipe.features["images_by"], cells, ids, Path(images), column, cache)
    inputs = Inputs(_read_tokens(table["text"], tokenizer, recipe, cache), tokenizer.pad_token_id, table, found)
    if recipe.swap:
        inputs.swap = recipe.swap
        inputs.swapped = _read_tokens(swap_table(table, recipe.swap)["text"], tokenizer, recipe, cache)
    return inputs


def _read_tokens(texts: pd.Series, tokenizer, recipe: Recipe, cache: Path | None) -> Tokens | Chunks:
    texts = texts.tolist()
    if recipe.answers:
        return _read_options(texts, tokenizer, recipe, cache)
    if recipe.chunks:
        whole = tokenize(texts, tokenizer, WHOLE, cache)
        return make_chunks(whole, tokenizer, recipe.max_length, recipe.chunk_stride, recipe.chunks)
    return _read_whole(texts, tokenizer, recipe, cache, recipe.budget, recipe.truncation)


def _read_options(texts: list[str], tokenizer, recipe: Recipe, cache: Path | None) -> Chunks:
    """The options of each row as its chunks; an empty cell is none, and has no tokens."""
    columns, rules = list(recipe.budget), recipe.truncation
    rules = rules if isinstance(rules, str) else of_options(rules, recipe.answers)
    budget = of_options(recipe.budget, recipe.answers)
    options = each_option(texts, columns, recipe.answers)
    there = np.array([not is_empty(split_columns(option)[-1]) for option in options], dtype=bool)
    if not there.any():
        raise ValueError(f"answers: no row has a text in any of {', '.join(recipe.answers)}")
    found = _read_whole([*compress(options, there)], tokenizer, recipe, cache, budget, rules)
    lengths = np.zeros(len(options), dtype=np.int64)
    lengths[there] = found.lengths
    return Chunks(replace(found, lengths=lengths), np.full(len(texts), len(recipe.answers)))


def check_right_answers(tokens: Chunks, labels: np.ndarray, ids: Sequence[str]) -> None:
    """Raise ValueError where a label (rows,) names an option that its row does not have."""
    lengths = tokens.pieces.lengths.reshape(len(labels), -1)  # (rows, options)
    if (empty := lengths[np.arange(len(labels)), labels] == 0).any():
        raise ValueError(
            f"answers: the label of {name_row(int(empty.argmax()), ids)} of train names an empty cell ({empty.sum():,} "
            "such rows), and an empty cell is no answer: write a word there, such as none, or leave the row out"
        )


def _read_whole(
    texts: list[str], tokenizer, recipe: Recipe, cache: Path | None, budget: dict[str, int], rules: str | dict[str, str]
) -> Tokens:
    rules = rules if isinstance(rules, str) else list(rules.values())
    how = {"cache": cache, "cut": rules, "budget": list(budget.values())}
    if recipe.pattern:
        return fill_pattern(texts, tokenizer, read_prompt(recipe, tokenizer), recipe.max_length, **how)
    return tokenize(texts, tokenizer, recipe.max_length, **how)


def vector_files(
    features: dict[str, Any], ids: Sequence[str], test_ids: Sequence[str]
) -> tuple[str | None, str | None]:
    """Files with the document vectors of train and of test. Raises ValueError for an id of both in one file."""
    file = features.get("vectors") or None
    other = features.get("test_vectors") or file
    shared = set(ids) & set(test_ids)
    if file and file == other and shared:
        raise ValueError(
            f"features: {file} can have one vector of id {min(shared)!r}, which is in train and in test "
            f"({len(shared):,} such ids): name a file for each of them, as vectors and as test_vectors"
        )
    return file, other


@dataclass
class FeatureScaler:
    """Features as numbers for a model: columns and document vectors, scaled by the training rows of a fold alone.

    features: of the columns. center, scale: of the document vectors, (width,). at_embeddings: these vectors are added
    to the word embeddings, not joined to the text vector. candidates: the classes of each group, learned likewise.
    """

    features: Features | None
    center: list[float] | None
    scale: list[float] | None
    at_embeddings: bool
    candidates: Candidates | None = None

    @classmethod
    def fit(cls, inputs: Inputs, rows: np.ndarray, asked: dict[str, Any]) -> "FeatureScaler":
        """Scales of columns and vectors, and known categories, of `rows` (numbers). asked: `features` of a `Recipe`."""
        names = [asked.get(kind, []) for kind in ("numbers", "categories")]
        features = Features.fit(inputs.columns.iloc[rows], *names) if any(names) else None
        center = scale = None
        if inputs.vectors is not None:
            scaler = StandardScaler().fit(inputs.vectors[rows])
            center, scale = (np.nan_to_num(one).tolist() for one in (scaler.mean_, scaler.scale_))
        return cls(features, center, scale, asked.get("vectors_at") == "embeddings")

    def examples(self, inputs: Inputs, rows: np.ndarray | None = None, labels: np.ndarray | None = None) -> Examples:
        """Examples of `rows` of the inputs (None: all).

        Raises ValueError for document vectors of another width than those of the training rows.
        """
        rows = np.arange(len(inputs.tokens)) if rows is None else rows
        arrays = self.features.transform(inputs.columns.iloc[rows]) if self.features else {}
        if self.center is not None:
            width = 0 if inputs.vectors is None else inputs.vectors.shape[1]
            if width != len(self.center):
                raise ValueError(f"features: the vectors have {width} numbers, those of train {len(self.center)}")
            standard = np.nan_to_num((inputs.vectors[rows] - self.center) / self.scale)  # (rows, width); 0: no image
            arrays["embedded" if self.at_embeddings else "vectors"] = standard.clip(-1e4, 1e4).astype(np.float32)
        if self.candidates:
            arrays["candidates"] = self.candidates.allowed(inputs.columns.iloc[rows])
        examples = Examples(inputs.tokens[rows], inputs.pad_id, labels, arrays)
        if inputs.swapped is not None:
            examples.other, examples.exchange = self.examples(inputs.turned(), rows), inputs.swap["exchange"]
        return examples

    def options(self) -> dict[str, Any]:
        """Options of `Classifier`."""
        width = len(self.center or ())
        joined = {**(self.features.sizes if self.features else {}), "vectors": 0 if self.at_embeddings else width}
        return {
            "features": joined if any(joined.values()) else None,
            "embedded_vectors": width if self.at_embeddings else 0,
        }

    def save(self, folder: Path) -> None:
        """Write it into the folder of a model, so that new rows can be read."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "FeatureScaler":
        """Read it from the folder of a model."""
        values = read_json(folder / FILE)
        kinds = {"features": Features, "candidates": Candidates}
        return cls(**values | {name: kind(**values[name]) for name, kind in kinds.items() if values.get(name)})


def word_vector_options(file: str | None, at: str, tokenizer) -> tuple[dict[str, Any], torch.Tensor | None]:
    """Options of `Classifier` for the word vectors of a file, and the table of them, (vocabulary, width).

    at: "last", their mean is joined to the text vector, or "embeddings", they are added there.
    """
    if not file:
        return {}, None
    table = torch.from_numpy(read_word_vectors(file, tokenizer))
    return {"embedded_words" if at == "embeddings" else "word_vectors": list(table.shape)}, table
