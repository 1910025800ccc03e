"""Building the model of a recipe: backbone, initial weights, surgery, and the classifier around it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kagglekit.decoders.causal import is_causal
from kagglekit.decoders.lora import begin_adapters, check_layers, merge_adapters, narrow_frozen
from kagglekit.decoders.lora_base import describe_base, read_base
from kagglekit.decoders.lora_options import ADAPTED, LoraOptions, pack_options
from kagglekit.device import PRECISIONS, checkpoint_activations, choose_attention, choose_device, choose_precision
from kagglekit.files import read_json
from kagglekit.files.arrays import read_tensors
from kagglekit.model.backbones import backbone_folder, load_backbone
from kagglekit.model.classifier import Classifier
from kagglekit.model.pooling import POOLINGS
from kagglekit.model.surgery import freeze, reinit_layers
from kagglekit.model.verbalizer import load_language_model, load_words
from kagglekit.model.vocabulary import resize_embeddings
from kagglekit.training.recipe import Recipe
from kagglekit.training.targets import Targets


def build_model(
    backbone: str,
    tokenizer,
    recipe: Recipe,
    targets: Targets,
    options: dict[str, Any],
    word_vectors: torch.Tensor | None = None,
    start: str | None = None,
    untrained: bool = False,
) -> Classifier:
    """The classifier of a recipe.

    backbone: a folder, or a name of the hub. options: of `Classifier`, those that depend on the data: of a pattern, of
    features and of word vectors. word_vectors: the table of these, (vocabulary, width). start: as in `FineTuner.fit`.
    untrained: a head for words may begin at random.
    """
    whole = build_backbone(backbone, tokenizer, recipe, start, untrained)
    model = Classifier(
        whole,
        targets.output_layer,
        targets.outputs,
        head_dropout=recipe.head_dropout,
        dropout_samples=recipe.dropout_samples,
        auxiliary=targets.auxiliary,
        learned_weights=recipe.learned_weights,
        chunk_pooling=recipe.chunk_pooling if recipe.chunks or recipe.answers else "",
        adapters=_adapters(whole.base_model, recipe),
        **options,
    )
    if start is not None and recipe.verbalizer and _is_saved(start):
        load_words(model.head, options["label_words"], Path(start))
    alike = start is None or (read_base(Path(start)) and _has_adapters(start) == (recipe.tuning in ADAPTED))
    if recipe.tuning != "full" and alike:  # its backbone has the weights of the file
        model.base = describe_base(backbone_folder(backbone), backbone)
    if start is not None and recipe.tuning in ADAPTED and _has_adapters(start):
        _begin(model, Path(start))
    for buffer, values in ((model.center, targets.center), (model.scale, targets.scale)):
        buffer.copy_(buffer.new_tensor(values))
    for words in (model.words, model.embedded_words):
        if words is not None:
            words.table.copy_(word_vectors)
    model.candidates_loss = recipe.candidates_loss
    if recipe.learned_weights:
        targets.loss.log_variances = model.log_variances
    return _prepare(model, tokenizer, recipe)


def reopen_model(folder: Path, tokenizer, recipe: Recipe) -> Classifier:
    """The classifier of a folder, head and all, to be trained further by a recipe."""
    model = Classifier.load(folder)
    _ready(model.backbone, recipe)
    return _prepare(model, tokenizer, recipe)


def _prepare(model: Classifier, tokenizer, recipe: Recipe) -> Classifier:
    """What training needs besides the weights: the frozen ones in few bits, and facts of the recipe."""
    precision = choose_precision(wanted=recipe.precision)
    if precision != "fp32":
        narrow_frozen(model.backbone, PRECISIONS[precision])
    model.pooling.requires_grad_(True)  # with a pooler, which was part of the backbone when that was frozen
    model.chunk_tokens = recipe.batch_size * recipe.max_length  # as many as a batch of texts that are truncated
    model.mask_id, model.special_ids = tokenizer.mask_token_id, tuple(tokenizer.all_special_ids)
    return model


def build_backbone(
    path: str, tokenizer, recipe: Recipe, start: str | None = None, untrained: bool = False
) -> torch.nn.Module:
    """The backbone as a recipe wants it; with a head for words where there is a verbalizer."""
    saved = start is not None and _is_saved(start)
    attention = choose_attention(choose_device(), recipe.max_length)
    options = (path if start is None or saved else start, recipe.dropout, attention, recipe.attention_dropout)
    packed = pack_options(PRECISIONS[choose_precision()]) if recipe.tuning == "qlora" else {}
    if recipe.verbalizer:
        whole = load_language_model(*options, Path(start) if saved else None, untrained, packed)
    else:
        whole = load_backbone(*options, recipe.pooling != "auto" and POOLINGS[recipe.pooling].own_pooler, packed)
    backbone = whole.base_model
    if saved and not (recipe.tuning in ADAPTED and _has_adapters(start)):  # else it has nothing besides
        resize_embeddings(whole, tokenizer)  # it may have tokens of its own
        load_encoder(backbone, Path(start))
    reinit_layers(backbone, recipe.reinit_layers)
    _ready(backbone, recipe)
    return whole


def _ready(backbone: torch.nn.Module, recipe: Recipe) -> None:
    """Freeze what a recipe does not train, and compute activations again where it says so."""
    if recipe.tuning == "head":
        backbone.requires_grad_(False)
    freeze(backbone, recipe.freeze_embeddings, recipe.freeze_layers)
    wanted = recipe.checkpointing
    if wanted or (wanted is None and is_causal(backbone.config) and choose_device().type == "cuda"):
        checkpoint_activations(backbone)


def _is_saved(start: str) -> bool:
    """Whether a start is a model of `Classifier.save`."""
    return (Path(start) / "classifier.json").is_file()


def _has_adapters(start: str) -> bool:
    return read_base(Path(start)) is not None and bool(read_json(Path(start) / "classifier.json").get("adapters"))


def _begin(model: Classifier, start: Path) -> None:
    """Let adapters begin as those of a saved model that stands on the same backbone."""
    theirs, options = read_base(start), read_json(start / "classifier.json")["adapters"]
    if theirs["hash"] != model.base["hash"]:
        raise ValueError(
            f"start: {start} has adapters for {theirs['backbone']!r} with the weights {theirs['hash']}, and this "
            f"backbone has {model.base['hash']}: set backbone to that of the start"
        )
    saved = read_tensors(start / "model.safetensors").items()
    state = {name.removeprefix("backbone."): x for name, x in saved if name.startswith("backbone.")}
    begin_adapters(model.backbone, state, options["alpha"] / options["r"])


def _adapters(backbone: torch.nn.Module, recipe: Recipe) -> dict[str, Any] | None:
    """The adapters of a recipe as an option of `Classifier`; checked against the backbone."""
    if recipe.tuning not in ADAPTED:
        return None
    options = LoraOptions(**recipe.lora)
    check_layers(backbone, options)
    return {**options.as_dict(), "above": recipe.freeze_layers, "bits": 4 if recipe.tuning == "qlora" else 16}


def load_encoder(backbone: nn.Module, folder: Path) -> None:
    """Load the encoder of a folder of `Classifier.save` into a backbone of the same architecture, and its pooler where
    both have one; adapters that it has are merged."""
    if read_base(folder) or read_json(folder / "classifier.json").get("adapters"):
        model = Classifier.load(folder)
        merge_adapters(model.backbone)
        saved = model.state_dict().items()
    else:
        saved = read_tensors(folder / "model.safetensors").items()
    places = {"backbone.": "", "pooling.pooler.": "pooler."}  # prefix in a classifier -> in a backbone
    theirs = {to + name.removeprefix(at): x for at, to in places.items() for name, x in saved if name.startswith(at)}
    ours = {name: x for name, x in backbone.state_dict().items() if name.startswith("pooler.")}
    theirs = {name: x for name, x in theirs.items() if name in ours or not name.startswith("pooler.")}
    backbone.load_state_dict(ours | theirs)
