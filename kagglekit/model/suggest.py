"""Suggest backbones of the catalogue for a competition's texts, by language, domain and length."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kagglekit.competition.guess import UNSPACED
from kagglekit.decoders.memory import what_fits
from kagglekit.model.catalogue import BACKBONES, Backbone
from kagglekit.model.languages import find_languages

SHORT = 512  # tokens that most backbones read
DOMAINS = {  # words of each domain
    "finance": "profits?|revenue|dividends?|shareholders?|earnings|eur|ebitda|sales|stocks?|shares|quarter|investors?|"
    "fiscal|securities|margin|turnover",
    "law": "plaintiffs?|defendants?|appell(?:ant|ee)s?|court|statute|hereby|pursuant|herein|thereof|whereas|clause|"
    "jurisdiction|liability|petitioner|indemnify|breach",
    "biomedicine": "patients?|clinical|diseases?|symptoms?|dose|mg|diagnos(?:is|ed)|therapy|proteins?|genes?|cells?|"
    "tumou?rs?|cancer|drugs?|doctor|medication|side effects?|infection|treatment",
    "science": "proposed?|experiments?|algorithms?|theorem|methods?|hypothesis|paper|empirical|simulations?|dataset|"
    "state-of-the-art|approach|results|novel|et al",
}
TWEET = re.compile(r"(?:^|\s)[@#]\w|https?://t\.co/|^RT\b")


@dataclass(frozen=True)
class TextProfile:
    """Language (en, zh or multilingual), its name, and domain (of the catalogue) of texts; long: the share with more
    than 512 tokens; why: what the language is and how sure that is, and the evidence for the domain, in words."""

    language: str
    name: str
    domain: str
    long: float
    why: dict[str, str]


def suggest_backbones(
    profile: TextProfile, n: int = 5, max_size: float | None = None, kind: str = "encoder"
) -> pd.DataFrame:
    """`n` backbones for texts of a profile, best first: name, size (millions of parameters), max length, reason; attrs:
    language, in words. kind: "decoder" gives language models in the order of the catalogue, and how each can be tuned,
    and predict, on the GPUs of `decoders.memory`.

    First come those that read long texts, where more than a quarter of the texts have more than 512 tokens; then those
    trained on the domain; then the order of the catalogue. Only the texts are read: which backbone scores best, only a
    run can show. max_size: in millions of parameters.
    Raises ValueError when no backbone is as small as `max_size`.
    """
    rank = {profile.language: 0, "multilingual": 1}
    fitting = [one for one in BACKBONES if one.kind == kind and one.language in rank]
    fitting = [one for one in fitting if max_size is None or one.size <= max_size]
    fitting = [one for one in fitting if one.domain in ("general", profile.domain)]
    if not fitting:
        raise ValueError(f"max_size={max_size}: no backbone of the catalogue for these texts is as small")
    readers = [one for one in fitting if one.max_length > SHORT] if profile.long > 0.25 else []
    readers = [one for one in readers if one.language == profile.language] or readers

    def order(one: Backbone):
        return one not in readers, rank[one.language], one.domain == "general"

    rows = [
        {"name": one.name, "size": one.size, "max length": one.max_length}
        | (what_fits(one.size) if kind == "decoder" else {})
        | {"reason": _reason(one, profile)}
        for one in (fitting if kind == "decoder" else sorted(fitting, key=order))[:n]
    ]
    table = pd.DataFrame(rows)
    table.attrs["language"] = profile.why["language"]
    return table


def _reason(one: Backbone, profile: TextProfile) -> str:
    parts = []
    if one.domain != "general":
        parts.append(profile.why["domain"])
    if profile.long > 0.05 and one.max_length <= SHORT:
        parts.append(f"truncates the {profile.long:.0%} of the texts that have more than {SHORT} tokens")
    return "; ".join([*parts, one.reason])


def profile_texts(texts: Sequence[str], lengths: np.ndarray | None = None) -> TextProfile:
    """Profile texts by the first 2,000 characters of up to 2,000 of them, and by the full length of all. Every language
    other than Chinese and English is "multilingual". lengths: tokens of each text; None estimates them."""
    texts = list(texts)
    some = [text[:2000] for text in texts[:: max(1, len(texts) // 2000)]]
    language = find_languages(some)
    domain, kind = _domain(some) if language.code == "en" else ("general", "")
    lengths = np.array([estimate_tokens(text) for text in texts]) if lengths is None else np.asarray(lengths)
    why = {"language": language.words, "domain": kind}
    return TextProfile(language.code, language.name, domain, float(np.mean(lengths > SHORT)), why)


def name_readers(code: str, but: str = "") -> list[str]:
    """Two backbones for a language (en, zh or multilingual), the first of the catalogue and the smallest; not `but`."""
    known = [one for one in BACKBONES if one.kind == "encoder"]
    known = [one for one in known if one.language == code and one.domain == "general" and but != one.name]
    return list(dict.fromkeys([known[0].name, min(known, key=lambda one: one.size).name]))


def estimate_tokens(text: str) -> float:
    """Estimate the tokens of a text: one a character in scripts without spaces, 1.35 a word in others."""
    unspaced = len(UNSPACED.findall(text))
    return unspaced + 1.35 * len(UNSPACED.sub(" ", text).split() if unspaced else text.split()) + 2


def _domain(texts: list[str]) -> tuple[str, str]:
    """The domain of English texts, and the evidence; "general" unless a third of the texts has two words of another."""
    tweets = np.mean([TWEET.search(text) is not None for text in texts])
    if tweets > 1 / 3 and np.median([len(text) for text in texts]) <= 300:
        return "tweets", f"{tweets:.0%} of the texts are short, with @names, #tags or links of Twitter"
    best, found = "general", (1 / 3, "")
    texts = [text.lower() for text in texts]
    for domain, words in DOMAINS.items():
        hits = [set(words.findall(text)) for words in [re.compile(rf"\b(?:{words})\b")] for text in texts]
        share = float(np.mean([len(hit) >= 2 for hit in hits]))
        if share > found[0]:
            common = [word for word, _ in Counter(word for hit in hits for word in hit).most_common(3)]
            best, found = domain, (share, f"{share:.0%} of the texts have words of {domain} ({', '.join(common)})")
    return best, found[1]
