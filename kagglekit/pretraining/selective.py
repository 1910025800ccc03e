"""Selective masking: a token classifier learns from a task model which tokens matter (Gu et al., 2020)."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, set_seed

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.data.tokens import Tokens
from kagglekit.device import choose_attention, choose_device, choose_precision, random_state_kept
from kagglekit.files import check_space, read_json, replacing, write_json
from kagglekit.files.arrays import cached_arrays, read_tensors, seal
from kagglekit.model.backbones import load_config, without_pooler
from kagglekit.model.classifier import Classifier
from kagglekit.options import check_range
from kagglekit.pretraining.importance import check_task_model, label_texts, score_tokens, token_budget
from kagglekit.time_budget import UNLIMITED, TimeBudget
from kagglekit.training.callbacks import SaveEvery, ShowProgress, StopInTime, remove_checkpoints
from kagglekit.training.learning_rates import adamw, parameter_groups, suggest_learning_rate
from kagglekit.training.trainer import Trainer, training_arguments


class TokenScorer(nn.Module):
    """A backbone with one logit a token: how likely the token matters to the task. figures: of its training."""

    def __init__(self, backbone: nn.Module, figures: dict[str, float] | None = None):
        super().__init__()
        self.figures = figures or {}
        self.backbone = without_pooler(backbone)
        self.head = nn.Linear(backbone.config.hidden_size, 1)

    def forward(self, input_ids, attention_mask) -> dict[str, torch.Tensor]:
        """logits (batch, tokens)."""
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return {"logits": self.head(states)[..., 0].float()}

    def save(self, folder: Path) -> None:
        """Write weights, configuration and figures to a folder, whole or not at all."""
        with replacing(folder) as part:
            self.backbone.config.save_pretrained(part)
            save_file({name: x.contiguous() for name, x in self.state_dict().items()}, part / "model.safetensors")
            write_json(part / "figures.json", self.figures)
            seal(part)

    @classmethod
    def load(cls, folder: Path) -> "TokenScorer":
        """The scorer that `save` wrote."""
        with random_state_kept():  # new weights are drawn first
            scorer = cls(AutoModel.from_config(load_config(str(folder))), read_json(folder / "figures.json"))
        scorer.load_state_dict(read_tensors(folder / "model.safetensors"))
        return scorer


def importance_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy of logits (batch, tokens) over the labels (batch, as many or more) that are 0 or 1."""
    labels = labels[:, : logits.shape[1]].to(logits.dtype)
    asked = (labels >= 0).to(logits.dtype)
    total = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), weight=asked, reduction="sum")
    return total / asked.sum().clamp(min=1)


def train_token_scorer(
    task_model: Classifier,
    tokens: Tokens,
    tokenizer,
    folder: Path,
    *,
    rule: str = "selective",
    texts: int = 2000,
    threshold: float = 0.05,
    epochs: float = 3.0,
    batch_size: int = 32,
    learning_rate: float | None = None,
    seed: int = 0,
    save_seconds: float = 60.0,
    budget: TimeBudget = UNLIMITED,
) -> TokenScorer:
    """Train a token classifier that finds in one pass the tokens that matter to a task model (Gu et al., 2020).

    task_model: of one fold. tokens: the training rows of that fold alone: the scorer knows what the model knows, so a
    backbone pretrained with it belongs to that fold too. rule, threshold: of `label_texts`. texts: at most so many,
    drawn by `seed`, are labelled, the costly part; a tenth is held out. The scorer starts from the task model's
    backbone. learning_rate: None depends on its size. It goes to `folder/model` with its figures: texts that were used,
    texts that need no word, share of tokens that matters, and ROC AUC on held-out texts (0.5 has learned nothing). A
    training that was stopped, as by OutOfTime when `budget` is over, goes on; a finished one is read back. The random
    state stays as it was. Raises ValueError where the task model or its texts give nothing to learn.
    """
    if (folder / "model" / "figures.json").is_file():
        return TokenScorer.load(folder / "model")
    check_range("rule", rule, rule in ("selective", "entropy"), "selective or entropy")
    check_range("threshold", threshold, 0 <= threshold < 1, "from 0 to below 1")
    check_range("texts", texts, texts > 0, "above 0")
    check_task_model(task_model)
    with random_state_kept():
        set_seed(seed)
        args = training_arguments(
            folder / "checkpoints",
            epochs=epochs,
            batch_size=batch_size,
            precision=choose_precision(),
            seed=seed,
            log_every=1,
        )
        check_space(folder, 8 * 4 * sum(p.numel() for p in task_model.backbone.parameters()))  # as for a stage
        tokens = tokens[np.random.default_rng(seed).permutation(len(tokens))[:texts]]
        labels = _labels_once(task_model, tokens, tokenizer, (rule, threshold), folder / "labels.npz", args.should_save)
        used = np.flatnonzero((labels >= 0).any(axis=1))
        valid, train = used[: len(used) // 10 or 1], used[len(used) // 10 or 1 :]
        if not (labels[train] == 1).any() or not (labels[train] == 0).any():
            raise ValueError(
                f"with threshold={threshold} all tokens that were asked about matter alike, in {len(used)} of "
                f"{len(tokens)} texts (the others need no word for their class): change it, or train the task longer"
            )
        attention = choose_attention(choose_device(), int(tokens.lengths.max()))
        backbone = AutoModel.from_config(task_model.backbone.config, attn_implementation=attention)
        without_pooler(backbone).load_state_dict(task_model.backbone.state_dict())
        scorer = TokenScorer(backbone).to(choose_device())
        rate = learning_rate or suggest_learning_rate(backbone)
        trainer = Trainer(
            scorer,
            args,
            Examples(tokens[train], tokenizer.pad_token_id, labels[train]),
            importance_loss,
            adamw(parameter_groups(scorer, rate)),
            callbacks=[SaveEvery(save_seconds), ShowProgress("scorer"), StopInTime(budget, "scorer")],
        )
        trainer.fit()
        scorer.figures = {
            "texts": len(used),
            "texts that need no word": len(tokens) - len(used),
            "share that matters": float((labels[used] == 1).sum() / (labels[used] >= 0).sum()),
            "roc_auc": measure_scorer(scorer, tokens[valid], labels[valid], tokenizer),
        }
        if args.should_save:
            scorer.save(folder / "model")
            remove_checkpoints(folder / "checkpoints")
            (folder / "labels.npz").unlink()
        trainer.accelerator.wait_for_everyone()
    return TokenScorer.load(folder / "model")  # the one that a later call reads, to the last bit


def _labels_once(model, tokens, tokenizer, rule, file: Path, write: bool) -> np.ndarray:
    """`label_texts`, kept in a file until the scorer is done."""

    def make() -> dict[str, np.ndarray]:
        return {"labels": label_texts(model.to(choose_device()), tokens, tokenizer, *rule)}

    return cached_arrays(file, make, write)["labels"]


@torch.inference_mode()
def measure_scorer(scorer: TokenScorer, tokens: Tokens, labels: np.ndarray, tokenizer) -> float | None:
    """The ROC AUC of a scorer over the labels of all tokens that are 0 or 1; None where all are alike."""
    found, device = np.zeros(labels.shape, dtype=np.float32), next(scorer.parameters()).device
    for rows in prediction_batches(tokens.lengths, token_budget(device)):
        batch = {name: x.to(device) for name, x in tokens[rows].pad(tokenizer.pad_token_id).items()}
        scores = score_tokens(scorer, batch, tokenizer.mask_token_id)
        found[rows, : scores.shape[1]] = scores.cpu().numpy()
    asked = labels >= 0
    return float(roc_auc_score(labels[asked], found[asked])) if np.ptp(labels[asked]) else None
