"""Which tokens matter to a task: labels and scores by a task model, from what it predicts without them."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from kagglekit.data.batches import prediction_batches
from kagglekit.data.tokens import Tokens
from kagglekit.device import autocast, choose_precision
from kagglekit.model.classifier import Classifier
from kagglekit.progress import Progress

DISTRIBUTIONS = {  # link -> logits to distributions, (batch, distributions, values); the last dimension sums to 1
    "softmax": lambda logits: logits.softmax(dim=-1)[:, None],
    "expectation": lambda logits: logits.softmax(dim=-1)[:, None],
    "sigmoid": lambda logits: _yes_and_no(logits.sigmoid()),
    "cumulative": lambda logits: _yes_and_no(logits.sigmoid()),
    "corn": lambda logits: _yes_and_no(F.logsigmoid(logits).cumsum(dim=-1).exp()),
}


def _yes_and_no(probs: torch.Tensor) -> torch.Tensor:
    return torch.stack([1 - probs, probs], dim=-1)


def _predict(model: Classifier, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The distributions of a task model for each text (batch, distributions, values); ids, mask: (batch, tokens)."""
    logits = model(mask.long(), input_ids=ids)["logits"][:, : len(model.center)].float()
    return DISTRIBUTIONS[model.link](logits)


def check_task_model(model: Classifier) -> None:
    """Raise ValueError for a task model that cannot score tokens: of values, or one that reads more than text."""
    if model.link not in DISTRIBUTIONS:
        raise ValueError(
            f"the task model predicts values ({model.link}): only a model of classes or labels scores tokens"
        )
    if model.features is not None or model.embedded_vectors is not None or model.options["pooling"] == "mask":
        raise ValueError("the task model reads more than the text: take a run without features, vectors and a pattern")


def choose_best(scores: torch.Tensor, maskable: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """The `counts` (batch,) maskable tokens of each row with the highest scores (batch, tokens), as bool."""
    order = scores.masked_fill(~maskable, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return maskable & (order.argsort(dim=1) < counts[:, None])


@torch.inference_mode()
def label_important(
    model: Classifier, ids: torch.Tensor, mask: torch.Tensor, maskable: torch.Tensor, threshold: float = 0.05
) -> torch.Tensor:
    """Which tokens matter to the task: 1, or 0, and -1 where nothing is asked (batch, tokens), int8 (Gu et al., 2020).

    ids, mask, maskable: (batch, tokens). Tokens go into a buffer one after the other. A token matters if with it the
    buffer predicts as the whole text does, P(y | buffer with it) > P(y | text) - threshold; it is then taken out again.
    y is the prediction for the whole text; for several labels their product counts. threshold: 0 asks for more
    certainty than the text gives, 0.05 is the paper's, and the higher, the more tokens matter. A text whose y needs no
    word at all, of the model's default class, would make every token important (at 1 all texts would): it is all -1.
    Costs a forward pass for each token of the longest text, with the tokens before it.
    """

    def confidence(rows: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """P(y) of some rows when they have only the tokens that are `kept` (rows, tokens)."""
        order = (~kept).long().argsort(dim=1, stable=True)[:, : max(1, int(kept.sum(dim=1).max()))]
        probs = _predict(model, ids[rows].gather(1, order), kept.gather(1, order))
        return probs.gather(2, said[rows]).prod(dim=1)[:, 0]  # (rows,)

    everything = torch.arange(len(ids), device=ids.device)
    probs = _predict(model, ids, mask)
    said = probs.argmax(dim=2, keepdim=True)  # (batch, distributions, 1)
    enough = probs.gather(2, said).prod(dim=1)[:, 0] - threshold  # (batch,)
    buffer = mask.bool() & ~maskable  # special tokens are always there
    asked = maskable & (confidence(everything, buffer) <= enough)[:, None]
    labels = torch.full(ids.shape, -1, dtype=torch.int8, device=ids.device)
    for place in range(ids.shape[1]):
        rows = torch.nonzero(asked[:, place])[:, 0]
        if len(rows):
            buffer[rows, place] = True
            important = confidence(rows, buffer[rows]) > enough[rows]
            buffer[rows, place] = ~important
            labels[rows, place] = important.to(torch.int8)
    return labels


@torch.inference_mode()
def label_moving(changes: torch.Tensor, maskable: torch.Tensor, share: float = 0.15) -> torch.Tensor:
    """1 for the `share` of the maskable tokens of each text, rounded up, with the largest changes, 0 for the others of
    them, and -1 elsewhere; all (batch, tokens), labels int8."""
    counts = (maskable.sum(dim=1) * share).ceil()
    return choose_best(changes, maskable, counts).to(torch.int8).masked_fill(~maskable, -1)


def label_texts(
    model: Classifier, tokens: Tokens, tokenizer, rule: str = "selective", threshold: float = 0.05
) -> np.ndarray:
    """Labels of the tokens that matter in many texts, (texts, longest) int8; the model's mode stays as it was.

    rule: "selective" is `label_important` with `threshold`; "entropy" is `label_moving` of `EntropyScorer.changes`.
    """
    device, training = next(model.parameters()).device, model.training
    entropy = EntropyScorer(model, tokenizer.mask_token_id, tokenizer.all_special_ids)
    labels = np.full((len(tokens), int(tokens.lengths.max())), -1, dtype=np.int8)
    special = torch.tensor(tokenizer.all_special_ids, device=device)
    model.eval()
    try:
        with autocast(device, choose_precision()), Progress("what matters", len(tokens), "text") as progress:
            for rows in prediction_batches(tokens.lengths, token_budget(device)):
                batch = {name: x.to(device) for name, x in tokens[rows].pad(tokenizer.pad_token_id).items()}
                mask = batch["attention_mask"].bool()
                maskable = mask & ~torch.isin(batch["input_ids"], special)
                if rule == "entropy":
                    found = label_moving(entropy.changes(batch["input_ids"], mask), maskable)
                else:
                    found = label_important(model, batch["input_ids"], mask, maskable, threshold)
                labels[rows, : found.shape[1]] = found.cpu().numpy()
                progress.update(progress.steps.done + len(rows))
    finally:
        model.train(training)
    return labels


class EntropyScorer(nn.Module):
    """Scores a token by the change of a task model's entropy when it is hidden: an idea from practice, without a paper.

    The score is the logarithm of that change, up or down, in nats; entropies of several labels add up. The first time,
    a text costs as many passes as it has tokens; then its scores are cached, 4 bytes a token. For much text, train a
    `TokenScorer` on them.
    """

    def __init__(self, model: Classifier, mask_id: int, special_ids):
        super().__init__()
        check_task_model(model)
        self.model, self.mask_id, self.special_ids = model, mask_id, list(special_ids)
        self.cached_: dict[bytes, torch.Tensor] = {}  # the ids of a text -> the score of each

    @property
    def backbone(self) -> nn.Module:
        return self.model.backbone

    def forward(self, input_ids, attention_mask) -> dict[str, torch.Tensor]:
        """logits (batch, tokens): the scores; far below all others for special tokens, 0 for padding."""
        mask = attention_mask.bool()
        keys = [row[kept].tobytes() for row, kept in zip(input_ids.cpu().numpy(), mask.cpu().numpy(), strict=True)]
        new = [row for row, key in enumerate(keys) if key not in self.cached_]
        if new:
            scores = (self.changes(input_ids[new], mask[new]) + 1e-12).log().cpu()
            self.cached_ |= {keys[row]: score[mask[row].cpu()] for row, score in zip(new, scores, strict=True)}
        logits = torch.zeros(mask.shape, device=mask.device)
        logits[mask] = torch.cat([self.cached_[key] for key in keys]).to(mask.device)
        return {"logits": logits}

    @torch.no_grad()
    def changes(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The change of the entropy, without its sign, for each token (batch, tokens); 0 for special tokens."""
        changes, before = torch.zeros(ids.shape, device=ids.device), self._entropy(ids, mask)
        special = torch.tensor(self.special_ids, device=ids.device)
        places = torch.nonzero(mask & ~torch.isin(ids, special))  # (tokens to hide, 2)
        for rows, columns in (part.T for part in places.split(max(1, token_budget(ids.device) // ids.shape[1]))):
            hidden = ids[rows].scatter(1, columns[:, None], self.mask_id)
            changes[rows, columns] = (self._entropy(hidden, mask[rows]) - before[rows]).abs()
        return changes

    def _entropy(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with autocast(ids.device, "fp32"):  # bf16 moves the entropy more than many a token does
            return torch.special.entr(_predict(self.model, ids, mask)).sum(dim=(1, 2))  # (batch,)


@torch.no_grad()
def score_tokens(scorer: nn.Module, inputs: dict[str, torch.Tensor], mask_id: int) -> torch.Tensor:
    """The scores of each token by `scorer`, (batch, tokens) float32, in eval mode; its mode stays as it was.

    It reads tokens that were added later, for which it has no embedding, as `mask_id`.
    """
    ids, training = inputs["input_ids"], scorer.training
    ids = ids.where(ids < len(scorer.backbone.get_input_embeddings().weight), mask_id)
    scorer.to(ids.device).eval()
    try:
        with autocast(ids.device, choose_precision(ids.device)):
            return scorer(ids, inputs["attention_mask"])["logits"].float()
    finally:
        scorer.train(training)


def token_budget(device: torch.device) -> int:
    """Padded tokens of a batch in prediction."""
    return 2048 if device.type == "cpu" else 32768
