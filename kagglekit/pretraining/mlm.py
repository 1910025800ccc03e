"""Masked-language modelling (Devlin et al., 2019), as further pretraining (Sun et al., 2019, arXiv 1905.05583)."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.device import autocast, choose_precision, random_state_kept
from kagglekit.model.backbones import quiet
from kagglekit.pretraining.masking_catalogue import Masking, make_masking
from kagglekit.pretraining.objective import Prepared, Stage, load_model, read_options
from kagglekit.pretraining.packing import read_pieces


class MaskedLM(nn.Module):
    """A masked-language model whose head sees the chosen tokens only: a seventh of the work over a large vocabulary."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.backbone.register_forward_hook(self._keep_chosen)
        self._chosen: torch.Tensor | None = None

    @property
    def backbone(self) -> nn.Module:
        return self.model.base_model

    def _keep_chosen(self, module, args, output):
        if self._chosen is None:  # the backbone is called by itself, as a probe does
            return output
        kept = output["last_hidden_state"][self._chosen]  # (chosen, width)
        self._count = len(kept)
        kept = F.pad(kept, (0, 0, 0, -len(kept) % 128))  # few shapes: oneDNN keeps a kernel, and memory, for each
        output["last_hidden_state"] = kept[None]
        return output

    def forward(self, input_ids, attention_mask, chosen) -> dict[str, torch.Tensor]:
        """Logits of the `chosen` (batch, tokens) positions: (chosen, vocabulary)."""
        self._chosen = chosen
        try:
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[0]
        finally:
            self._chosen = None
        return {"logits": logits[: self._count]}


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the chosen tokens; 0 for a batch in which none was chosen."""
    return F.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)


@torch.inference_mode()
def perplexity(model: MaskedLM, examples: Examples, masking: Masking, precision: str, seed: int = 0) -> float:
    """exp of the mean loss on the hidden tokens of `examples`, the same ones at every call with the same seed."""
    device, training = next(model.parameters()).device, model.training
    loss, count = 0.0, 0
    model.eval()
    try:
        with random_state_kept(), autocast(device, precision):
            torch.manual_seed(seed)
            for rows in prediction_batches(examples.tokens.lengths, 4096):
                batch = masking.hide({name: x.to(device) for name, x in examples.__getitems__(rows).items()})
                labels = batch.pop("labels")
                loss += float(F.cross_entropy(model(**batch)["logits"].float(), labels, reduction="sum"))
                count += len(labels)
    finally:
        model.train(training)
    return exp_of_mean(loss, count)


def exp_of_mean(loss: float, count: int) -> float:
    """The perplexity of a summed loss: NaN of no token, infinite where the model has gone astray."""
    return float(torch.tensor(loss / count, dtype=torch.float64).exp()) if count else math.nan


def prepare_mlm(
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    stage: Stage,
    masking: Masking | None = None,
    labels: Any = None,
) -> Prepared:
    """Guess tokens that `masking` hides; measured by the perplexity on the hidden tokens of `held_out`.

    backbone: a folder or a name on the hub. Where its head was not saved with it, the head begins anew. masking: None
    is the one that `stage` names. The objective has no options, and does not look at `labels`. Whole texts are read,
    see `read_pieces`. The model is saved with its head.
    """
    read_options(stage)
    if tokenizer.mask_token_id is None:
        raise ValueError(f"backbone {backbone} has no mask token: it cannot be pretrained by masking")
    model = load_model(AutoModelForMaskedLM, backbone, tokenizer, stage.max_length, stage.dropout)
    masking = masking or make_masking(stage.masking, tokenizer, stage.mask_probability, stage.masking_options)
    train, valid = (Examples(read_pieces(part, tokenizer, stage), tokenizer.pad_token_id) for part in (texts, held_out))
    masked = MaskedLM(model)

    def measure() -> dict[str, float]:
        return {"perplexity": perplexity(masked, valid, masking, choose_precision())}

    def save(folder: Path) -> None:
        with quiet():
            model.save_pretrained(folder)

    return Prepared(masked, train, masked_cross_entropy, [masking], measure, save)
