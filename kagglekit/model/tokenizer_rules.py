"""Rules of a tokenizer that transformers 5 leaves out: SentencePiece's normalisation, and no space before a mask.

The tokenizer classes of transformers 5 build their own normalizer, also when a tokenizer.json says another. Those of
DeBERTa-v2 and v3, BigBird and mBART leave out the rules of the SentencePiece model, which turn full-width letters,
ellipses, no-break and zero-width spaces into plain ones: such characters become unknown. Others apply them only to
composed letters. The class of Qwen2 splits digits and letters by its own pattern, whatever the file says, so that
"1234" is other tokens than those of training. Here a tokenizer gets the rules back, at every load.
"""

import base64
import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from tokenizers import AddedToken, normalizers, pre_tokenizers
from transformers import TokenizersBackend
from transformers.convert_slow_tokenizer import SentencePieceExtractor

from kagglekit.files import read_json

LETTERS = ("Lowercase", "NFKD", "StripAccents")  # what some families do to a text before SentencePiece reads it


def restore_rules(tokenizer, path: str) -> None:
    """Give a tokenizer that `AutoTokenizer` loaded from `path`, a folder or hub name, the rules it was trained with.

    Texts become the pieces that SentencePiece itself gives (Kudo and Richardson, 2018, arXiv 1808.06226). Rules come
    from the SentencePiece model, or from the tokenizer.json of a saved tokenizer; where neither has any, the tokenizer
    stays as it is. A mask takes the space before it, as in transformers 4, unless a tokenizer.json says otherwise.
    """
    if not tokenizer.is_fast:  # SentencePiece itself
        return
    saved = Path(path, "tokenizer.json") if Path(path).is_dir() else try_to_load_from_cache(path, "tokenizer.json")
    saved = Path(saved) if isinstance(saved, str | Path) and Path(saved).is_file() else None
    kind, file = type(tokenizer), tokenizer.init_kwargs.get("vocab_file")
    if saved is None and tokenizer.mask_token is not None:
        mask = AddedToken(tokenizer.mask_token, lstrip=True, special=True, normalized=False)
        tokenizer.add_special_tokens({"mask_token": mask})
    elif kind is TokenizersBackend or "__init__" not in vars(kind):  # it is used as it stands in tokenizer.json
        return
    if saved is not None and _is_of_bytes(written := read_json(saved).get("pre_tokenizer")):
        tokenizer.backend_tokenizer.pre_tokenizer = _load(pre_tokenizers.Sequence([]), pretokenizers=[written])
        return
    charsmap, squeeze, prefix = "", True, True
    if file and Path(file).suffix in (".model", ".spm"):
        spec = SentencePieceExtractor(file).proto.normalizer_spec
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        squeeze, prefix = spec.remove_extra_whitespaces, spec.add_dummy_prefix
    elif saved is not None:
        charsmap, squeeze = _read_saved(read_json(saved).get("normalizer"))
    if charsmap:
        backend = tokenizer.backend_tokenizer
        backend.normalizer = make_normalizer(charsmap, squeeze, before=_steps(backend.normalizer, "normalizers"))
        words = [step for step in _steps(backend.pre_tokenizer, "pretokenizers") if step["type"] != "WhitespaceSplit"]
        spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always" if prefix else "never"}
        words = words or [{**spaces, "split": True}]
        backend.pre_tokenizer = _load(pre_tokenizers.Sequence([]), pretokenizers=words)


def make_normalizer(charsmap: str, squeeze: bool = True, before: list[dict] | None = None) -> normalizers.Normalizer:
    """The normalizer of a SentencePiece model.

    charsmap: its rules, base64. squeeze: no spaces at the ends, single ones within (remove_extra_whitespaces).
    before: steps of the normalizer that it replaces, as in a tokenizer.json; those that change letters stay, first.
    `Precompiled` looks up the first character of a letter and its accents alone, SentencePiece the longest sequence, so
    that texts are composed before (NFC), and again after half-width kana have become wide.
    """
    rules = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    composed = (
        [{"type": "NFC"}]
        if _load(normalizers.Sequence([]), normalizers=[rules]).normalize_str("e\u0301") == "\u00e9"
        else []
    )
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    kept = [step for step in before or () if step["type"] in LETTERS or _is_quote(step)]
    steps = [*kept, *composed, rules, *composed, *([spaces, strip] if squeeze else [])]
    return _load(normalizers.Sequence([]), normalizers=steps)


def _is_of_bytes(step: dict | None) -> bool:
    """Whether a pre-tokenizer of a tokenizer.json splits into bytes, as those of GPT-2, Llama 3 and Qwen do."""
    return step is not None and any(one["type"] == "ByteLevel" for one in step.get("pretokenizers", [step]))


def _read_saved(normalizer: dict | None) -> tuple[str, bool]:
    """The rules of a normalizer in a tokenizer.json, and whether it squeezes spaces: only one from here does not."""
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    kinds = [step["type"] for step in steps]
    if "Precompiled" not in kinds:
        return "", True
    return steps[kinds.index("Precompiled")]["precompiled_charsmap"], kinds[-2:] != ["Precompiled", "NFC"]


def _steps(part, key: str) -> list[dict]:
    """The steps of a normalizer or pre-tokenizer, as in a tokenizer.json."""
    state = json.loads(part.__getstate__()) if part is not None else {key: []}
    return state.get(key, [state])


def _load(part, **steps: list[dict]):
    """Give a part of a tokenizer, a sequence, other steps."""
    part.__setstate__(json.dumps({"type": "Sequence", **steps}).encode())
    return part


def _is_quote(step: dict) -> bool:
    return step["type"] == "Replace" and step["pattern"].get("String") in ("``", "''")
