"""Texts as vectors of a backbone that nothing trains: for probes, and for classifiers on frozen embeddings."""

import numpy as np
import torch

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.data.tokens import Tokens
from kagglekit.model.pooling import make_pooling
from kagglekit.ranges import check_range
from kagglekit.training.hardware import autocast, fast_attention

PLAIN = ("mean", "cls", "max", "mean_max", "last_token", "last4_concat", "last4_max", "all_cls")  # poolings that learn
# nothing; others would make random vectors of good ones


@torch.inference_mode()
def embed(
    backbone: torch.nn.Module, tokens: Tokens, pad_id: int, precision: str = "fp32", pooling: str = "mean"
) -> np.ndarray:
    """A vector for each text, in the order of the texts: (texts, width) float32.

    backbone: an encoder of transformers, on the device where it shall compute; it comes back in the mode (train or
    eval) that it had, and no random number is drawn. precision: see `choose_precision`; poolings compute in float32.
    pooling: one of PLAIN; with some of them the vectors are wider than the backbone.
    Costs a forward pass of all texts, in batches sorted by length. Raises ValueError for another pooling.
    """
    check_range("pooling", pooling, pooling in PLAIN, f"one of {', '.join(PLAIN)}, which need no training")
    pool, examples = make_pooling(pooling, backbone), Examples(tokens, pad_id)
    device, training, vectors = next(backbone.parameters()).device, backbone.training, []
    order = prediction_batches(tokens.lengths, 2048 if device.type == "cpu" else 16384)
    options = {"output_hidden_states": True} if pool.all_layers else {}
    backbone.eval()
    try:
        with fast_attention(backbone, device):
            for rows in order:
                batch = {name: x.to(device, non_blocking=True) for name, x in examples.__getitems__(rows).items()}
                with autocast(device, precision):
                    outputs = backbone(**batch, **options)
                below = outputs.hidden_states[:-1] if pool.all_layers else ()
                states = [state.float() for state in (*below, outputs.last_hidden_state)]
                vectors.append(pool(states, batch["attention_mask"]))  # (batch, width)
    finally:
        backbone.train(training)
    return torch.cat(vectors).cpu().numpy()[np.argsort(np.concatenate(order))]
