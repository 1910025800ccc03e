"""Features in the model: columns, one vector per document, one vector per token.

They are joined to the text vector before the head, or added to the word embeddings. What is added starts at zero, so
that the model starts as the one without it.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

GAIN = 10.0  # of features over text at first: the head, which learns at the rate of the backbone, then follows them


class FeatureEncoder(nn.Module):
    """Columns and document vectors as one vector (batch, width), to be joined to the text vector (Ostendorff et al.,
    2019, arXiv 1909.08402).

    numbers: how many standardised numbers a row has. categories: how many codes each categorical column has, with 0 for
    unknown or missing; `Features.sizes` gives both. vectors: width of the document vectors. 0 and () leave a kind out.
    width: a narrow one (8 to 64) keeps the text in charge, a wide one memorises.
    A category becomes a learned vector (Guo and Berkhahn, 2016, arXiv 1604.06737), of fastai's rule-of-thumb width
    1.6 n^0.56, at most 600; that of code 0 starts at zero. A linear layer mixes all parts, LayerNorm brings the result
    to GAIN times the scale of text vectors, and GELU lets the head see more than sums. It learns at a rate of its own,
    see `parameter_groups`. Cost: next to nothing.
    """

    def __init__(self, numbers: int = 0, categories: Sequence[int] = (), vectors: int = 0, width: int = 32):
        super().__init__()
        if not (numbers or categories or vectors):
            raise ValueError("there are no features: name columns of numbers or categories, or give vectors")
        self.given = [
            name for name, there in (("numbers", numbers), ("categories", categories), ("vectors", vectors)) if there
        ]
        self.width = width
        self.categories = nn.ModuleList(nn.Embedding(size, min(600, round(1.6 * size**0.56))) for size in categories)
        for embedding in self.categories:
            nn.init.normal_(embedding.weight, std=0.02)
            nn.init.zeros_(embedding.weight[0])
        inside = numbers + sum(embedding.embedding_dim for embedding in self.categories) + vectors
        self.mix = nn.Sequential(nn.Linear(inside, width), nn.LayerNorm(width), nn.GELU())
        nn.init.constant_(self.mix[1].weight, GAIN)

    def forward(
        self,
        numbers: torch.Tensor | None = None,
        categories: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """numbers (batch, numbers), categories (batch, columns) int64 and vectors (batch, width of vectors), those that
        the encoder was built for. Raises ValueError when one of them is missing."""
        batch = {"numbers": numbers, "categories": categories, "vectors": vectors}
        missing = [name for name in self.given if batch[name] is None]
        if missing:
            raise ValueError(f"the model reads the feature {missing[0]!r}, and the batch has none")
        parts = [batch[name] for name in self.given if name != "categories"]
        parts += [embedding(categories[:, k]) for k, embedding in enumerate(self.categories)]
        return self.mix(torch.cat(parts, dim=-1))  # (batch, width)


class WordVectors(nn.Module):
    """A vector per token from a word-vector file, to be added to the word embeddings or joined as their mean.

    table: (vocabulary, width), as `read_word_vectors` gives it, zero for tokens without one; it is saved with the model
    and never trained. hidden: width of the word embeddings, for a trained projection that starts at zero; 0 for no
    projection, where only `mean` is used (a parameter without a gradient would stop DDP).
    External vectors mapped linearly to the embedding layer: Poerner et al. (2020, arXiv 1911.03681), for entities.
    Cost: the table in memory, and a small product a token.
    """

    def __init__(self, table: torch.Tensor, hidden: int = 0):
        super().__init__()
        self.width = table.shape[1]
        self.register_buffer("table", table.clone().float())
        self.projection = zero_linear(self.width, hidden) if hidden else None

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Projected vectors (batch, tokens, hidden) of `input_ids` (batch, tokens), to be added to word embeddings."""
        return self.projection(F.embedding(input_ids, self.table))

    def mean(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The mean over the real tokens that have a vector, (batch, width); zero for a text that has none.

        input_ids, attention_mask: (batch, tokens), or (batch, chunks, tokens) for texts in chunks.
        """
        vectors = F.embedding(input_ids.flatten(1), self.table)  # (batch, tokens, width)
        known = (vectors != 0).any(dim=-1) & (attention_mask.flatten(1) != 0)  # (batch, tokens)
        return (vectors * known.unsqueeze(-1)).sum(dim=1) / known.sum(dim=1, keepdim=True).clamp_min(1)


class DocumentVectors(nn.Module):
    """One vector per document, added to the word embedding of each of its tokens.

    vectors: their width. hidden: width of the word embeddings, for a trained projection that starts at zero.
    """

    def __init__(self, vectors: int, hidden: int):
        super().__init__()
        self.projection = zero_linear(vectors, hidden)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(batch, width) -> (batch, 1, hidden), to be added to (batch, tokens, hidden)."""
        return self.projection(vectors).unsqueeze(1)


def zero_linear(inside: int, outside: int) -> nn.Linear:
    """A projection that starts at zero, with a gradient from the first step on; it uses no random number."""
    linear = nn.utils.skip_init(nn.Linear, inside, outside, bias=False)
    nn.init.zeros_(linear.weight)
    return linear
