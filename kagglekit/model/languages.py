"""Which languages texts are in, by their letters and their commonest words, and how sure that is."""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

WORDS = {  # the commonest words of languages in Latin letters
    "English": "the of and to that is it for was with this are have not but you they from be we my i in on so at as a",
    "Spanish": "el la los las de que por una para con del es lo se como más pero muy un y en su al mi yo",
    "Portuguese": "o os as de que por uma para não em um do da com mais são muito dos eu é e na no meu a",
    "French": "le les des et est dans pour une qui pas sur plus avec ce je du que nous vous il un au en ne la",
    "Italian": "il di che per sono una del della non gli con anche più le ma è un la si ho mi nel dei",
    "German": "der die das und ist nicht ein eine mit den von zu auf ich für im auch sich es dem wir sie",
    "Dutch": "het een van niet en dat de ik is op te voor met zijn ook er maar je naar heb",
    "Swedish": "och att det som är inte en på för med av jag har till den ett om så var",
    "Norwegian or Danish": "og det er ikke på som til av jeg de har at en med for den et ikke men vi",
    "Finnish": "ja on ei se että oli olla mutta kun niin ovat hän ole myös kuin joka",
    "Polish": "się nie jest na do że w z to jak ale i są już tak po od mnie",
    "Czech or Slovak": "se je na že to ale jako jsem by si v s a pro jsou som sa čo",
    "Hungarian": "a az és hogy nem is egy de meg volt csak ez ha már mint",
    "Romanian": "și este în nu cu pe la care din un o de mai să sunt am",
    "Turkish": "bir ve bu için da de çok ama ile olarak daha gibi ne var ben",
    "Indonesian or Malay": "yang dan di ini untuk dengan tidak dari pada itu ada saya akan juga",
    "Vietnamese": "và của là có không cho một được người này các những trong tôi đã",
    "Swahili": "na ya wa kwa ni katika za la kuwa hii cha yake",
}
SCRIPTS = {  # as Unicode calls letters -> the language; one that has several is told by letters of its own
    "CJK": "Chinese",
    "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese",
    "HANGUL": "Korean",
    "CYRILLIC": {"Russian": "ыэ", "Ukrainian": "іїєґ", "Belarusian": "ў", "Serbian": "ђћџ", "Bulgarian": "ъ"},
    "ARABIC": {"Arabic": "ةىأ", "Persian": "پژگ", "Urdu": "ٹڈڑےں"},
    "DEVANAGARI": {"Hindi": "़ॉँ", "Marathi": "ळ"},
    "ETHIOPIC": "Amharic",
    "MYANMAR": "Burmese",
    "GURMUKHI": "Punjabi",
    "SINHALA": "Sinhala",
}
SEVERAL = 0.1  # of the letters or the texts: so much of another language is told


@dataclass(frozen=True)
class Languages:
    """code: en, zh or multilingual, as the catalogue of backbones has it. name: of the language, or of the most common.
    words: what was found, how sure it is, and by what."""

    code: str
    name: str
    words: str


def find_languages(texts: Sequence[str]) -> Languages:
    """The languages of texts; those in Latin letters by counting, in each text, the commonest words of eighteen."""
    letters = Counter()
    for letter, count in Counter(itertools.chain.from_iterable(texts)).items():
        if letter.isalpha():
            letters[unicodedata.name(letter, "?").split()[0].split("-")[0]] += count
    total = letters.total()
    if not total:
        return Languages("multilingual", "none", "The texts have no letters, so no language shows.")
    share = {script: count / total for script, count in letters.most_common()}
    kana = share.get("HIRAGANA", 0) + share.get("KATAKANA", 0)
    if share.get("CJK", 0) >= 0.3 and kana < 0.05:
        return Languages("zh", "Chinese", _say("Chinese", share["CJK"], "of the letters are Chinese"))
    if share.get("LATIN", 0) >= 0.9:
        return _by_words(texts)
    if kana >= 0.05:
        both = kana + share.get("CJK", 0)
        return Languages("multilingual", "Japanese", _say("Japanese", both, "of the letters are Japanese or Chinese"))
    found = [f"{_name_script(one, texts)} ({part:.0%} of the letters)" for one, part in share.items() if part > SEVERAL]
    most = next(iter(share))
    name = _name_script(most, texts)
    if len(found) > 1:
        return Languages("multilingual", name, f"The texts are in several languages: {', '.join(found)}.")
    return Languages("multilingual", name, _say(name, share[most], f"of the letters are {most.capitalize()}"))


def _by_words(texts: Sequence[str]) -> Languages:
    """Texts in Latin letters. A text tells its language where it has two or more different ones of the commonest
    words."""
    common = {name: set(words.split()) for name, words in WORDS.items()}
    every, told = set().union(*common.values()), Counter()
    for text in texts:
        counts = Counter(word for word in re.findall(r"[^\W\d_]+", text.lower()) if word in every)
        found = {name: [counts[word] for word in words if word in counts] for name, words in common.items()}
        points = {name: (len(each), sum(each)) for name, each in found.items()}
        best = max(points, key=points.get)
        told[best] += points[best][0] >= 2
    n = told.total()
    if n < max(1, 0.05 * len(texts)):
        few = f"only {n:,} of {len(texts):,} texts have common words of a language that is known here"
        return Languages("en", "unknown", f"The language is unclear: {few}. English is assumed.")
    shares = {name: count / n for name, count in told.most_common() if count}
    name, share = next(iter(shares.items()))
    other = 1 - shares.get("English", 0)
    code = "en" if other <= 0.2 else "multilingual"
    found = [f"{one} ({part:.0%})" for one, part in shares.items() if part > SEVERAL]
    if len(found) > 1:
        return Languages(code, name, f"The texts are in several languages: {', '.join(found)} of those that tell.")
    return Languages(code, name, _say(name, share, f"of {n:,} texts have more of its commonest words than of others'"))


def _say(name: str, share: float, what: str) -> str:
    sure = "surely" if share >= 0.9 else "very likely" if share >= 0.6 else "probably"
    return f"The texts are in {name}, {sure}: {share:.0%} {what}."


def _name_script(script: str, texts: Sequence[str]) -> str:
    """The language that is written in a script, as far as it tells."""
    known = SCRIPTS.get(script, script.capitalize())
    if script == "LATIN":
        return "a language in Latin letters"
    if isinstance(known, str):
        return known
    counts = Counter(itertools.chain.from_iterable(texts))
    found = {name: sum(counts[letter] for letter in letters) for name, letters in known.items()}
    best = max(found, key=found.get)
    return best if found[best] else f"{next(iter(known))} or another language in {script.capitalize()} letters"
