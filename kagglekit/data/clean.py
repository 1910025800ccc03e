"""Cleaning: remove or rewrite parts of a text before it is tokenised.

A cleaner maps text to text, and cleaning twice gives the same as cleaning once. Cleaners are chosen by name and applied
in the order of the list. A good order is mojibake, html, urls, mentions, hashtags, emoji_en, nfkc, punctuation,
repeats, control, spaces: URLs before `repeats`, which would shorten www, and white space last. Clean little: models
were pretrained on text as people write it, and apparent noise ("!!!", an emoji) often carries the label.
"""

import html
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial

import pandas as pd

from kagglekit.competition.text_columns import change_columns

URL = re.compile(r"(?:https?://|www\.)[!#-;=?-~]+", re.IGNORECASE)  # ASCII, without quotes and angle brackets
TRAILING = ".,;:!?)]}'"  # more often after a URL than part of it
MENTION = re.compile(r"(?<![\w.@＠/])(?:[@＠]\w+)+")  # not in a mail address
TOPIC = re.compile(r"(?<![A-Za-z0-9&])#(?!\s)(?=[^#\n]{0,99}?[\u3400-\u9fff])([^#\n]{1,100})(?<!\s)#")  # Weibo's
HASHTAG = re.compile(r"(?<![\w&/#])#+(\w*[^\W\d]\w*)")
WORD_ENDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[A-Za-z])(?=\d)|_+")
HIDDEN = re.compile(
    r"<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.DOTALL | re.IGNORECASE
)
BLOCKS = """address article aside blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li
main nav ol option p pre section table tbody td tfoot th thead title tr ul"""  # tags that break a line
INLINE = """a abbr acronym audio b base basefont bdi bdo big body button center cite code del dfn em embed font head
html i iframe img input ins kbd label link mark meta noscript object param q s samp script select small source span
strike strong style sub summary sup svg textarea time tt u var video wbr"""
TAG = re.compile(
    rf"<(?:!doctype\b|/?({'|'.join(BLOCKS.split())})\b|/?(?:{'|'.join(INLINE.split())})\b)[^<>]*>", re.IGNORECASE
)
EMOJI = re.compile("[©®\u203c-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001ffff]")  # and a few others
REPEATS = re.compile(r"(?<![A-Za-z])[IVXLCDM]+(?![A-Za-z])|(?<!I)III(?!I)|([^\W\d]|[^\w\s])\1{2,}")
THREE = re.compile(r"(\S)\1\1")
LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
CONTROL = re.compile(  # except tab and newline, and joiners, which emoji and some scripts need
    "[\0-\x08\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufdd0-\ufdef\ufffe\uffff\ud800-\udfff]"
)
ASCII = {0xFF00 + i: chr(0x20 + i) for i in range(1, 0x5F) if not chr(0x20 + i).isalnum()}  # ！＂＃ ... ～
ASCII |= {ord(c): '"' for c in "“”„‟«»「」『』《》〈〉｢｣〝〞"}  # titles too: < and > would look like tags
ASCII |= {ord(c): "'" for c in "‘’‚‛‹›"} | {ord(c): "-" for c in "‐‑‒–—―"}
ASCII |= {ord(c): "[" for c in "【〔〖"} | {ord(c): "]" for c in "】〕〗"} | {0x3000: " ", ord("〜"): "~"}
ASCII |= {ord(c): "." for c in "。｡"} | {ord(c): "," for c in "、､"} | {ord("…"): "...", ord("⋯"): "..."}


def until_stable(change: Callable[[str], str], text: str) -> str:
    """Apply `change`, which never makes a text longer, until nothing changes: &amp;lt; takes two rounds."""
    while (after := change(text)) != text:
        text = after
    return text


def fix_mojibake(text: str) -> str:
    """Repair text that was read in the wrong encoding: "cafÃ©" to "café". Quotes stay as they are."""
    if text.isascii():
        return text
    import ftfy

    return ftfy.fix_encoding(text)


def strip_html(text: str) -> str:
    """Remove tags, comments and scripts, and decode entities. Tags that break a line leave a line break; what is not
    HTML, such as <user> or a < b, stays."""
    if "<" not in text and "&" not in text:
        return text
    return until_stable(_strip_html, text)


def _strip_html(text: str) -> str:
    text = TAG.sub(lambda tag: "\n" if tag[1] else "", HIDDEN.sub("", text))
    return html.unescape(re.sub("&(?:amp;)+", "&", text))


def replace_urls(text: str, word: str) -> str:
    """Replace each URL by `word`; a full stop or bracket after it stays."""
    if "://" not in text and "www." not in text.lower():
        return text
    return until_stable(lambda text: URL.sub(lambda url: word + url[0][len(url[0].rstrip(TRAILING)) :], text), text)


def replace_mentions(text: str, word: str) -> str:
    """Replace each @name, or several without a space, by `word`; mail addresses stay."""
    if "@" not in text and "＠" not in text:
        return text
    return MENTION.sub(word, text) if word else until_stable(partial(MENTION.sub, ""), text)


def open_hashtags(text: str) -> str:
    """Write #GoodDay as Good Day, and Weibo's #话题# as 话题."""

    def change(text):
        text = TOPIC.sub(lambda tag: tag[1], text)
        return HASHTAG.sub(lambda tag: WORD_ENDS.sub(" ", tag[1]).strip(), text)

    return until_stable(change, text) if "#" in text else text


def spell_emoji(text: str, language: str) -> str:
    """Replace each emoji by its Unicode name: "👍🏽" by "thumbs up medium skin tone", or "拇指向上 中等肤色".

    A sequence without a name is named part by part. Emoji unknown to the installed package stay, and so do symbols
    below U+2600, such as ©, ™ and ▪, unless they are written as emoji.
    """
    if not EMOJI.search(text):
        return text
    emoji = _load_emoji(language)
    done, end = "", 0
    for token in emoji.analyze(text, join_emoji=True):
        found, parts = token.value, getattr(token.value, "emojis", [token.value])
        if len(token.chars) == 1 and token.chars < "\u2600" and found.data["status"] == emoji.STATUS["unqualified"]:
            continue
        names = " ".join(one.data.get(language, one.data["en"]).strip(":").replace("_", " ") for one in parts)
        done += text[end : found.start]
        done += names if not done or done[-1].isspace() else f" {names}"
        end = found.end
        if end < len(text) and not text[end].isspace():
            done += " "
    return done + text[end:]


def write_ascii_punctuation(text: str) -> str:
    """Full-width and Chinese punctuation, curly quotes and dashes as ASCII, also 。【】「」《》“”, which NFKC keeps."""
    return text.translate(ASCII)


def shorten_repeats(text: str) -> str:
    """Shorten three or more equal characters to two, full stops to three: "soooo!!!" is "soo!!". Digits and Roman
    numerals (III) stay."""
    if not THREE.search(text):  # a seventh of the time
        return text
    return REPEATS.sub(lambda run: run[1] * (3 if run[1] == "." else 2) if run[1] else run[0], text)


def drop_control(text: str) -> str:
    """Remove invisible characters: control characters, zero-width spaces, direction marks. All line ends become
    newlines."""
    return CONTROL.sub("", LINE_ENDS.sub("\n", text))


def squeeze_spaces(text: str) -> str:
    """Single spaces, none at the ends of lines, and at most one blank line in a row."""
    lines = (" ".join(line.split()) for line in LINE_ENDS.sub("\n", text).split("\n"))
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).strip()


def simplify_chinese(text: str, rules: str) -> str:
    """Traditional Chinese characters to simplified ones, phrase by phrase (OpenCC); it damages Japanese text.

    rules: "t2s" for texts of Hong Kong, old ones, and of unknown origin; "tw2s" for those of Taiwan, which write 看著
    for 看着: "t2s" leaves 著 there. 著名 stays with both, and so do words: 软体 is not made 软件.
    """
    if text.isascii():
        return text
    return re.sub("[^\ud800-\udfff]+", lambda part: _load_opencc(rules).convert(part[0]), text)  # no lone surrogates


@lru_cache
def _load_emoji(language: str):
    import emoji

    emoji.config.load_language(language)
    return emoji


@lru_cache
def _load_opencc(rules: str):
    import opencc

    return opencc.OpenCC(rules)


EXTRAS = {"mojibake": "ftfy", "emoji_en": "emoji", "emoji_zh": "emoji"}  # cleaner -> package
EXTRAS |= {"simplified": "OpenCC", "simplified_tw": "OpenCC"}
CLEANERS: dict[str, Callable[[str], str]] = {
    "mojibake": fix_mojibake,
    "html": strip_html,
    "urls": partial(replace_urls, word="http"),  # this and @user: as in the pretraining of tweet models
    "drop_urls": partial(replace_urls, word=""),
    "mentions": partial(replace_mentions, word="@user"),
    "drop_mentions": partial(replace_mentions, word=""),
    "hashtags": open_hashtags,
    "emoji_en": partial(spell_emoji, language="en"),
    "emoji_zh": partial(spell_emoji, language="zh"),
    "simplified": partial(simplify_chinese, rules="t2s"),
    "simplified_tw": partial(simplify_chinese, rules="tw2s"),
    "nfkc": partial(unicodedata.normalize, "NFKC"),  # full-width letters, ligatures, ², ...
    "punctuation": write_ascii_punctuation,
    "repeats": shorten_repeats,
    "control": drop_control,
    "spaces": squeeze_spaces,
}


def is_installed(name: str) -> bool:
    """Whether the package that a cleaner needs is there; most need none."""
    return name not in EXTRAS or importlib.util.find_spec(EXTRAS[name].lower()) is not None


def check_cleaners(names: Sequence[str]) -> None:
    """Raise ValueError for a name that no cleaner has, and ModuleNotFoundError for a package that is missing."""
    for name in names:
        if name not in CLEANERS:
            raise ValueError(f"clean: there is no cleaner {name!r}; there are {', '.join(CLEANERS)}")
        if not is_installed(name):
            raise ModuleNotFoundError(f"clean: {name!r} needs a package that is missing: pip install {EXTRAS[name]}")


def clean_texts(texts: Iterable[str], names: Sequence[str]) -> list[str]:
    """Each text, and each column of it, after the cleaners `names`, in that order; none changes nothing.

    Raises ValueError for an unknown name, ModuleNotFoundError that says what to install.
    """
    check_cleaners(names)
    texts = list(texts)
    for name in names:
        texts = change_columns(texts, lambda some, clean=CLEANERS[name]: [clean(text) for text in some])
    return texts


def clean_table(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """A copy of a table with its column `text` cleaned; see `clean_texts`."""
    return table.assign(text=clean_texts(table["text"], names))
