"""Suggest backbones of the catalogue for a competition's texts, by language, domain and length."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kagglekit.competition.guess import UNSPACED
from kagglekit.model.catalogue import BACKBONES, Backbone

SHORT = 512  # tokens that most backbones read
ENGLISH = "the|of|and|to|that|is|it|for|was|with|this|are|have|not|but|you|they|from|be|we|my"
OTHERS = (  # Spanish, Portuguese, French, Italian, German, Dutch, and some of Polish, Turkish and Indonesian
    "el|la|los|las|de|del|que|por|una|para|não|em|um|uma|le|les|des|et|est|dans|pour|une|il|di|che|per|sono|der|die|das|"
    "und|ist|nicht|ein|eine|mit|het|een|van|niet|en|dat|się|nie|jest|bir|ve|bu|yang|dan|untuk|ini"
)
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
    """Language (en, zh or multilingual) and domain (of the catalogue) of texts; long: the share with more than 512
    tokens; why: the evidence for language and domain, in words."""

    language: str
    domain: str
    long: float
    why: dict[str, str]


def suggest_backbones(
    texts: Sequence[str], n: int = 5, max_size: float | None = None, lengths: np.ndarray | None = None
) -> pd.DataFrame:
    """`n` backbones for texts, best first: name, size (millions of parameters), max length, reason.

    First come those that read long texts, where more than a quarter of the texts have more than 512 tokens; then those
    trained on the domain; then the order of the catalogue. Only the texts are read: which backbone scores best, only a
    run can show. max_size: in millions of parameters. lengths: tokens of each text; None estimates them.
    Raises ValueError when no backbone is as small as `max_size`.
    """
    profile = profile_texts(texts, lengths)
    rank = {profile.language: 0, "multilingual": 1}
    fitting = [one for one in BACKBONES if one.language in rank and (max_size is None or one.size <= max_size)]
    fitting = [one for one in fitting if one.domain in ("general", profile.domain)]
    if not fitting:
        raise ValueError(f"max_size={max_size}: no backbone of the catalogue for these texts is as small")
    readers = [one for one in fitting if one.max_length > SHORT] if profile.long > 0.25 else []
    readers = [one for one in readers if one.language == profile.language] or readers

    def order(one: Backbone):
        return one not in readers, rank[one.language], one.domain == "general"

    rows = [
        {"name": one.name, "size": one.size, "max length": one.max_length, "reason": _reason(one, profile)}
        for one in sorted(fitting, key=order)[:n]
    ]
    return pd.DataFrame(rows)


def _reason(one: Backbone, profile: TextProfile) -> str:
    parts = [profile.why["language"]]
    if one.domain != "general":
        parts.append(profile.why["domain"])
    if profile.long > 0.05:
        cut = "" if one.max_length > SHORT else ", which it truncates"
        parts.append(f"{profile.long:.0%} of the texts have more than {SHORT} tokens{cut}")
    return "; ".join([*parts, one.reason])


def profile_texts(texts: Sequence[str], lengths: np.ndarray | None = None) -> TextProfile:
    """Profile texts by the first 2,000 characters of up to 2,000 of them, and by the full length of all. Every language
    other than Chinese and English is "multilingual"."""
    texts = list(texts)
    some = [text[:2000] for text in texts[:: max(1, len(texts) // 2000)]]
    language, evidence = _language(some)
    domain, kind = _domain(some) if language == "en" else ("general", "")
    lengths = np.array([estimate_tokens(text) for text in texts]) if lengths is None else np.asarray(lengths)
    return TextProfile(language, domain, float(np.mean(lengths > SHORT)), {"language": evidence, "domain": kind})


def estimate_tokens(text: str) -> float:
    """Estimate the tokens of a text: one a character in scripts without spaces, 1.35 a word in others."""
    unspaced = len(UNSPACED.findall(text))
    return unspaced + 1.35 * len(UNSPACED.sub(" ", text).split() if unspaced else text.split()) + 2


def _language(texts: list[str]) -> tuple[str, str]:
    letters = Counter()
    for letter, count in Counter(itertools.chain.from_iterable(texts)).items():
        if letter.isalpha():
            letters[_script(letter)] += count
    total = sum(letters.values())
    if not total:
        return "multilingual", "there are no letters to show the language"
    share = {script: count / total for script, count in letters.items()}
    chinese, kana = share.get("Chinese", 0), share.get("kana", 0)
    if chinese >= 0.3 and kana < 0.05:
        return "zh", f"{chinese:.0%} of the letters are Chinese"
    if share.get("Latin", 0) < 0.9:
        most = max(share, key=share.get)
        script = {"kana": "Japanese kana", "other": "of other scripts than Latin and Chinese"}.get(most, most)
        return "multilingual", f"{share[most]:.0%} of the letters are {script}"
    words = Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))
    english, others = (sum(words[word] for word in common.split("|")) / words.total() for common in (ENGLISH, OTHERS))
    if others > english / 4 and others > 0.02:
        return "multilingual", f"{others:.0%} of the words are common ones of languages other than English"
    return "en", f"{english:.0%} of the words are common English ones"


def _script(letter: str) -> str:
    if letter < "\u0250" or "\u1e00" <= letter <= "\u1eff":
        return "Latin"
    if "\u3400" <= letter <= "\u9fff" or letter >= "\U00020000":
        return "Chinese"
    return "kana" if "\u3040" <= letter <= "\u30ff" else "other"


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
