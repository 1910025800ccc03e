"""Predictions in batches sorted by length, in the order of the rows."""

import numpy as np
import torch

from kagglekit.data.batches import Examples, prediction_batches
from kagglekit.training.hardware import autocast, fast_attention


@torch.inference_mode()
def predict(model: torch.nn.Module, examples: Examples, precision: str, tokens: int | None = None) -> np.ndarray:
    """What `model.predictions` makes of each example: (rows, outputs) float32.

    tokens: padded tokens of a batch; None is 2,048 on a CPU, where more only costs cache, and 16,384 elsewhere. The
    model comes back in the mode (train or eval) it had.
    """
    device = next(model.parameters()).device
    tokens = tokens or (2048 if device.type == "cpu" else 16384)
    training, results, order = model.training, [], prediction_batches(examples.tokens.lengths, tokens)
    model.eval()
    try:
        with fast_attention(model.backbone, device), autocast(device, precision):
            for rows in order:
                batch = {name: x.to(device, non_blocking=True) for name, x in examples.__getitems__(rows).items()}
                batch.pop("labels", None)
                results.append(model.predictions(model(**batch)["logits"]))
    finally:
        model.train(training)
    predictions = torch.cat(results).cpu().numpy()
    return predictions[np.argsort(np.concatenate(order))]
