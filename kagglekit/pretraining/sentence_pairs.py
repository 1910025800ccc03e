"""Masked-language modelling of two pieces of text, and whether they belong together.

Next sentence (Devlin et al., 2019, arXiv 1810.04805): does the second piece follow the first, or is it from another
text? Sentence order (ALBERT; Lan et al., 2020, arXiv 1909.11942): do two neighbours stand in the order of the text?
"""

import inspect
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM

from kagglekit.data.batches import prediction_batches
from kagglekit.model.backbones import load_backbone, quiet
from kagglekit.model.pooling.tokens import apply_pooler, first_token
from kagglekit.pretraining.alike import LabelledTexts
from kagglekit.pretraining.documents import PiecePairs, cut_documents, pair_layout
from kagglekit.pretraining.loading import load_model, read_options
from kagglekit.pretraining.masking import Masking, make_masking
from kagglekit.pretraining.mlm import MaskedLM, exp_of_mean, masked_cross_entropy
from kagglekit.pretraining.objective import Prepared, Stage
from kagglekit.ranges import check_range
from kagglekit.training.hardware import autocast, choose_precision
from kagglekit.training.seeds import random_state_kept
from kagglekit.training.trick import Trick


class PairedLM(nn.Module):
    """A masked-language model that also says whether two pieces belong together, from the vector of the first token.

    pooler: of the backbone, a linear layer and tanh; None: a new one. On it is a linear layer with two outputs.
    """

    def __init__(self, masked: MaskedLM, pooler: nn.Module | None = None):
        super().__init__()
        self.masked = masked
        width = masked.backbone.config.hidden_size
        self.pooler = pooler or nn.Linear(width, width)
        self.head = nn.Linear(width, 2)
        self._types: dict[str, torch.Tensor] | None = None  # None where the backbone is called by itself
        self._states: torch.Tensor | None = None
        # around what `MaskedLM` does: the types go in, and the states of all tokens come out before it picks its own
        masked.model.register_forward_pre_hook(self._add_types, with_kwargs=True)
        masked.backbone.register_forward_hook(self._keep_states, prepend=True)

    @property
    def backbone(self) -> nn.Module:
        return self.masked.backbone

    def _add_types(self, module, args, inputs):
        return args, inputs | (self._types or {})

    def _keep_states(self, module, args, output):
        if self._types is not None:
            self._states = output["last_hidden_state"]  # (batch, tokens, width)

    def forward(self, input_ids, attention_mask, chosen, token_type_ids=None) -> dict[str, torch.Tensor]:
        """logits: of the `chosen` tokens (chosen, vocabulary); pair: (batch, 2), the second column for a wrong pair."""
        self._types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        try:
            outputs = self.masked(input_ids, attention_mask, chosen)
            pooled = apply_pooler(self.pooler, first_token(self._states, attention_mask))  # (batch, width)
        finally:
            self._types = self._states = None
        return {**outputs, "pair": self.head(pooled).float()}


class PairLoss(Trick):
    """Adds `weight` times the cross entropy of the pairs to the loss of the tokens; 0 learns from the tokens alone.

    It takes `order` (batch,), 1 for a wrong pair, out of the inputs.
    """

    pairs_: torch.Tensor | float = 0.0  # sum over the steps

    def __init__(self, weight: float = 1.0):
        self.weight = weight

    def compute_loss(self, compute, model, inputs):
        order = inputs["order"]
        loss, outputs = compute({name: value for name, value in inputs.items() if name != "order"})
        pairs = F.cross_entropy(outputs["pair"], order)
        self.steps_ += 1
        self.pairs_ = self.pairs_ + pairs.detach()
        return loss + self.weight * pairs, outputs

    def receipt(self, model):
        return {**super().receipt(model), "mean pair loss": float(self.pairs_) / max(self.steps_, 1)}


@torch.inference_mode()
def measure_pairs(
    model: PairedLM, examples: PiecePairs, masking: Masking, precision: str, seed: int = 0
) -> dict[str, float]:
    """perplexity: exp of the mean loss on the hidden tokens; pair_accuracy: share of pairs rightly told, half of which
    are wrong ones. The same tokens are hidden, and the same pairs shown, at every call with the same seed."""
    device, training = next(model.parameters()).device, model.training
    loss = hidden = right = 0
    model.eval()
    try:
        with random_state_kept(), autocast(device, precision):
            torch.manual_seed(seed)
            for rows in prediction_batches(examples.tokens.lengths, 4096):
                batch = masking.hide({name: x.to(device) for name, x in examples.__getitems__(rows.tolist()).items()})
                labels, order = batch.pop("labels"), batch.pop("order")
                outputs = model(**batch)
                loss += float(F.cross_entropy(outputs["logits"].float(), labels, reduction="sum"))
                hidden += len(labels)
                right += int((outputs["pair"].argmax(dim=1) == order).sum())
    finally:
        model.train(training)
    return {"perplexity": exp_of_mean(loss, hidden), "pair_accuracy": right / len(examples)}


def prepare_mlm_sop(
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    stage: Stage,
    masking: Masking | None = None,
    labels: LabelledTexts | None = None,
) -> Prepared:
    """Guess the hidden tokens of two neighbouring pieces, and whether they were swapped, as half of them are.

    Options: weight (1.0) of the pair loss beside that of the tokens; 0 is masked-language modelling of pairs. A text is
    cut into pieces of at most half of `max_length` where sentences end, English or Chinese, or where one is longer,
    inside it; nothing is left out but texts of one token, and nothing is packed. Which pairs are wrong is drawn anew in
    every epoch. Pieces have `token_type_ids` 0 and 1 where the backbone has such types. masking: None is the one that
    `stage` names. Measured by `measure_pairs`. The model is saved with its masked-language head, and with the
    backbone's pooler where it has one, which pooling "pooler" reads; the linear layer of the pairs begins anew in each
    stage.
    Raises ValueError for an unknown option, too few texts, and a tokenizer without a mask token.
    """
    return _prepare(backbone, tokenizer, texts, held_out, stage, masking, "swapped")


def prepare_mlm_nsp(
    backbone: str,
    tokenizer,
    texts: list[str],
    held_out: list[str],
    stage: Stage,
    masking: Masking | None = None,
    labels: LabelledTexts | None = None,
) -> Prepared:
    """Guess the hidden tokens of two pieces, and whether the second follows the first, or is from another text.

    Everything is as in `prepare_mlm_sop`, but that in half of the pairs the second piece is one of another text.
    """
    return _prepare(backbone, tokenizer, texts, held_out, stage, masking, "other")


def _prepare(backbone, tokenizer, texts, held_out, stage, masking, wrong: str) -> Prepared:
    weight = read_options(stage, weight=1.0)["weight"]
    check_range("weight", weight, 0 <= weight < math.inf, "0 or more")
    special = sum(map(len, pair_layout(tokenizer)))
    room = (stage.max_length - special) // 2
    check_range("max_length", stage.max_length, room >= 2, f"{special + 4} or more for two pieces of two tokens")
    masking = masking or make_masking(stage.masking, tokenizer, stage.mask_probability, stage.masking_options)
    whole = load_model(AutoModelForMaskedLM, backbone, tokenizer, stage.max_length, stage.dropout)
    pooler = getattr(load_backbone(backbone, pooler=True), "pooler", None)
    model = PairedLM(MaskedLM(whole), pooler)
    has_types = "token_type_ids" in inspect.signature(model.backbone.forward).parameters
    types = has_types and getattr(whole.config, "type_vocab_size", 0) > 1
    train, valid = (
        PiecePairs(cut_documents(part, tokenizer, room), tokenizer, wrong, types, stage.seed)
        for part in (texts, held_out)
    )

    def measure() -> dict[str, float]:
        return measure_pairs(model, valid, masking, choose_precision())

    def save(folder: Path) -> None:
        state = whole.state_dict()
        if pooler is not None:
            state |= {f"{whole.base_model_prefix}.pooler.{name}": x for name, x in pooler.state_dict().items()}
        with quiet():
            whole.save_pretrained(folder, state_dict=state)

    return Prepared(model, train, masked_cross_entropy, [PairLoss(weight), masking], measure, save)
