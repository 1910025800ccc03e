"""An objective of a tiny backbone, ready for the loop; and pictures with captions, and a tiny model that sees them."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from kagglekit.model.backbones import load_tokenizer, quiet
from kagglekit.model.vocabulary import add_tokens
from kagglekit.pretraining.image_text import ImagePairs, check_pairs
from kagglekit.pretraining.simcse import LabelledTexts
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import OBJECTIVES
from kagglekit.pretraining.stages import prepare as prepare_stage

GOOD, BAD = "the good film is fun !", "a bad plot was sad ."
TEXTS = [f"{a} {word} {b}" for word in ("old", "new", "very", "it") for a in (GOOD, BAD) for b in (GOOD, BAD, "no ?")]
LABELS = LabelledTexts(TEXTS, np.array([text.startswith(GOOD) for text in TEXTS], dtype=int))
COLOURS = {"good": "red", "bad": "lime", "fine": "blue", "poor": "yellow", "sad": "white", "fun": "magenta"}


def make_vit(folder):
    """A tiny random ViT and its processor in a folder, for pictures of 16 x 16 in four patches."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    with quiet():
        model = ViTModel(ViTConfig(**sizes, image_size=16, patch_size=8), add_pooling_layer=False)
        model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return str(folder)


def draw(top, bottom, random):
    """A circle over a square, somewhere, in the colours of these words, on a dark ground."""
    picture = Image.new("RGB", (16, 16), tuple(map(int, random.integers(0, 50, 3))))
    pen, (x, y) = ImageDraw.Draw(picture), map(int, random.integers(0, 8, 2))
    pen.ellipse([x, 0, x + 7, 7], fill=COLOURS[top])
    pen.rectangle([y, 8, y + 7, 15], fill=COLOURS[bottom])
    return picture


def make_pairs(folder, count):
    """Captions that name the colours, and pictures in a folder, JPEG and PNG in turn; the words of the colours."""
    random = np.random.default_rng(0)
    words = [list(random.choice(list(COLOURS), 2)) for _ in range(count)]
    files = [folder / f"{number}.{'jpg' if number % 2 else 'png'}" for number in range(count)]
    for (top, bottom), file in zip(words, files, strict=True):
        draw(top, bottom, random).save(file, quality=95)
    return [f"the {top} plot is {bottom}" for top, bottom in words], files, words


@pytest.fixture(scope="session")
def vit(tmp_path_factory):
    """A folder with a tiny random ViT."""
    return make_vit(tmp_path_factory.mktemp("images") / "vit")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """160 captions with their pictures, as `ImagePairs`."""
    texts, files, _ = make_pairs(tmp_path_factory.mktemp("pictures"), 160)
    return check_pairs(texts, files, "posts.csv", ["text", "image"])


@pytest.fixture
def prepare(backbones, vit, pictures):
    """prepare(objective, model type, options, **knobs of the stage): made from the same seed at every call."""

    def make(
        name,
        kind="bert",
        options=None,
        texts=TEXTS[:18],
        held_out=TEXTS[18:],
        labels=LABELS,
        words=(),
        tokenizer=None,
        path=None,
        held_out_share=0.05,
        **knobs,
    ):
        torch.manual_seed(0)
        knobs, path = {"max_length": 20, "held_out": held_out_share, **knobs}, path or backbones[kind]
        if OBJECTIVES[name].needs_images:
            options = {"image_encoder": vit, "width": 16} | (options or {})
            labels = ImagePairs(*(part[:24] for part in vars(pictures).values())) if labels is LABELS else labels
        stage, tokenizer = Stage(name, objective_options=options or {}, **knobs), tokenizer or load_tokenizer(path)
        add_tokens(tokenizer, words)
        return prepare_stage(stage, path, tokenizer, texts, held_out, labels=labels)

    return make


@pytest.fixture
def compute_loss():
    """compute_loss(prepared, tricks): a function inputs -> (loss, outputs) through the given tricks."""

    def make(prepared, tricks=()):
        def compute(inputs):
            outputs = prepared.model(**{name: x for name, x in inputs.items() if name != "labels"})
            return prepared.loss(outputs["logits"], inputs["labels"]), outputs

        for trick in reversed(tricks):
            compute = partial(trick.compute_loss, compute, prepared.model)
        return compute

    return make
