"""Model soups: averages of the weights of several models (Wortsman et al., 2022, arXiv 2203.05482).

They work for models fine-tuned from the same pretrained weights: checkpoints, runs with other settings, folds. A
soup predicts in one pass, a blend of n models in n; a blend usually scores better.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PreTrainedModel

from kagglekit.decoders.lora import average_adapters, merge_adapters, only_adapters, set_adapters
from kagglekit.decoders.lora_base import load_trained, read_base
from kagglekit.files import read_json, replacing
from kagglekit.files.arrays import read_tensors, seal
from kagglekit.model.backbones import load_backbone, load_config, load_tokenizer, quiet
from kagglekit.model.classifier import Classifier
from kagglekit.options import check_range

State = dict[str, torch.Tensor]  # a state_dict()
IGNORED = {"_name_or_path", "architectures", "dtype", "transformers_version", "use_cache", "id2label", "label2id"}
# fields of a configuration that change no computation of the backbone


def average_weights(
    states: Iterable[State], weights: Sequence[float] | None = None, names: Sequence[str] | None = None
) -> State:
    """Average states tensor by tensor, in float32 at least; the result has the dtypes of the first.

    weights: one a state, 0 or more; None is the uniform soup. names: of the states, for errors. One state is held at a
    time, so a generator that loads them needs the memory of two. Equal tensors stay equal bit for bit; integer tensors
    and masks must be equal.
    Raises ValueError that names two states that differ in names, shapes or integers.
    """
    mean: State = {}
    shapes, types, total = {}, {}, 0.0
    pairs = ((state, 1.0) for state in states) if weights is None else zip(states, weights, strict=True)
    for number, (state, weight) in enumerate(pairs):
        name, one = (names[n] if names else f"state {n}" for n in (number, 0))
        if number == 0:
            shapes, types = _shapes(state), {key: tensor.dtype for key, tensor in state.items()}
        check_equal([shapes, _shapes(state)], [one, name])
        check_range(f"the weight of {name}", weight, 0 <= weight < math.inf, "0 or more")
        total += weight
        for key, tensor in state.items():
            if not tensor.is_floating_point():
                if not torch.equal(mean.setdefault(key, tensor.clone()), tensor):
                    raise ValueError(f"{one} and {name} cannot be averaged: the integers of {key} differ")
            elif weight:
                tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
                mean[key] = torch.lerp(mean[key], tensor, weight / total) if key in mean else tensor.clone()
    if not total:
        raise ValueError("there is nothing to average: no state with a weight above 0")
    return {key: mean[key].to(dtype) for key, dtype in types.items()}


def greedy_soup(
    states: Sequence[State], evaluate: Callable[[State], float], higher_is_better: bool = True
) -> tuple[State, list[int], float]:
    """Average the best state with each other one, best first, that does not make the average worse.

    Returns the soup, the numbers of its members, and its score, which is never worse than the best state's. The score
    chose the members, so it is optimistic: measure the soup on other rows. Costs two evaluations a state.
    """
    worth = [_worth(evaluate(state), higher_is_better) for state in states]
    order = sorted(range(len(states)), key=lambda number: -worth[number])
    members, soup, best = order[:1], states[order[0]], worth[order[0]]
    for number in order[1:]:
        candidate = average_weights([soup, states[number]], [len(members), 1])
        value = _worth(evaluate(candidate), higher_is_better)
        if value >= best:
            members, soup, best = [*members, number], candidate, value
    return soup, members, best if higher_is_better else -best


def average_models(folders: Sequence[Path], weights: Sequence[float] | None = None) -> Classifier:
    """Average the classifiers in `folders`, which `Classifier.save` wrote.

    weights: one a folder, None is the uniform soup. An average over folds has seen every training row, so none of them
    can measure it. Adapters are averaged as what they add, exactly: the ranks add up, see `average_adapters`. Dropouts
    may differ, and are those of the first.
    Raises ValueError that names two folders and the option, backbone field or shape in which they differ.
    """
    check_range("folders", folders, len(folders) > 0, "at least one model")
    check_equal([_without_dropouts(read_json(Path(folder) / "classifier.json")) for folder in folders], folders)
    check_equal([_read_config(folder) for folder in folders], folders)
    soup = Classifier.load(Path(folders[0]))
    like = soup.state_dict()
    states = (read_tensors(Path(folder) / "model.safetensors") for folder in folders)
    states = ({name: x.to(like[name].dtype) if name in like else x for name, x in state.items()} for state in states)
    bases = [read_base(Path(folder)) or {"hash": "saved whole"} for folder in folders]
    check_equal([{"the hash of the backbone's weights": base["hash"]} for base in bases], folders)
    adapters, pairs = soup.options.get("adapters"), []

    def noted(state: State) -> State:
        pairs.append(only_adapters(state))  # megabytes, of which all are held
        return state

    mean = average_weights(map(noted, states), weights, [str(folder) for folder in folders])
    if soup.base:
        load_trained(soup, soup.backbone, mean)
    else:
        soup.load_state_dict(mean)
    if adapters:
        mean = average_adapters(pairs, weights)
        set_adapters(soup.backbone, {name.removeprefix("backbone."): x for name, x in mean.items()})
        times = sum(weight > 0 for weight in weights) if weights else len(folders)
        soup.options["adapters"] = adapters | {name: adapters[name] * times for name in ("r", "alpha")}
    return soup


def fuse_backbones(
    folders: Sequence[Path], target: Path | None = None, weights: Sequence[float] | None = None
) -> PreTrainedModel:
    """Average the backbones in `folders` without their heads: initial weights for training on all their tasks.

    folders: models of `Classifier.save` and of 2_pretrain. target: a folder to write it to, with the tokenizer of the
    first, to be named as `backbone`; of several processes, which all call this, the first one writes. weights: one a
    folder, None is the plain mean.
    Raises ValueError that names two folders whose backbones or vocabularies differ, and how.
    """
    tokenizer = check_fusable(folders)
    states = (_load_backbone(folder).state_dict() for folder in folders)
    fused = _load_backbone(folders[0])
    fused.load_state_dict(average_weights(states, weights, [str(folder) for folder in folders]))
    if target is not None:
        state = PartialState()
        if state.is_main_process:
            with replacing(target) as part, quiet():
                fused.save_pretrained(part)
                tokenizer.save_pretrained(part)
                seal(part)
        state.wait_for_everyone()
    return fused


def check_fusable(folders: Sequence[str | Path]):
    """Raise as `fuse_backbones` does, before weights are read; return the tokenizer of the first."""
    check_equal([_read_config(folder) for folder in folders], folders)
    tokenizers = [load_tokenizer(str(folder)) for folder in folders]
    check_equal([{f"token {word!r}": n for word, n in t.get_vocab().items()} for t in tokenizers], folders)
    return tokenizers[0]


def check_equal(facts: Sequence[dict], names: Sequence) -> None:
    """Raise ValueError that names two of `names` whose `facts` differ, and the first fact that does."""
    for theirs, name in zip(facts, names, strict=True):
        for fact in [*facts[0], *theirs]:
            one, other = (side.get(fact, "missing") for side in (facts[0], theirs))
            if one != other:
                raise ValueError(
                    f"{names[0]} and {name} cannot be averaged: {fact} is {one} in one, {other} in the other"
                )


def _load_backbone(folder: Path) -> PreTrainedModel:
    if (Path(folder) / "classifier.json").is_file():
        return merge_adapters(Classifier.load(Path(folder)).backbone)
    return load_backbone(str(folder))


def _read_config(folder: Path) -> dict:
    config = _without_dropouts(load_config(str(folder)).to_dict())
    return {name: value for name, value in config.items() if name not in IGNORED}


def _without_dropouts(options: dict) -> dict:
    return {name: value for name, value in options.items() if "drop" not in name}


def _shapes(state: State) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in state.items()}


def _worth(score: float, higher_is_better: bool) -> float:
    return -math.inf if math.isnan(score) else score if higher_is_better else -score
