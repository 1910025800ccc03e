"""Credentials and local paths: found before a push, and redacted from what is shown."""

import base64
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

LEAST = 8  # characters of a credential: a shorter value would stand in texts by chance
NAMES = re.compile(r"(^|_)(TOKEN|KEY|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)  # of variables and of keys
SHAPES = {
    "a Kaggle token": r"\bKGAT_[A-Za-z0-9_-]{16,}",
    "a kaggle.json": r"""(?s)username\\?["'].{0,200}?\\?["']key\\?["']\s*:\s*\\?["'][0-9a-f]{32}\b"""
    r"""|["']key\\?["']\s*:\s*\\?["'][0-9a-f]{32}\\?["'].{0,200}?\\?["']username\b""",
    "a key of Kaggle": r"""KAGGLE_KEY\b\W{1,8}[0-9a-f]{32}\b""",
    "a Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "a Weights & Biases key": r"""(?i)(?:WANDB_API_KEY|wandb\.login)\b.{0,12}?\b[0-9a-f]{40}\b""",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|(?i:aws_secret_access_key)\W{1,8}[A-Za-z0-9/+=]{40}",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}",
    "a Google key": r"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "a key of a language model's service": r"\bsk-[A-Za-z0-9_-]{32,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY",
    "an address with a password": r"\bhttps?://[^\s/:@\"'{}<>%$]+:[^\s/:@\"'{}<>%$]{4,}@",
}
START = r"(?:(?<=file://)|(?<![\w/.~-]))"
PATHS = re.compile(
    START + r"""/(?:home|Users)/[^\s/"'\\<>|:*?]+(?:/[^\s"'\\<>|:*?]*)?"""
    rf"""|{START}/root/[^\s"'\\<>|:*?]+"""
    r"""|(?<!\w)[A-Za-z]:[\\/]{1,2}Users[\\/]{1,2}[^\s"'\\/<>|:*?]+"""
)


def find_secrets(text: str) -> list[str]:
    """The credentials in a text, in words such as "the value of KAGGLE_KEY", never the credential itself: those of this
    user (see `credentials`), and whatever has a well-known form."""
    return list(dict.fromkeys([*find_known(text), *(kind for kind, form in SHAPES.items() if re.search(form, text))]))


def find_known(content: str | bytes) -> list[str]:
    """This user's credentials in a text or in the bytes of a file: where each comes from."""
    known = _known().items()
    if isinstance(content, bytes):
        return list(dict.fromkeys(where for value, where in known if value.encode() in content))
    return list(dict.fromkeys(where for value, where in known if value in content))


def local_paths(text: str) -> list[str]:
    """The local paths in a text: below a user's home, this checkout or the working directory."""
    found = [match.group() for match in PATHS.finditer(text)]
    for folder in (Path.home(), Path.cwd(), Path(__file__).parents[2]):
        if len(folder.parts) > 2 and folder.parts[1] != "kaggle":  # "/", "/tmp" and "/kaggle/working" are everywhere
            tail = r"""(?:/[^\s"'\\<>|:*?]*)?(?![\w-])"""
            found += [match.group() for match in re.finditer(START + re.escape(str(folder)) + tail, text)]
    return list(dict.fromkeys(found))


def redact(text: str) -> str:
    """The text with *** in place of each credential of this user, and of whatever has the form of a token."""
    for value in sorted(credentials(), key=len, reverse=True):
        text = text.replace(value, "***")
    for kind in ("a Kaggle token", "a Hugging Face token", "a GitHub token"):
        text = re.sub(SHAPES[kind], "***", text)
    return text


def credentials() -> set[str]:
    """The credentials of this user, for `redact`: do not show or keep them.

    The values of environment variables named ..._TOKEN, ..._KEY, ..._SECRET or ..._PASSWORD, also from a file that such
    a variable names; the files in ~/.kaggle, KAGGLE_CONFIG_DIR and $XDG_CONFIG_HOME/kaggle; the tokens of Hugging Face
    and ~/.netrc. Kaggle's user and key also as the client sends them, in base64.
    """
    return set(_known())


def _known() -> dict[str, str]:
    """Credential -> where it comes from."""
    found, pairs = {}, [(os.environ.get("KAGGLE_USERNAME", ""), os.environ.get("KAGGLE_KEY", ""))]
    for name, value in os.environ.items():
        if NAMES.search(name):
            found |= dict.fromkeys(_values_of(value), f"the value of {name}")
    for file in _files():
        for name, value in _strings(file):
            found.setdefault(value, f"a credential of {file.parent.name}/{file.name}")
            pairs += [(name, value)] if name else []
    for user, key in pairs:
        if user and len(key) >= LEAST:
            found[base64.b64encode(f"{user}:{key}".encode()).decode()] = "Kaggle's user and key, in base64"
    return {value: where for value, where in found.items() if len(value) >= LEAST}


def _values_of(value: str) -> Iterator[str]:
    """The credentials in a variable: itself, or the content of the file that it names."""
    named = Path.home() / value[2:] if value.startswith("~/") else Path(value)
    if _is_file(named):
        yield from (text for _, text in _strings(named))
    elif "/" not in value[:1] and not value.startswith("~"):
        yield value.strip()


def _files() -> Iterator[Path]:
    """The files where clients keep credentials."""
    home = Path.home()
    folders = [home / ".kaggle", os.environ.get("KAGGLE_CONFIG_DIR"), home / ".config" / "kaggle"]
    folders.append(os.environ.get("XDG_CONFIG_HOME") and Path(os.environ["XDG_CONFIG_HOME"], "kaggle"))
    for folder in map(Path, filter(None, folders)):
        if folder.is_dir():
            yield from (file for file in sorted(folder.iterdir()) if _is_file(file))
    hub = Path(os.environ.get("HF_HOME") or home / ".cache" / "huggingface")
    yield from (file for file in (hub / "token", hub / "stored_tokens", home / ".netrc") if _is_file(file))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_size < 100_000 and os.access(path, os.R_OK)
    except (OSError, ValueError):  # a value that cannot be a path
        return False


def _strings(file: Path) -> Iterator[tuple[str, str]]:
    """(user, credential) for each credential in a file; user is "" where none is given."""
    text = file.read_text(encoding="utf-8", errors="replace").strip()
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict):
        user = str(content.get("username") or "")
        yield from ((user, value) for key, value in content.items() if isinstance(value, str) and NAMES.search(key))
    elif text and not re.search(r"\s", text):
        yield "", text
    else:
        for match in re.finditer(r"(?:password|hf_token)\s*=?\s*(\S+)", text):  # .netrc, and Hugging Face's list
            yield "", match.group(1)
