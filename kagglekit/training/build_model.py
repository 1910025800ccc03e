"""Building the model of a recipe: backbone, initial weights, surgery, and the classifier around it."""

from pathlib import Path
from typing import Any

import torch

from kagglekit.decoders.causal import is_causal
from kagglekit.device import checkpoint_activations, choose_attention, choose_device
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier, load_encoder
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
    model = Classifier(
        build_backbone(backbone, tokenizer, recipe, start, untrained),
        targets.output_layer,
        targets.outputs,
        head_dropout=recipe.head_dropout,
        dropout_samples=recipe.dropout_samples,
        auxiliary=targets.auxiliary,
        learned_weights=recipe.learned_weights,
        chunk_pooling=recipe.chunk_pooling if recipe.chunks or recipe.options else "",
        **options,
    )
    if start is not None and recipe.verbalizer and (Path(start) / "classifier.json").is_file():
        load_words(model.head, options["label_words"], Path(start))
    for buffer, values in ((model.center, targets.center), (model.scale, targets.scale)):
        buffer.copy_(buffer.new_tensor(values))
    for words in (model.words, model.embedded_words):
        if words is not None:
            words.table.copy_(word_vectors)
    if recipe.learned_weights:
        targets.loss.log_variances = model.log_variances
    return _prepare(model, tokenizer, recipe)


def reopen_model(folder: Path, tokenizer, recipe: Recipe) -> Classifier:
    """The classifier of a folder, head and all, to be trained further by a recipe."""
    model = Classifier.load(folder)
    freeze(model.backbone, recipe.freeze_embeddings, recipe.freeze_layers)
    if recipe.checkpointing:
        checkpoint_activations(model.backbone)
    return _prepare(model, tokenizer, recipe)


def _prepare(model: Classifier, tokenizer, recipe: Recipe) -> Classifier:
    """What training needs to know of it besides its weights."""
    model.chunk_tokens = recipe.batch_size * recipe.max_length  # as many as a batch of texts that are truncated
    model.mask_id, model.special_ids = tokenizer.mask_token_id, tuple(tokenizer.all_special_ids)
    return model


def build_backbone(
    path: str, tokenizer, recipe: Recipe, start: str | None = None, untrained: bool = False
) -> torch.nn.Module:
    """The backbone as a recipe wants it; with a head for words where there is a verbalizer."""
    saved = start is not None and (Path(start) / "classifier.json").is_file()
    attention = choose_attention(choose_device(), recipe.max_length)
    options = (path if start is None or saved else start, recipe.dropout, attention, recipe.attention_dropout)
    if recipe.verbalizer:
        whole = load_language_model(*options, start=Path(start) if saved else None, untrained=untrained)
    else:
        whole = load_backbone(*options, pooler=recipe.pooling != "auto" and POOLINGS[recipe.pooling].own_pooler)
    backbone = whole.base_model
    if saved:
        resize_embeddings(whole, tokenizer)  # it may have tokens of its own
        load_encoder(backbone, Path(start))
    reinit_layers(backbone, recipe.reinit_layers)
    freeze(backbone, recipe.freeze_embeddings, recipe.freeze_layers)
    wanted = recipe.checkpointing
    if wanted or (wanted is None and is_causal(backbone.config) and choose_device().type == "cuda"):
        checkpoint_activations(backbone)
    return whole
