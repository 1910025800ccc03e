"""Images beside the text: files found and checked, a vision model of transformers, and its vectors as features."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import nn
from transformers import MODEL_MAPPING, AutoImageProcessor, AutoModel

from kagglekit.device import autocast, choose_device, choose_precision
from kagglekit.files import hash_files
from kagglekit.files.arrays import cached_arrays, loading
from kagglekit.model.backbones import backbone_folder, find_backbone, load_config, quiet
from kagglekit.progress import track

BATCH = 32  # images that are encoded together


def find_images(cells: Sequence[str], folder: Path, name: Callable[[int], str]) -> list[Path | None]:
    """The file of each cell, relative to `folder`, or found by its name alone in a folder below, also without its
    ending, as competitions write ids of images; None of an empty cell.

    name: number of a cell -> what an error calls it, such as "posts.csv: column 'image' in row 3".
    Raises FileNotFoundError for a file that is not there, and ValueError for a name that several folders have.
    """
    found, below = [], {}
    for number, cell in enumerate(cells):
        cell = cell.strip()
        path = folder / cell
        if cell and not path.is_file():
            below = below or _by_name(folder)
            places = below.get(cell, [])
            if len(places) > 1:
                raise ValueError(f"{name(number)} is {cell!r}, and {places[0]} and {places[1]} both have that name")
            if not places:
                raise FileNotFoundError(f"{name(number)} is {cell!r}: there is no such file in {folder} nor below it")
            path = places[0]
        found.append(path if cell else None)
    return found


def _by_name(folder: Path) -> dict[str, list[Path]]:
    found, endings = {}, Image.registered_extensions()
    for place, _, names in os.walk(folder):
        for name in names:
            stem, ending = os.path.splitext(name)
            for key in {name, stem if ending.lower() in endings else name}:
                found.setdefault(key, []).append(Path(place, name))
    return found


def read_image(path: Path, name: str) -> Image.Image:
    """An image in RGB, turned as its camera says. name: what an error calls it.

    Raises ValueError for a file that is no image, and for one that is cut off or damaged.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = str(error).replace(str(path), path.name)
        raise ValueError(f"{name} is {path}, which cannot be read as an image ({why}): replace it") from error


def check_images(files: Sequence[Path], name: Callable[[int], str]) -> list[str]:
    """A hash of the content of each file. Raises ValueError as `read_image` does; all of them are decoded once."""
    found = {}
    for number, file in enumerate(track(files, "checking images", "image")):
        if file not in found:
            read_image(file, name(number))
            found[file] = hash_files([file])
    return [found[file] for file in files]


class ImageEncoder(nn.Module):
    """A vision model of transformers (ViT, DINOv2, the vision tower of CLIP) with its image processor.

    A new pooler on top of it, which is random in many files of weights, is left out: the vector is then that of the
    first token.
    """

    def __init__(self, model: nn.Module, processor: Any):
        super().__init__()
        self.model = model
        self.processor = processor
        with torch.no_grad():
            device, blank = next(model.parameters()).device, Image.new("RGB", (64, 64))
            self.width = self(self._pixels([blank]).to(device))[0].shape[1]

    @classmethod
    def load(cls, name: str) -> "ImageEncoder":
        """name: a folder, or a name of the hub; of a model of texts and images its vision tower. Raises ValueError for
        one that reads no images, or has no image processor."""
        path = find_backbone(name)
        config = load_config(path)
        of_vision = getattr(config, "vision_config", None)
        kind = AutoModel if of_vision is None else MODEL_MAPPING[type(of_vision)]
        if kind is AutoModel and getattr(MODEL_MAPPING[type(config)], "main_input_name", "") != "pixel_values":
            raise ValueError(f"{name!r} reads no images ({config.model_type}): name a vision model, such as a ViT")
        if not os.path.isfile(os.path.join(backbone_folder(path), "preprocessor_config.json")):
            raise ValueError(f"{name!r} has no preprocessor_config.json, which says how its images are scaled")
        with quiet(), loading(backbone_folder(path), weights=True):
            model = kind.from_pretrained(path, dtype=torch.float32)
            processor = AutoImageProcessor.from_pretrained(path, backend="pil")
        if isinstance(pooler := getattr(model, "pooler", None), nn.Module) and [*pooler.parameters()]:
            model.pooler = None
        for word, parameter in model.named_parameters():
            if word.endswith("mask_token"):  # of its own pretraining: no gradient reaches it
                parameter.requires_grad_(False)
        return cls(model, processor)

    def save(self, folder: Path) -> None:
        """Write it as `load` reads it."""
        with quiet():
            self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def pixels(self, files: Sequence[Path], name: Callable[[int], str] = "image {}".format) -> torch.Tensor:
        """(images, channels, height, width), as the model reads them. name: see `find_images`."""
        return self._pixels([read_image(file, name(number)) for number, file in enumerate(files)])

    def _pixels(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return self.processor(images, return_tensors="pt")["pixel_values"]

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The vector of each image (batch, width), and those of its patches (batch, patches, width)."""
        outputs = self.model(pixel_values=pixels)
        states, pooled = outputs.last_hidden_state, getattr(outputs, "pooler_output", None)
        if states.dim() == 4:  # of a convolutional network: (batch, width, height, width)
            states = states.flatten(2).transpose(1, 2)
        return (states[:, 0] if pooled is None else pooled.flatten(1)), states

    @torch.inference_mode()
    def vectors(
        self, files: Sequence[Path], precision: str, name: Callable[[int], str] = "image {}".format
    ) -> torch.Tensor:
        """The vectors of images (images, width) in float32, on the model's device; the mode stays."""
        training, device, found = self.training, next(self.parameters()).device, []
        self.eval()
        try:
            for rows in track(np.array_split(np.arange(len(files)), -(-len(files) // BATCH)), "encoding images"):
                with autocast(device, precision):
                    pixels = self.pixels([files[row] for row in rows], lambda n, rows=rows: name(rows[n]))
                    found.append(self(pixels.to(device))[0].float())
        finally:
            self.train(training)
        return torch.cat(found)


def image_vectors(
    encoder: str, cells: Sequence[str], ids: Sequence[str], folder: Path, column: str, cache: Path | None = None
) -> np.ndarray:
    """The vectors of the images that the cells of a column name, float32 (cells, width); NaN where a cell is empty.

    encoder: see `ImageEncoder.load`. ids: of the rows. folder: see `find_images`. cache: where vectors are kept, by the
    weights of the encoder and the files. Raises as `find_images` and `read_image` do, and ValueError for no image.
    """

    def name(number: int) -> str:
        return f"features: images: column {column!r} of id {ids[number]!r}"

    files = find_images(cells, folder, name)
    shown = list(dict.fromkeys(file for file in files if file))
    if not shown:
        raise ValueError(f"features: images: column {column!r} is empty in all rows: there is no image to read")
    place = backbone_folder(find_backbone(encoder))
    precision = choose_precision()
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in shown]
    weights = hash_files(sorted([*place.glob("*.safetensors"), *place.glob("*.bin"), *place.glob("*.json")]))
    key = hashlib.sha256(repr((weights, precision, facts)).encode()).hexdigest()[:16]

    def make() -> dict[str, np.ndarray]:
        model = ImageEncoder.load(encoder).to(choose_device())
        return {"vectors": model.vectors(shown, precision, lambda n: name(files.index(shown[n]))).cpu().numpy()}

    vectors = make() if cache is None else cached_arrays(cache / f"images-{key}.npz", make)
    at = {file: number for number, file in enumerate(shown)}
    rows = np.array([at.get(file, -1) for file in files])
    return np.where(rows[:, None] >= 0, vectors["vectors"][rows], np.nan).astype(np.float32)
