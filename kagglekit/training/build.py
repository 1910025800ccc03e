"""From a recipe to a model: the backbone, surgery on it, and the classifier around it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kagglekit.device import checkpoint_activations, choose_attention, choose_device
from kagglekit.model.backbones import load_backbone
from kagglekit.model.classifier import Classifier, load_encoder
from kagglekit.model.pooling import POOLINGS
from kagglekit.model.surgery import freeze, reinit_layers
from kagglekit.model.verbalizer import load_masked_lm
from kagglekit.model.vocabulary import resize_embeddings
from kagglekit.training.inputs import FeatureScaler
from kagglekit.training.targets import Targets

if TYPE_CHECKING:
    from kagglekit.training.finetune import FineTuner


def build_model(
    tuner: FineTuner, targets: Targets, beside: FeatureScaler, start: str | None = None, untrained: bool = False
) -> Classifier:
    """The classifier for targets, and for what stands beside the text.

    start: as in `FineTuner.fit`. untrained: a head for words may begin at random.
    """
    recipe = tuner.recipe
    model = Classifier(
        build_backbone(tuner, start, untrained),
        targets.link,
        targets.outputs,
        **tuner.prompt,
        head_dropout=recipe.head_dropout,
        dropout_samples=recipe.dropout_samples,
        auxiliary=targets.auxiliary,
        learned_weights=recipe.learned_weights,
        chunk_pooling=recipe.chunk_pooling if recipe.chunks else "",
        **beside.options(),
        **tuner.word_options,
    )
    for buffer, values in ((model.center, targets.center), (model.scale, targets.scale)):
        buffer.copy_(buffer.new_tensor(values))
    for words in (model.words, model.embedded_words):
        if words is not None:
            words.table.copy_(tuner.word_table)
    model.chunk_tokens = recipe.batch_size * recipe.max_length  # as many as a batch of texts that are cut
    model.mask_id, model.special_ids = tuner.tokenizer.mask_token_id, tuple(tuner.tokenizer.all_special_ids)
    if recipe.learned_weights:
        targets.loss.log_variances = model.log_variances
    return model


def build_backbone(tuner: FineTuner, start: str | None, untrained: bool = False) -> torch.nn.Module:
    """The backbone as a recipe wants it; with a head for words where there is a verbalizer."""
    recipe, saved = tuner.recipe, start is not None and (Path(start) / "classifier.json").is_file()
    path, attention = start, choose_attention(choose_device(), recipe.max_length)
    if start is None or saved:
        path = tuner.backbone
    options = (path, recipe.dropout, attention, recipe.attention_dropout)
    if recipe.verbalizer:
        whole = load_masked_lm(*options, start=Path(start) if saved else None, untrained=untrained)
    else:
        whole = load_backbone(*options, pooler=POOLINGS[recipe.pooling].own_pooler)
    backbone = whole.base_model
    if saved:
        resize_embeddings(whole, tuner.tokenizer)  # it may have tokens of its own
        load_encoder(backbone, Path(start))
    reinit_layers(backbone, recipe.reinit_layers)
    freeze(backbone, recipe.freeze_embeddings, recipe.freeze_layers)
    if recipe.checkpointing:
        checkpoint_activations(backbone)
    return whole
