"""Masked-language pretraining on the competition's own text (in-task; Sun et al., 2019, arXiv 1905.05583)."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForMaskedLM, set_seed

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.data.tokens import chunk, tokenize
from kagglekit.model.backbones import check_max_length, load_config, load_tokenizer, quiet
from kagglekit.optim import adamw, parameter_groups, suggest_learning_rate
from kagglekit.paths import check_space, read_json, replacing, write_json
from kagglekit.pretraining.masking import DynamicMasking
from kagglekit.ranges import check_range
from kagglekit.training.arguments import training_arguments
from kagglekit.training.callbacks import SaveEvery, ShowProgress
from kagglekit.training.hardware import autocast, choose_attention, choose_device, choose_precision, keep_memory
from kagglekit.training.trainer import Trainer, history, remove_checkpoints


class MaskedLM(nn.Module):
    """A masked-language model whose head sees the chosen tokens only: a seventh of the work over a large vocabulary."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.backbone.register_forward_hook(self._keep_chosen)

    @property
    def backbone(self) -> nn.Module:
        return self.model.base_model

    def _keep_chosen(self, module, args, output):
        kept = output["last_hidden_state"][self._chosen]  # (chosen, width)
        self._count = len(kept)
        kept = F.pad(kept, (0, 0, 0, -len(kept) % 128))  # few shapes: oneDNN keeps a kernel, and memory, for each
        output["last_hidden_state"] = kept[None]
        return output

    def forward(self, input_ids, attention_mask, chosen) -> dict[str, torch.Tensor]:
        """Logits of the `chosen` (batch, tokens) positions: (chosen, vocabulary)."""
        self._chosen = chosen
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits[0]
        return {"logits": logits[: self._count]}


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the chosen tokens; 0 for a batch in which none was chosen."""
    return F.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)


@torch.inference_mode()
def perplexity(model: MaskedLM, examples: Examples, masking: DynamicMasking, precision: str, seed: int = 0) -> float:
    """exp of the mean loss on the hidden tokens of `examples`, the same ones at every call with the same seed."""
    device, loss, count = next(model.parameters()).device, 0.0, 0
    training = model.training
    model.eval()
    with torch.random.fork_rng(), autocast(device, precision):
        torch.manual_seed(seed)
        for rows in prediction_batches(examples.tokens.lengths, 4096):
            batch = masking.hide({name: tensor.to(device) for name, tensor in examples.__getitems__(rows).items()})
            labels = batch.pop("labels")
            loss += float(F.cross_entropy(model(**batch)["logits"].float(), labels, reduction="sum"))
            count += len(labels)
    model.train(training)
    return math.exp(loss / count) if count else math.nan


@dataclass
class Pretrained:
    """What pretraining did: perplexity on held-out text before and after, how many tokens, and the loss by step."""

    before: float
    after: float
    tokens: int
    history: list[dict[str, float]]

    def table(self) -> pd.DataFrame:
        """The loss by step."""
        return pd.DataFrame(self.history).assign(fold=0)


def pretrain_mlm(
    texts: Sequence[str],
    backbone: str,
    folder: Path,
    *,
    epochs: float = 1.0,
    max_length: int = 256,
    batch_size: int = 16,
    learning_rate: float | None = None,
    probability: float = 0.15,
    dropout: float | None = 0.0,
    held_out: float = 0.05,
    seed: int = 0,
    save_seconds: float = 60.0,
) -> Pretrained:
    """Go on pretraining `backbone` on `texts` with dynamic masking; the model goes to `folder/model`.

    Whole texts are read, in pieces of `max_length` tokens; equal texts once. A share `held_out` of the texts is not
    trained on and gives the perplexities. A run that was cut off goes on from its last checkpoint; one that is done,
    with `folder/pretraining.json` as the last thing written, is read back.
    """
    if (folder / "pretraining.json").is_file():
        return Pretrained(**read_json(folder / "pretraining.json"))
    check_range("epochs", epochs, epochs > 0, "above 0")
    check_range("batch_size", batch_size, batch_size > 0, "above 0")
    check_max_length(backbone, max_length)
    check_range("learning_rate", learning_rate, learning_rate is None or 0 < learning_rate < 1, "above 0 and below 1")
    check_range("mask_probability", probability, 0 < probability < 1, "above 0 and below 1")
    check_range("held_out", held_out, 0 < held_out < 1, "above 0 and below 1")
    keep_memory()
    set_seed(seed)
    tokenizer = load_tokenizer(backbone)
    if tokenizer.mask_token_id is None:
        raise ValueError(f"backbone {backbone} has no mask token: it cannot be pretrained by masking")
    with quiet():
        model = AutoModelForMaskedLM.from_pretrained(
            backbone,
            config=load_config(backbone, dropout),
            dtype=torch.float32,
            attn_implementation=choose_attention(choose_device(), max_length),
        )
    check_space(folder, 8 * 4 * sum(p.numel() for p in model.parameters()))
    unique = np.array(sorted({text for text in texts if text.strip()}), dtype=object)
    unique = unique[np.random.default_rng(seed).permutation(len(unique))]
    if len(unique) < 2:
        raise ValueError("pretraining needs at least two different texts: one to train on and one to measure with")
    n_held_out = max(1, round(held_out * len(unique)))
    whole = tokenize(unique, tokenizer, 1_000_000)
    valid, train = (
        Examples(chunk(whole[rows], tokenizer, max_length), tokenizer.pad_token_id)
        for rows in (np.arange(n_held_out), np.arange(n_held_out, len(unique)))
    )
    masked, precision = MaskedLM(model), choose_precision()
    masked.to(choose_device())
    masking = DynamicMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids, probability)
    before = perplexity(masked, valid, masking, precision)
    steps = math.ceil(len(train) / batch_size * epochs)
    trainer = Trainer(
        masked,
        training_arguments(
            folder / "checkpoints",
            epochs=epochs,
            batch_size=batch_size,
            precision=precision,
            seed=seed,
            log_every=max(1, steps // 40),
        ),
        train,
        masked_cross_entropy,
        adamw(parameter_groups(masked, learning_rate or suggest_learning_rate(model))),
        [masking],
        callbacks=[SaveEvery(save_seconds), ShowProgress("mlm")],
    )
    trainer.fit()
    after = perplexity(masked, valid, masking, precision)
    with replacing(folder / "model") as part, quiet():
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)
    remove_checkpoints(folder / "checkpoints")
    result = Pretrained(before, after, int(train.tokens.lengths.sum()), history(trainer.state.log_history))
    write_json(folder / "pretraining.json", asdict(result))
    return result


def show_masking(
    texts: Sequence[str], backbone: str, probability: float = 0.15, seed: int = 0, n: int = 48
) -> pd.DataFrame:
    """The first `n` tokens of each text as a model in training sees them: chosen ones as [token -> what is shown]."""
    tokenizer, rows = load_tokenizer(backbone), []
    masking = DynamicMasking(tokenizer.mask_token_id, len(tokenizer), tokenizer.all_special_ids, probability)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for text in texts:
            ids = tokenize([text], tokenizer, n).pad(tokenizer.pad_token_id)["input_ids"]
            seen = masking.hide({"input_ids": ids})
            was, now = (tokenizer.convert_ids_to_tokens(x[0].tolist()) for x in (ids, seen["input_ids"]))
            marked = [f"[{a} -> {b}]" if c else a for a, b, c in zip(was, now, seen["chosen"][0], strict=True)]
            rows.append(" ".join(marked))
    return pd.DataFrame({"as the model sees it": rows})
