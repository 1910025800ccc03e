"""Golden rows: the logits of a run's models for rows of train at home, and vectors of images, compared in a kernel.

A model with other weights, another tokenizer or another version of transformers predicts without an error. Here it
first scores rows whose logits travel with it.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kagglekit.competition.task import load_task, read_train
from kagglekit.data.batches import Examples
from kagglekit.device import choose_device, choose_precision
from kagglekit.files import resolve, run_folder, temporary_folder
from kagglekit.files.parquet import read_metadata, read_parquet, write_parquet
from kagglekit.kaggle.bundle import GOLDEN_FILE as FILE
from kagglekit.model.classifier import Classifier
from kagglekit.options import check_range
from kagglekit.runs.environment import versions
from kagglekit.runs.record import RunRecord
from kagglekit.runs.tables import FULL
from kagglekit.training.images import ImageEncoder, find_images
from kagglekit.training.model_inputs import read_inputs
from kagglekit.training.predict import SavedModel, feature_columns, free_memory, predict

# In units of the spread of a model's logits, see `check_golden_rows`. Rounding, against float32 on a CPU: bf16 0.006 to
# 0.03, fp16 0.001 to 0.003 (MiniLM trained on articles, and random models of six architectures with up to 24 layers;
# the worst 0.1 and 0.006). Faults: texts truncated at 120 tokens instead of 128 0.18, at the other end 1.3; one of 6
# layers re-initialised 1.3, or from another run 0.7; noise of 3 % on the weights of a layer, or two swapped words in
# the vocabulary, 0.02 to 0.1, which bf16 cannot see. Weights of 8 bits: 0.04 to 0.08 (SmolLM2-135M, for which
# bf16 alone is 0.01 to 0.09).
TOLERANCE = {"fp32": 0.002, "fp16": 0.015, "bf16": 0.1, "int8": 0.15}
OF_DECODERS = 2.0  # times as much: they have more layers, and logits of few texts may spread little. Where bf16 moves
# them more than half of that at home, twice what it does there: 0.40 and 0.22 in two folds of SmolLM2-135M with LoRA
# after one epoch on 40 texts, in a kernel 0.42 and 0.24
FARTHEST = 1.0  # at most: a row is not as far as another row is
NONE = -1e30  # logits below are of answers that a row does not have
FLOOR = 0.05  # the smallest spread: a model may give all rows nearly the same logits
IMAGES = 2  # that travel with the golden rows of a run, the smallest ones
OF_IMAGES = 0.03  # root mean square over a vector, in units of the spread of all. Rounding to bf16: 0.006 to 0.009;
# another resampling of the images 0.035 to 0.2, another normalisation 0.3 to 1.7, noise of 3 % on all weights 0.06 to
# 0.13 (random ViT, DINOv2, CLIP and ConvNeXt of 12 to 24 layers)


def write_golden(work: str | Path, run: str, rows: int = 16, full: str = "") -> Path | None:
    """Write RUN/golden.parquet: rows of train with the logits that the models of a run give them, in float32.

    rows: from the shortest text to the longest; more take longer and find no more. full: of 5_submit, which models
    predict; that of all rows is `base/full`. The table has id, text, the feature
    columns, and for each model (of a blend: of each run in it) a column such as `base/fold0`, of several seeds
    `base/fold0 seed 1`, with a list of logits in every row; document vectors are in `base/vectors`, and the files of
    two images and their vectors in `base/images` and `base/of images`. Its metadata
    (`read_metadata`) has versions, tolerances, and how far bf16 moves the logits of a decoder here. None, and no file,
    where no model is kept, as for TF-IDF, which learns again.
    The file holds texts and images of train: share it only with those who may have them. Costs loading each model once.
    Raises ValueError for fewer than one row, and as `load_task` and `SavedModel` do.
    """
    check_range("rows", rows, rows >= 1, "1 or more")
    work, folder = resolve(work), run_folder(work, run)
    path, models = folder / FILE, _models(folder, full)
    if not models:
        path.unlink(missing_ok=True)
        return None
    table = _choose_rows(read_train(load_task(work), feature_columns(work, run)), rows)
    rounding = {}
    for name, model in models.items():
        place = run_folder(work, name.split("/")[0])
        recipe = RunRecord(place).recipe
        saved = SavedModel(model, recipe, precision="fp32")
        inputs = saved.inputs(table, of_train=True)
        if inputs.vectors is not None:
            table[f"{place.name}/vectors"] = list(inputs.vectors)
        if saved.knobs.features.get("images") and f"{place.name}/images" not in table:
            _add_images(table, place.name, saved.knobs.features, Path(load_task(work).data))
        golden = _logits(saved, saved.features.examples(inputs))
        table[name] = list(golden)
        if saved.classifier.causal:  # one that learned little gives all rows nearly the same logits
            saved.precision = "bf16"
            rounding[name] = float(differences(_logits(saved, saved.features.examples(inputs)), golden).max())
        del saved
        free_memory()
    metadata = {"models": {name: model.relative_to(work).as_posix() for name, model in models.items()}}
    write_parquet(path, table, {**metadata, "tolerance": TOLERANCE, "rounding": rounding, "versions": versions()})
    return path


def check_golden_rows(work: str | Path, run: str, precision: str | None = None) -> pd.DataFrame:
    """Score the golden rows of a run again, and raise RuntimeError where a model scores otherwise than at home.

    precision: "fp32", "fp16", "bf16", or "int8" (weights of 8 bits); None: that in which a model predicts test rows on
    this machine, see `SavedModel`.
    Returns a row for each model: run, fold ("all" for an average over all folds), rows, largest difference and
    tolerance; and one for the image encoder of a run, as fold "images". A difference is that of two logits over the
    spread (standard deviation) of the model's golden logits: 0 is equal, 1 as far as one row is from another; of images
    see OF_IMAGES. Costs loading each model once.
    Raises FileNotFoundError where there are no golden rows, and RuntimeError with the fold, the row, the difference and
    the versions there and here.
    """
    work, folder = resolve(work), run_folder(work, run)
    if not (folder / FILE).is_file():
        raise FileNotFoundError(
            f"{folder} has no {FILE}: build the kernel again, or write_golden(work, {run!r}) at home"
        )
    table, metadata = read_parquet(folder / FILE), read_metadata(folder / FILE)
    found, limits = [], TOLERANCE | metadata["tolerance"]
    check_range("precision", precision, precision is None or precision in limits, f"one of {', '.join(limits)}")
    for name, model in metadata["models"].items():
        golden = np.stack(table[name])
        here, causal, used = _score_again(work / model, work / name.split("/")[0], table, precision or "")
        times = OF_DECODERS if causal else 1.0
        times = max(times, 2 * metadata.get("rounding", {}).get(name, 0.0) / limits["bf16"])
        limit = min(limits[used] * times, max(limits[used], FARTHEST))
        if here.shape != golden.shape:
            raise RuntimeError(f"{work / model} gives {here.shape[1]} logits a row, and gave {golden.shape[1]} at home")
        drift = differences(here, golden)
        row = int(np.argmax(drift))
        if not drift[row] <= limit:
            raise RuntimeError(_explain(name, table["id"][row], drift[row], limit, used, metadata["versions"]))
        of, fold = name.split("/")
        found.append((of, fold.removeprefix("fold"), len(table), float(drift[row]), limit))
    for run in (name.removesuffix("/images") for name in table if name.endswith("/images")):
        found.append((run, "images", *_check_images(table, work / run), OF_IMAGES))
    return pd.DataFrame(found, columns=["run", "fold", "rows", "largest difference", "tolerance"])


def differences(here: np.ndarray, golden: np.ndarray) -> np.ndarray:
    """The largest difference in each row of logits (rows, outputs), (rows,), in units of the spread of `golden`.

    The spread is their standard deviation, at least `FLOOR`. NaN counts as infinitely far. A logit of an answer that a
    row does not have, the lowest number, is none, here as in `golden`.
    """
    none = golden < NONE
    far = np.where(none & (here < NONE), 0, np.abs(here.astype(np.float64) - golden))
    far = far.max(axis=1) / max(float(np.std(golden[~none])), FLOOR)
    return np.where(np.isnan(far), np.inf, far)


def _add_images(table: pd.DataFrame, run: str, features: dict[str, Any], data: Path) -> None:
    """Add the files of the smallest images, and their vectors in float32, None in other rows."""
    files = find_images(table[features["images"]].tolist(), data, "golden row {}".format)
    rows = sorted((row for row, file in enumerate(files) if file), key=lambda row: files[row].stat().st_size)[:IMAGES]
    vectors = _encode([files[row] for row in rows], features["images_by"], "fp32") if rows else []
    for name, values in (("images", [files[row].read_bytes() for row in rows]), ("of images", list(vectors))):
        at = dict(zip(rows, values, strict=True))
        table[f"{run}/{name}"] = [at.get(row) for row in range(len(table))]


def _encode(files: Sequence[Path], encoder: str, precision: str) -> np.ndarray:
    """The vectors of images, (images, width)."""
    vectors = ImageEncoder.load(encoder).to(choose_device()).vectors(files, precision).cpu().numpy()
    free_memory()
    return vectors


def _check_images(table: pd.DataFrame, run: Path) -> tuple[int, float]:
    """How many images the encoder of a run reads again, and how far a vector is from that of home at most. Raises
    RuntimeError where that is too far."""
    shown = table[table[f"{run.name}/images"].notna()]
    if not len(shown):
        return 0, 0.0
    encoder, golden = RunRecord(run).recipe["features"]["images_by"], np.stack(shown[f"{run.name}/of images"])
    with temporary_folder() as place:
        files = [place / str(number) for number in range(len(shown))]
        for file, content in zip(files, shown[f"{run.name}/images"], strict=True):
            file.write_bytes(content)
        here = _encode(files, encoder, choose_precision())
    if here.shape != golden.shape:
        raise RuntimeError(f"{encoder} gives vectors of {here.shape[1]} numbers, and gave {golden.shape[1]} at home")
    spread = max(float(np.nanstd(np.stack(table[f"{run.name}/vectors"]))), 1e-6)
    far = float(np.sqrt(np.square(here - golden).mean(axis=1)).max()) / spread
    if not far <= OF_IMAGES:
        raise RuntimeError(
            f"The image encoder of {run.name}, {encoder}, does not read images as at home: a vector differs by "
            f"{far:.3g} times their spread, and may by {OF_IMAGES:g}. Other weights, another way to scale images, or "
            "another version of transformers or Pillow do this: build and push the models again with this version"
        )
    return len(shown), far


def _models(folder: Path, full: str) -> dict[str, Path]:
    """The models of a run, or of the runs in a blend, that predict: `base/fold0` -> folder."""
    found = {}
    for run in dict.fromkeys(RunRecord(folder).leaves()):
        models = run.saved_models
        one = run.recipe.get("soup") == "folds" and len(models) > 1
        named = {"all" if one else f"fold{fold}": each for fold, each in models.items()} if full != "only" else {}
        for place, each in (named | {FULL: run.full_models} if full else named).items():
            name = f"{run.name}/{place}"
            found |= {f"{name} seed {number}" if len(each) > 1 else name: model for number, model in enumerate(each)}
    return found


def _choose_rows(train: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Rows evenly spaced from the shortest text to the longest."""
    order = np.argsort(train["text"].str.len().to_numpy(), kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(rows, len(order))).round().astype(int))
    return train.iloc[order[places]].reset_index(drop=True)


def _score_again(model: Path, run: Path, table: pd.DataFrame, precision: str) -> tuple[np.ndarray, bool, str]:
    """The logits, whether the model is a decoder, and the precision."""
    saved = SavedModel(model, RunRecord(run).recipe, precision=precision)
    inputs = read_inputs(table, saved.tokenizer, saved.knobs)
    if f"{run.name}/vectors" in table:
        inputs = replace(inputs, vectors=np.stack(table[f"{run.name}/vectors"]))
    logits, causal = _logits(saved, saved.features.examples(inputs)), saved.classifier.causal
    used = precision or saved.precision
    del saved
    free_memory()
    return logits, causal, used


def _logits(saved: SavedModel, examples: Examples) -> np.ndarray:
    """The logits of the task's own outputs, (rows, outputs) float32, of classes that a row cannot have too: the lowest
    number in their place would have an endless spread, in which no difference shows."""
    examples.other = None  # one order shows whether the model is the same
    examples.arrays.pop("candidates", None)
    return predict(_Raw(saved.classifier), examples, saved.precision)


class _Raw(torch.nn.Module):
    """A classifier whose predictions are its raw logits."""

    def __init__(self, model: Classifier):
        super().__init__()
        self.model = model

    @property
    def backbone(self) -> torch.nn.Module:
        return self.model.backbone

    def forward(self, **batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.model(**batch)

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Without those of auxiliary targets, which no prediction uses."""
        return logits[:, : len(self.model.center)].float()


def _explain(name: str, row: str, far: float, limit: float, precision: str, then: dict[str, Any]) -> str:
    now = versions()
    changed = [package for package in {**then, **now} if then.get(package) != now.get(package)]
    other = [f"{package} {then.get(package)} there, {now.get(package)} here" for package in changed]
    return (
        f"The model {name} does not score as at home: the logits of row {row!r} differ by {far:.3g} times their "
        f"spread, and {precision} may differ by {limit:g}. Versions: {'; '.join(other) or 'all are the same'}. "
        "Other weights, another tokenizer or another version of transformers do this: build and push the models again "
        "with this version, or pin the kernel to an image with the versions of home"
    )
