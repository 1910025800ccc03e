"""A backbone, a pooling and a linear head."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel

from kagglekit.metrics import CLASSES
from kagglekit.model.backbones import without_pooler
from kagglekit.model.pooling import POOLINGS
from kagglekit.paths import read_json, replacing, write_json
from kagglekit.reading.checks import KINDS


class Classifier(nn.Module):
    """Text in, one logit per class, label or target out.

    kind: of the task; it says how logits are read (`predictions`). outputs: classes, labels or targets. pooling: a
    name of POOLINGS. head_dropout: before the head, in training.
    Buffers center and scale (outputs,), 0 and 1 at first: for regression and ordinal, the mean and standard deviation
    of the targets. The model learns standardised targets, `(target - center) / scale`; `predictions` turns them back.
    """

    def __init__(self, backbone: nn.Module, kind: str, outputs: int, pooling: str = "mean", head_dropout: float = 0.0):
        super().__init__()
        if kind not in KINDS or pooling not in POOLINGS:
            raise ValueError(
                f"kind={kind!r} must be one of {', '.join(KINDS)}, pooling={pooling!r} one of {', '.join(POOLINGS)}"
            )
        self.kind = kind
        self.backbone = backbone
        self.pooling = POOLINGS[pooling](backbone.config.hidden_size)
        self.dropout = nn.Dropout(head_dropout)
        self.head = nn.Linear(self.pooling.width, outputs)
        self.register_buffer("center", torch.zeros(outputs))
        self.register_buffer("scale", torch.ones(outputs))
        self.options = {"kind": kind, "outputs": outputs, "pooling": pooling, "head_dropout": head_dropout}
        with torch.no_grad():
            self.head.weight.normal_(std=0.02)
            self.head.bias.zero_()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings, as in transformers."""
        return self.backbone.get_input_embeddings()

    def forward(self, attention_mask: torch.Tensor, **inputs) -> dict[str, torch.Tensor]:
        """`input_ids` or `inputs_embeds` and `attention_mask`, (batch, tokens) -> {"logits": (batch, outputs)}."""
        hidden = self.backbone(attention_mask=attention_mask, **inputs).last_hidden_state
        pooled = self.pooling(hidden, attention_mask)  # (batch, width)
        return {"logits": self.head(self.dropout(pooled)).float()}

    def predictions(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (rows, outputs) as the numbers of a predictions table, float32: probabilities, or targets' values."""
        logits = logits.float()
        if self.kind in CLASSES:
            return logits.softmax(dim=-1)
        return logits.sigmoid() if self.kind == "multilabel" else logits * self.scale + self.center

    def save(self, folder: Path, tokenizer=None) -> None:
        """Write weights (safetensors), configuration and tokenizer to a folder, whole or not at all."""
        with replacing(folder) as part:
            self.backbone.config.save_pretrained(part)
            save_file({k: v.contiguous() for k, v in self.state_dict().items()}, part / "model.safetensors")
            write_json(part / "classifier.json", self.options)
            if tokenizer is not None:
                tokenizer.save_pretrained(part)

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        """The model that `save` wrote."""
        backbone = without_pooler(AutoModel.from_config(AutoConfig.from_pretrained(folder)))
        model = cls(backbone, **read_json(folder / "classifier.json"))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model
