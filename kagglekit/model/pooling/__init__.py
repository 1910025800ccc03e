"""Poolings, from token vectors to one text vector: POOLINGS lists them, make_pooling builds one for a backbone.

`Pooling` (over_tokens.py) says what they share. Those of over_tokens.py and over_sequence.py read the last layer, those
of over_layers.py several.
"""

from collections.abc import Sequence

from torch import nn

from kagglekit.decoders.causal import is_causal
from kagglekit.model.pooling.over_layers import (
    AllCLS,
    AllCLSCNN,
    AllCLSGRU,
    AllCLSLSTM,
    Last4Concat,
    Last4Max,
    Last4Pooler,
    WeightedLayers,
)
from kagglekit.model.pooling.over_sequence import GRU, LSTM, Transformer, Transformer2
from kagglekit.model.pooling.over_tokens import (
    CLS,
    Attention,
    GeM,
    LastToken,
    Mask,
    Max,
    Mean,
    MeanMax,
    OwnPooler,
    Pooling,
)

POOLINGS: dict[str, type[Pooling]] = {
    "cls": CLS,
    "mean": Mean,
    "max": Max,
    "attention": Attention,
    "mean_max": MeanMax,
    "gem": GeM,
    "last_token": LastToken,
    "mask": Mask,
    "pooler": OwnPooler,
    "weighted_layers": WeightedLayers,
    "last4_concat": Last4Concat,
    "last4_max": Last4Max,
    "last4_pooler": Last4Pooler,
    "all_cls": AllCLS,
    "all_cls_cnn": AllCLSCNN,
    "all_cls_lstm": AllCLSLSTM,
    "all_cls_gru": AllCLSGRU,
    "lstm": LSTM,
    "gru": GRU,
    "transformer": Transformer,
    "transformer2": Transformer2,
}


def choose_pooling(name: str, config) -> str:
    """The pooling that `name` asks for, of a backbone with that configuration: "auto" is "mean", of a decoder
    "last_token". Raises ValueError for one that reads the first token of a decoder, which has read nothing else."""
    causal = is_causal(config)
    if name == "auto":
        return "last_token" if causal else "mean"
    if causal and name in POOLINGS and POOLINGS[name].reads_first:
        raise ValueError(
            f"pooling={name!r} reads the first token, and in a decoder ({config.model_type}) that has read no other: "
            "use last_token, which has read them all, or mean, max, mean_max, attention, gem, weighted_layers"
        )
    return name


def make_pooling(name: str, backbone: nn.Module, places: Sequence[int] | None = None) -> Pooling:
    """Build the pooling of that name for a backbone of transformers.

    A pooling that uses the backbone's own pooler takes the module: `backbone.pooler` is None afterwards. places: of the
    masks, for "mask".
    Raises ValueError for an unknown name, and for a backbone without a pooler when the pooling needs it.
    """
    if name not in POOLINGS:
        raise ValueError(f"pooling={name!r} must be one of {', '.join(POOLINGS)}")
    kind, pooler = POOLINGS[name], getattr(backbone, "pooler", None)
    if kind.own_pooler and pooler is None:
        others = ", ".join(other for other, without in POOLINGS.items() if not without.own_pooler)
        raise ValueError(f"pooling={name!r}: {type(backbone).__name__} has no pooler of its own; use one of {others}")
    config = backbone.config  # not the module tree: ALBERT repeats its layers
    options = {"places": places} if kind is Mask and places else {}
    pooling = kind(config.hidden_size, config.num_hidden_layers, pooler, **options)
    if kind.own_pooler:
        backbone.pooler = None
    return pooling
