"""Checkpoints stored in float32, bfloat16 or float16 become models in float32, whatever loads them."""

import re
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

import kagglekit
from kagglekit.augment.back_translation import Translator
from kagglekit.augment.masked_words import MaskedPredictions
from kagglekit.files import read_json, write_json
from kagglekit.files.arrays import SEAL
from kagglekit.learners.frozen import Frozen
from kagglekit.model.backbones import load_backbone, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.model.verbalizer import load_language_model
from kagglekit.model.weight_averages import average_models, fuse_backbones
from kagglekit.pretraining.selective import TokenScorer
from kagglekit.pretraining.stage_knobs import Stage
from kagglekit.pretraining.stages import prepare
from kagglekit.training.images import ImageEncoder
from tests.pretraining.conftest import make_vit


def saved_in(folder, target, dtype):
    """A copy of the folder of a model, its weights stored in another precision."""
    copytree(folder, target)
    weights = {name: x.to(dtype) for name, x in load_file(target / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    write_json(target / "config.json", {**read_json(target / "config.json"), "dtype": str(dtype).split(".")[1]})
    (target / SEAL).unlink(missing_ok=True)
    return target


def frozen_of(start):
    def load(folder, task, tables):
        what = task("binary")
        return Frozen(what, *tables(what, 20), str(folder), max_length=20)._load(str(folder) if start else None)[0]

    return load


def pretrained(objective):
    def load(folder, *_):
        stage, texts = Stage(objective, max_length=20, held_out=0.3), ["the good film", "a bad plot", "it was fun"] * 4
        return prepare(stage, str(folder), load_tokenizer(str(folder)), texts[:8], texts[8:]).model

    return load


def masked_words(folder, *_):
    source = MaskedPredictions(str(folder))
    source._load()
    return source.model_


def sentence_encoder(folder, *_):
    pytest.importorskip("sentence_transformers")
    from kagglekit.learners.setfit import load_sentence_encoder

    return load_sentence_encoder(str(folder), "cpu")


LOADERS = {  # what is stored -> file that loads it -> how
    "backbone": {
        "model/backbones.py": lambda folder, *_: load_backbone(str(folder)),
        "model/verbalizer.py": lambda folder, *_: load_language_model(str(folder)),
        "learners/frozen.py": frozen_of(False),
        "learners/setfit.py": sentence_encoder,
        "model/weight_averages.py": lambda folder, *_: fuse_backbones([folder, folder]),
        "augment/masked_words.py": masked_words,
        "pretraining/mlm.py": pretrained("mlm"),
        "pretraining/rtd.py": pretrained("rtd"),
        "pretraining/objective.py": pretrained("simcse"),
    },
    "classifier": {
        "model/classifier.py": lambda folder, *_: Classifier.load(folder),
        "learners/frozen.py": frozen_of(True),
        "learners/soup.py": lambda folder, *_: average_models([folder, folder]),
        "model/weight_averages.py": lambda folder, *_: fuse_backbones([folder, folder]),
    },
    "scorer": {"pretraining/selective.py": lambda folder, *_: TokenScorer.load(folder)},
    "translator": {"augment/back_translation.py": lambda folder, *_: Translator(str(folder)).model},
    "image encoder": {"training/images.py": lambda folder, *_: ImageEncoder.load(str(folder)).model},
}
TABLES = (30, 16), (24, 3, 8, 8)  # the words of the models of text, the patches of the image encoder


@pytest.fixture(scope="module")
def stored(backbones, tmp_path_factory, tokenizer):
    """What is stored -> its folder, in float32."""
    place = tmp_path_factory.mktemp("stored")
    model = Classifier(load_backbone(backbones["bert"]), "softmax", 2)
    model.save(place / "classifier", tokenizer)
    scorer = TokenScorer(load_backbone(backbones["bert"]))
    scorer.save(place / "scorer")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 30}
    with quiet():
        translator = T5ForConditionalGeneration(T5Config(**sizes, pad_token_id=0, decoder_start_token_id=0))
        translator.save_pretrained(place / "translator")
    tokenizer.save_pretrained(place / "translator")
    make_vit(place / "image encoder")
    return {"backbone": Path(backbones["bert"])} | {name: place / name for name in list(LOADERS)[1:]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("what", "file"), [(what, file) for what in LOADERS for file in LOADERS[what]])
def test_every_loader_gives_float32_with_the_values_of_the_file(what, file, dtype, stored, task, tables, tmp_path):
    folder = saved_in(stored[what], tmp_path / "model", dtype)
    model = LOADERS[what][file](folder, task, tables)
    assert {x.dtype for x in [*model.parameters(), *model.buffers()] if x.is_floating_point()} == {torch.float32}
    (words,) = [x for name, x in load_file(folder / "model.safetensors").items() if x.shape in TABLES][:1]
    tables = [x for x in model.state_dict().values() if x.shape == words.shape]
    assert any(torch.equal(x, words.float()) for x in tables)
    config = next(module.config for module in model.modules() if hasattr(module, "config"))
    assert getattr(config, "dtype", None) in (None, torch.float32, "float32")  # what a save would write


def test_no_loader_is_left_out():
    """Each file that makes a model of transformers is among the loaders, or makes one for shapes or a folder alone."""
    makes = re.compile(r"\b(?:AutoModel\w*|kind)\.from_(?:pretrained|config)\(|SentenceTransformer\(")
    root = Path(kagglekit.__file__).parent
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if makes.search(path.read_text())}
    others = {"decoders/lora.py", "gains/shortlist.py"}  # shapes
    others |= {"decoders/packed_weights.py"}  # a folder, which is loaded as any other
    assert len(found) > 7 and not found - others - {file for files in LOADERS.values() for file in files}


def test_a_small_step_changes_weights_that_came_in_bfloat16(stored, tmp_path):
    """In bfloat16 a step of 1e-5 rounds to nothing for all weights above 0.002."""
    model = load_backbone(str(saved_in(stored["backbone"], tmp_path / "model", torch.bfloat16)))
    before = [x.detach().clone() for x in model.parameters()]
    with torch.no_grad():
        for x in model.parameters():
            x.sub_(1e-5)
    changed = np.mean([(a != b).float().mean() for a, b in zip(before, model.parameters(), strict=True)])
    assert changed > 0.999
