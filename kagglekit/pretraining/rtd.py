"""Replaced-token detection: which tokens of a text are not its own? (ELECTRA; Clark et al., 2020, arXiv 2003.10555).

A small masked-language model, the generator, fills hidden places with likely tokens; the backbone, the discriminator,
decides at every place whether the token was replaced. For ELECTRA and DeBERTa-v3, which were pretrained in this way and
come without a masked-language head (He et al., 2021, arXiv 2111.09543).
"""

import math

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForMaskedLM, ElectraConfig, ElectraForPreTraining, PreTrainedModel

from kagglekit.data.batches import Examples
from kagglekit.device import choose_precision
from kagglekit.model.backbones import find_backbone, load_config, load_tokenizer
from kagglekit.options import check_range
from kagglekit.pretraining.masking import Masking
from kagglekit.pretraining.mlm import MaskedLM, evaluate_hidden, masked_cross_entropy, perplexity, read_examples
from kagglekit.pretraining.objective import Prepared, Setup
from kagglekit.tricks.trick import Trick, knob, trick

OPTIONS = {"generator": "", "layers": 0, "sharing": "", "weight": 50.0}
SHARING = {
    "shared": "one table, which learns from both losses (ELECTRA; Clark et al., 2020)",
    "disentangled": "the discriminator's is the generator's, which its loss leaves alone, plus a difference of its own "
    "(DeBERTa-v3; He et al., 2021)",
    "none": "each has its own",
}


def prepare_rtd(setup: Setup) -> Prepared:
    """The generator learns to predict hidden tokens, the backbone to detect its wrong predictions.

    Options. generator: a masked-language model with the backbone's tokens ("google/electra-small-generator"), a folder
    or a name; "" makes one of the lowest layers of the backbone, which is dropped at the end. layers: how many of them;
    0 is a third. sharing of the embeddings, a name of SHARING; "" is "shared" for a generator that is made here, "none"
    for one that is given. weight: 50, of the detection loss beside the generator's.
    Costs the generator's pass beside that of the backbone. Figures: auc of the detection, see `detection_auc`, and
    generator_perplexity. Only the encoder is saved, for ELECTRA with its head.
    Raises ValueError for an option out of range, and a generator with other tokens or sizes.
    """
    path, layers, sharing, weight = setup.options.values()
    config = load_config(setup.backbone)
    depth, width = config.num_hidden_layers, config.hidden_size
    check_range("weight", weight, 0 <= weight < math.inf, "0 or more")
    check_range("layers", layers, 0 <= layers <= depth, f"from 0 to {depth}, the layers of the backbone")
    check_range("sharing", sharing, sharing in ("", *SHARING), f"one of {', '.join(SHARING)}, or empty")
    sharing = sharing or ("none" if path else "shared")
    if path:
        path = _find_generator(path, setup.tokenizer)
    else:
        layers = layers or max(1, round(depth / 3))
    generator = setup.load(AutoModelForMaskedLM, path, layers)
    whole = setup.load(ElectraForPreTraining if isinstance(config, ElectraConfig) else AutoModel)
    tables = share_embeddings(whole, generator, sharing)
    head = getattr(whole, "discriminator_predictions", None)
    head = head or nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
    model, (train, valid) = Detector(whole.base_model, head, MaskedLM(generator)), read_examples(setup)

    def measure() -> dict[str, float]:
        how = (valid, setup.masking, choose_precision())
        return {"auc": detection_auc(model, *how), "generator_perplexity": perplexity(model.generator, *how)}

    tricks = [setup.masking, Detection(weight)]
    return Prepared(model, train, masked_cross_entropy, tricks, measure, whole, lambda: merged(whole, tables))


def _find_generator(name: str, tokenizer) -> str:
    try:
        path = find_backbone(name)
    except OSError as error:
        error.add_note("objective_options: generator names a masked-language model; without it one is made")
        raise
    ours = tokenizer.get_vocab()
    if any(ours.get(token) != number for token, number in load_tokenizer(path).get_vocab().items()):
        raise ValueError(f"generator={path!r} has other tokens than the backbone: name another one, or none")
    return path


class Detector(nn.Module):
    """A backbone with a head that detects replaced tokens, and the generator that replaces them."""

    def __init__(self, backbone: nn.Module, head: nn.Module, generator: MaskedLM):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.generator = generator

    def forward(self, input_ids, attention_mask, chosen) -> dict[str, torch.Tensor]:
        """logits: of the generator at the `chosen` places (chosen, vocabulary). drawn: the tokens put there (chosen,).
        scores: (batch, tokens), above 0 where a token looks replaced."""
        logits = self.generator(input_ids, attention_mask, chosen)["logits"]
        drawn = draw_tokens(logits.detach())
        seen = input_ids.masked_scatter(chosen, drawn)
        states = self.backbone(input_ids=seen, attention_mask=attention_mask).last_hidden_state
        return {"logits": logits, "drawn": drawn, "scores": self.head(states).squeeze(-1).float()}


def draw_tokens(logits: torch.Tensor) -> torch.Tensor:
    """A token for each row of logits (rows, vocabulary), drawn by its probability: (rows,) int64.

    By the Gumbel trick; uses the global generator of random numbers.
    """
    noise = -torch.empty_like(logits, dtype=torch.float32).exponential_().log()
    return (logits.float() + noise).argmax(dim=-1)


def mark_replaced(chosen: torch.Tensor, drawn: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1.0 where a token is not the text's own, (batch, tokens); a right guess of the generator replaces nothing.

    drawn, labels: the tokens now and before at the `chosen` places.
    """
    return torch.zeros(chosen.shape, device=chosen.device).masked_scatter(chosen, (drawn != labels).float())


def detection_loss(scores: torch.Tensor, replaced: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean binary cross entropy over real tokens, all (batch, tokens); mask: 1 for real tokens."""
    losses = F.binary_cross_entropy_with_logits(scores, replaced, reduction="none")
    return (losses * mask).sum() / mask.sum().clamp_min(1)


@trick
class Detection(Trick):
    """Adds `weight` times the loss of the discriminator to that of the generator."""

    mean = ("detection_", "mean detection loss")
    detection_ = 0.0  # sum over the steps

    weight: float = knob(50.0, "50 in the paper; 0 leaves the discriminator out", least=0)

    def compute_loss(self, compute, model, inputs):
        loss, outputs = compute(inputs)
        replaced = mark_replaced(inputs["chosen"], outputs["drawn"], inputs["labels"])
        detection = detection_loss(outputs["scores"], replaced, inputs["attention_mask"])
        self.steps_ += 1
        self.detection_ = self.detection_ + detection.detach()
        return loss + self.weight * detection, outputs


def detection_auc(model: Detector, examples: Examples, masking: Masking, precision: str, seed: int = 0) -> float:
    """ROC AUC of replaced against kept tokens over all real tokens; 0.5 is chance, NaN where none was replaced.

    The same tokens are hidden and drawn at every call with the same seed and weights.
    """

    def compare(batch, outputs):
        replaced = mark_replaced(batch["chosen"], outputs["drawn"], batch["labels"])
        return [x[batch["attention_mask"].bool()].cpu() for x in (replaced, outputs["scores"])]

    found = evaluate_hidden(model, examples, masking, precision, compare, seed)
    truth, scores = map(torch.cat, zip(*found, strict=True))
    return float(roc_auc_score(truth, scores)) if 0 < truth.sum() < len(truth) else math.nan


def find_tables(backbone: nn.Module) -> dict[str, nn.Embedding]:
    """The word embeddings and the tables beside them (positions, types), by their names in the backbone."""
    words = backbone.get_input_embeddings()
    place = next(name for name, module in backbone.named_modules() if module is words).rpartition(".")[0]
    inside = backbone.get_submodule(place) if place else backbone
    found = {name: module for name, module in inside.named_children() if isinstance(module, nn.Embedding)}
    return {f"{place}.{name}".lstrip("."): module for name, module in found.items()}


def share_embeddings(
    discriminator: PreTrainedModel, generator: PreTrainedModel, sharing: str
) -> list[tuple[nn.Embedding, nn.Embedding]]:
    """Let two models share their embedding tables, as `sharing`, a name of SHARING, says.

    Where both had equal tables, neither model computes anything else than before; with "shared" the generator takes
    those of the discriminator. With "disentangled" the discriminator's modules hold the differences, 0 for equal
    tables, and add the generator's tables, without a gradient for them. Returns the pairs (discriminator's,
    generator's) of such tables, for `merged`; none with the other two. Raises ValueError for tables of different sizes.
    """
    if sharing == "none":
        return []
    ours, theirs = find_tables(discriminator.base_model), find_tables(generator.base_model)
    if any(name not in theirs or ours[name].weight.shape != theirs[name].weight.shape for name in ours):
        raise ValueError(f"sharing={sharing!r}: the generator's embeddings have other sizes. Use sharing='none'")
    if sharing == "shared":
        for name, table in ours.items():
            theirs[name].weight = table.weight
        generator.tie_weights()
        return []
    pairs = [(table, theirs[name]) for name, table in ours.items()]
    for table, base in pairs:
        table.weight = nn.Parameter(table.weight.detach() - base.weight.detach())
        table.register_forward_hook(_adding(base))
    return pairs


def _adding(base: nn.Embedding):
    return lambda module, inputs, output: output + F.embedding(inputs[0], base.weight.detach())


def merged(discriminator: PreTrainedModel, tables: list[tuple[nn.Embedding, nn.Embedding]]) -> dict[str, torch.Tensor]:
    """The weights of a discriminator as those of a model that shares nothing. tables: from `share_embeddings`."""
    state, names = discriminator.state_dict(), {module: name for name, module in discriminator.named_modules()}
    sums = {f"{names[table]}.weight": table.weight.detach() + base.weight.detach() for table, base in tables}
    return state | sums
