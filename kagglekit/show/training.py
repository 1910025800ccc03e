"""Tables of a run before it is trained: its recipe, what is read of the texts, and its model."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import nn

from kagglekit.data.tokens import Tokens
from kagglekit.model.classifier import Classifier
from kagglekit.options import Knobs, knobs_of
from kagglekit.show.texts import shorten
from kagglekit.training.learning_rates import FEATURES, HEAD
from kagglekit.training.model_inputs import Inputs

ALWAYS = ("backbone", "learning_rate", "objective")  # knobs that are shown at their defaults too
NEVER = ("work", "run", "folds", "hours", "overwrite", "checkpoint_every")  # they change nothing of a model


def show_recipe(*knobs: Knobs, rates: Mapping[str, float] | None = None, precision: str = "") -> pd.DataFrame:
    """The knobs that differ from their defaults: value, default, meaning. rates: group of parameters -> learning rate,
    of which that of the topmost layer is meant where it is None; without them it has no line. precision: what "auto"
    means here, likewise."""
    table = {}
    for kind in knobs:
        for name, knob in knobs_of(type(kind)).items():
            value = getattr(kind, name)
            if name == "learning_rate" and value is None and rates:
                rate = max([one for group, one in rates.items() if group not in (HEAD, FEATURES)] or [rates[HEAD]])
                value = f"{rate:.2g}, by the size of the backbone"
            elif name == "precision" and value == "auto" and precision:
                value = f"{precision}, by the hardware"
            elif name in NEVER or (value == knob.default and (name not in ALWAYS or value is None)):
                continue
            table[name] = (str(value), str(knob.default), knob.words)
    return pd.DataFrame.from_dict(table, orient="index", columns=["value", "default", "meaning"]).rename_axis("knob")


def show_tokens(train: Inputs, test: Inputs, max_length: int) -> pd.DataFrame:
    """How many tokens are read of the texts of train and test, and which share of them is as long as that."""
    table = {}
    for name, inputs in (("train", train), ("test", test)):
        lengths = pd.Series(inputs.tokens.lengths)
        found = {"texts": f"{len(lengths):,}", "shortest": lengths.min(), "median": f"{lengths.median():g}"}
        found |= {"95 %": f"{lengths.quantile(0.95):g}", "longest": lengths.max()}
        table[name] = {**found, f"share with {max_length} or more": f"{(lengths >= max_length).mean():.1%}"}
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("tokens read")


def decode_row(inputs: Inputs, tokenizer, characters: int = 600) -> str:
    """The text of median length as the model reads it, with the special tokens; of several chunks the first one."""
    lengths, tokens = inputs.tokens.lengths, inputs.tokens
    row = int(lengths.argsort(kind="stable")[len(lengths) // 2])
    pieces: Tokens | Sequence = tokens[[row]] if isinstance(tokens, Tokens) else tokens[[row]].pieces
    return shorten(tokenizer.decode(next(iter(pieces))), characters)


def show_settings(settings: Mapping[str, Any]) -> pd.DataFrame:
    """The settings of a learner that does not fine-tune, without empty ones and those that its recipe shows."""
    there = {name: value for name, value in settings.items() if value and name not in ("backbone", "learner", "start")}
    rows = [(name, str(value)) for name, value in there.items()]
    return pd.DataFrame(rows, columns=["setting", "value"]).set_index("setting")


def show_seeds(scores: Mapping[str, Any]) -> pd.DataFrame | None:
    """The scores of the seeds of a run by fold, each alone, and those of the mean of their predictions, from what
    `score_run` found; None for one seed."""
    if "seeds" not in scores:
        return None
    apart, together = scores["seeds"], {f"fold {fold}": value for fold, value in scores["folds"].items()}
    table = pd.DataFrame({f"fold {fold}": pd.Series(each) for fold, each in apart["folds"].items()})
    table.insert(0, "all folds", pd.Series(apart["scores"]))
    table = table.rename(index="seed {}".format).rename_axis("alone")
    table.loc["standard deviation"] = table.std(ddof=1)
    table.loc["mean of the predictions"] = {"all folds": scores["score"], **together}
    return table


def show_model(model: Classifier, learns: bool = True) -> pd.DataFrame:
    """The parts of a model: what each is, its parameters, and how many of them are trained; none unless it `learns`."""
    table = {}
    for name, part in sorted(model.named_children(), key=lambda child: (child[0] != "backbone", child[0] == "head")):
        parameters = list(part.parameters())
        if not parameters and name not in ("pooling", "head"):
            continue
        layers = max((m for m in part.modules() if isinstance(m, nn.ModuleList)), key=len, default=[])
        what = type(part).__name__ + (f", {len(layers)} layers" if name == "backbone" and len(layers) else "")
        counts = [
            sum(p.numel() for p in parameters if every or (learns and p.requires_grad)) for every in (True, False)
        ]
        table[name] = (what, *(f"{count:,}" for count in counts))
    return pd.DataFrame.from_dict(table, orient="index", columns=["what", "parameters", "trained"]).rename_axis("part")
