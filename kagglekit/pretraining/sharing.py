"""What the generator and the discriminator of replaced-token detection have in common: the embeddings."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

SHARING = {
    "shared": "one table, which learns from both losses (ELECTRA; Clark et al., 2020)",
    "disentangled": "the discriminator's is the generator's, which its loss leaves alone, plus a difference of its own "
    "(DeBERTa-v3; He et al., 2021)",
    "none": "each has its own",
}


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
    """Let two models have their embedding tables in common, as `sharing`, a name of SHARING, says.

    What either model computes stays the same where both had equal tables; with "shared" the generator takes those of
    the discriminator. With "disentangled" the discriminator's modules hold the differences, which begin at 0 for equal
    tables, and add the generator's tables, without a gradient for them. Returns (discriminator's, generator's) tables
    of which that is so, for `merged`; none with the other two.
    Raises ValueError for tables of different sizes.
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
    def add(module, inputs, output):
        return output + F.embedding(inputs[0], base.weight.detach())

    return add


def merged(discriminator: PreTrainedModel, tables: list[tuple[nn.Embedding, nn.Embedding]]) -> dict[str, torch.Tensor]:
    """The weights of a discriminator as those of a model that shares nothing. tables: of `share_embeddings`."""
    state, names = discriminator.state_dict(), {module: name for name, module in discriminator.named_modules()}
    sums = {f"{names[table]}.weight": table.weight.detach() + base.weight.detach() for table, base in tables}
    return state | sums
