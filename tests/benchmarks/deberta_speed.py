"""Training steps of DeBERTa-v3 with the attention of kagglekit against that of transformers, time and memory.

`python -m tests.benchmarks.deberta_speed` from the root of the repository prints a table for the README. The shapes and
the vocabulary are those of the published models, weights are random: a step takes as long. Forward and backward pass,
clipping and AdamW as in training, one system after the other on the same model, in interleaved rounds.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from transformers import DebertaV2Config, DebertaV2Model
from transformers.models.deberta_v2 import modeling_deberta_v2 as deberta

from kagglekit.device import autocast, choose_device, choose_precision, keep_memory
from kagglekit.model import deberta_attention
from tests.benchmarks.step_cost import Memory, now

SHAPES = {  # of deberta-v3-NAME: width, layers
    "xsmall": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "small": {"hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
PUBLISHED = {  # config.json of all three
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_buckets": 256,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}


def make_model(shape: str, dropout: float) -> DebertaV2Model:
    """A model of a shape, with random weights."""
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return DebertaV2Model(DebertaV2Config(**PUBLISHED, **SHAPES[shape], **drops)).to(choose_device()).train()


def use_attention(model: DebertaV2Model, system: str) -> None:
    """Give a model the attention of "transformers" or of "kagglekit"."""
    classes = {
        deberta_attention.FastAttention: deberta.DisentangledSelfAttention,
        deberta_attention.FastEncoder: deberta.DebertaV2Encoder,
    }
    for module in model.modules():
        module.__class__ = classes.get(type(module), type(module))
    if system == "kagglekit":
        deberta_attention.fast_deberta(model)


def make_step(model: DebertaV2Model, rows: int, tokens: int, precision: str) -> Callable[[], None]:
    """One step of training on random tokens; the texts of a batch differ a little in length, as in sorted batches."""
    device = choose_device()
    ids = torch.randint(5, model.config.vocab_size, (rows, tokens), device=device)
    mask = (torch.arange(tokens) < torch.linspace(0.9 * tokens, tokens, rows)[:, None]).long().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def step() -> None:
        with autocast(device, precision):
            states = model(ids, attention_mask=mask).last_hidden_state
        states.float().square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(step: Callable[[], None], model: DebertaV2Model, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """system -> (seconds, megabytes above those held before) of a step, of each round but the first."""
    memory, measured = Memory(), {"transformers": [], "kagglekit": []}
    for number in range(rounds + 1):
        for system, values in measured.items():
            use_attention(model, system)
            memory.reset()
            start = now()
            step()
            values.extend([(now() - start, memory.peak())] if number else ())
    return measured


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["small", "base"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[64, 256], help="tokens of a text")
    parser.add_argument("--precisions", nargs="+", default=[choose_precision()], choices=["bf16", "fp16", "fp32"])
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3, help="that count; one more comes before them")
    options = parser.parse_args()
    keep_memory()
    print("| model | tokens | precision | transformers, tokens/s | kagglekit | faster | memory, MB | kagglekit |")
    print("|---|---:|---|---:|---:|---:|---:|---:|")
    for shape in options.shapes:
        model = make_model(shape, options.dropout)
        for length in options.lengths:
            for precision in options.precisions:
                rows = max(1, options.tokens // length)
                measured = measure(make_step(model, rows, length, precision), model, options.rounds)
                theirs, ours = measured.values()
                ratios = [a / b for (a, _), (b, _) in zip(theirs, ours, strict=True)]
                speeds = [f"{rows * length / statistics.median(s for s, _ in x):,.0f}" for x in (theirs, ours)]
                peaks = [f"{statistics.median(m for _, m in x):,.0f}" for x in (theirs, ours)]
                faster = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                line = [f"deberta-v3-{shape}", str(length), precision, *speeds, faster, *peaks]
                print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
