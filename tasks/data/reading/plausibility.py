"""How likely decoded text is one that somebody wrote: by its words, and the letters of languages.

A wrong encoding makes words that are none (`scripts`), letters that the language does not have, and
letters that are rare where they should be common. The numbers are natural logarithms of rough
probabilities; what decides is by how much one reading is ahead of the others.
"""

import functools
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tasks.data.reading.scripts import ASIAN, LETTERS, is_well_formed, script_of

_LATIN = {
    "en": "é|ïèöñüçêáíóàâôæœëä", "fr": "éèàêçâîôûùœïëü|æÿñöäáíóß", "de": "üäöß|éèàêçáóñ",
    "es": "óáíéñú|üïç", "ca": "àóèéíúòçïü|", "pt": "ãçéáíóêõúâôà|üñ", "gl": "óíáñéú|üï",
    "it": "èàòùìé|íóîúç", "nl": "éëïó|öüèêáçäí", "sv": "äåö|éàüè", "da": "øåæ|éüöäó",
    "nb": "åøæ|éòôóöäü", "no": "åøæ|éòôóöäü", "nn": "åøæ|éòôóöäü", "fi": "äö|åšžé",
    "is": "áðíóéöúþæý|", "fo": "ðáíøóúýæ|", "pl": "łóąężśćńź|éüö", "cs": "íáéěřčšžýůúňóťď|üöä",
    "sk": "áíéčýžúšľťôňäďó|ĺŕöü", "hu": "áéöóüőíúű|ä", "ro": "ășțîâ|é", "hr": "čšžćđ|",
    "bs": "čšžćđ|", "sl": "čšž|ćđ", "lt": "ėųšįžąūčę|", "lv": "āīēšūņļžčķģ|", "et": "äõüö|šžé",
    "tr": "ıüşçğöi̇|âîû", "sq": "ëç|", "ga": "áíéóú|", "eu": "ñ|é", "af": "êëéôîïû|",
}  # fmt: skip
"""Letters beyond ASCII of languages in Latin script by how common they are; behind the bar rare."""
_CYRILLIC = {
    "Russian": "абвгдежзийклмнопрстуфхцчшщъыьэюяё",
    "Ukrainian": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "Bulgarian": "абвгдежзийклмнопрстуфхцчшщъьюя",
    "Serbian": "абвгдђежзијклљмнњопрстћуфхцчџш",
    "Kazakh": "аәбвгғдеёжзийкқлмнңоөпрстуұүфхһцчшщъыіьэюя",
}
_STRANGE = math.log(1e-4)
"""Of a letter that a language does not have."""
_RARE_LETTER = math.log(0.002)
_ILL = -8.0
"""Of a word that can be none."""
_FAULT = -4.0
"""Of a text whose letters no one language has."""
_SYMBOL = {True: math.log(0.1), False: math.log(5e-4)}
"""Of punctuation that is common, and of other signs."""
_COMMON_SYMBOLS = frozenset("“”‘’–—…«»„‚€£§©®™°•·¿¡\xa0、。，！？：；（）「」『』《》・ー～〜―‥　")
_PLAIN_SIGNS = frozenset("“”‘’–—…•€™\xa0")
"""Signs that a text may have without any letter beyond ASCII."""
_DASHED = re.compile(r"(?<!\S)(?:[–—](?=[^\W\d_])|’(?=[^\W\d_A-Za-z]))")
_GLUED = -3.0
"""Of a word with a dash or an apostrophe in front: that byte is a capital in other encodings."""
_SPACES = re.compile(r"[ \t\r\n]+")
_CAPITAL = {True: -1.0, False: -1.5}
"""Of a capital at the beginning of a word, and of another."""
_SINGLE = -2.0
"""Of a word of one letter in another alphabet than Latin."""
_OF_LANGUAGE = 0.6
"""How much the language's own likelihood counts, which letters were not drawn independently."""
_CLOSE = 15.0
"""By how much another language may be likelier by whole words; less if few letters speak for it."""
_MOST_CHARACTERS = 4_000
_COMMON_TRADITIONAL = "個們來為國說時會對過發後裡樣種經麼學當沒動還進開從實這現點間問話長東見"
_LIKELY_LETTER = -3.35
"""Mean log-probability of a letter that a text in a language reaches, and chance does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How well a text may be one in a language.

    Attributes:
        evidence: Its log-probability; comparable between readings of the same bytes.
        fault: Why it cannot be one, however well it does beside others; empty if it can.
    """

    language: str
    evidence: float
    fault: str


def judge_text(text: str) -> Judgement:
    """Judge the parts of a text that are not all ASCII."""
    tokens = _foreign_words(text)
    ill = sum(not is_well_formed(token) for token in tokens)
    characters = Counter(one for one in text if not one.isascii())
    scripts: Counter[str] = Counter()
    for one, count in characters.items():
        scripts[script_of(one)] += count
    letters = {one: count for one, count in characters.items() if script_of(one) in LETTERS}
    main = max(LETTERS, key=scripts.__getitem__)
    signs = sum(
        count * _SYMBOL[one in _COMMON_SYMBOLS]
        for one, count in characters.items()
        if one not in letters
    )
    signs += _GLUED * len(_DASHED.findall(text))
    if main == "LATIN":
        found = _latin(text, letters)
    elif main in ASIAN:
        found = _asian(letters, scripts)
    else:
        found = _alphabet(text, letters, main)
    fault = found.fault
    if not letters and not characters.keys() <= _PLAIN_SIGNS:
        fault = "no letters"
    elif ill > 0.005 * len(tokens):
        fault = "words that are none"
    return Judgement(
        language=found.language, evidence=found.evidence + signs + _ILL * ill, fault=fault
    )


def _foreign_words(text: str) -> list[str]:
    """Words with their punctuation that are not all ASCII; \x85 is no space here."""
    return [word for word in _SPACES.split(text) if not word.isascii()]


def _case(text: str) -> float:
    """What capitals beyond ASCII cost."""
    return sum(
        _CAPITAL[not word[:place].strip("«„“‘'\"([¿¡—–-")]
        for word in _foreign_words(text)
        for place, one in enumerate(word)
        if one.isupper() and not one.isascii()
    )


def _latin(text: str, letters: dict[str, int]) -> Judgement:
    """By the letters that a language has, and by the language that the whole words suggest."""
    ranked = dict(_identifier().rank(text[:_MOST_CHARACTERS]))
    top = max(ranked.values())
    lowered: Counter[str] = Counter()
    for one, count in letters.items():
        lowered.update(dict.fromkeys(one.lower(), 0))
        for part in one.lower():
            lowered[part] += count
    best = Judgement(language="", evidence=-math.inf, fault="")
    for language, chances in _latin_chances().items():
        if language not in ranked:
            continue
        evidence = _OF_LANGUAGE * (ranked[language] - top)
        evidence += sum(n * chances.get(one, _STRANGE) for one, n in lowered.items())
        if evidence > best.evidence:
            strange = sum(n for one, n in lowered.items() if one not in chances)
            close = ranked[language] >= top - min(_CLOSE, 4 + lowered.total())
            fault = "" if close else "another language by its words"
            if strange > 0.03 * lowered.total():
                fault = "letters of no one language"
                evidence += _FAULT
            best = Judgement(language=language, evidence=evidence, fault=fault)
    return Judgement(language=best.language, evidence=best.evidence + _case(text), fault=best.fault)


@functools.cache
def _latin_chances() -> dict[str, dict[str, float]]:
    """Log-probabilities of letters beyond ASCII: by rank, as in Zipf's law; rare ones less."""
    chances = {}
    for language, letters in _LATIN.items():
        usual, rare = letters.split("|")
        total = sum(1 / rank for rank in range(1, len(usual) + 1))
        chances[language] = {
            one: math.log(0.95 / rank / total) for rank, one in enumerate(usual, 1)
        } | {one: math.log(0.001) for one in rare}
    for cedilla, comma in ("şș", "ţț"):  # two ways to write Romanian, with the same bytes
        chances["ro"][cedilla] = chances["ro"][comma]
    return chances


@functools.cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    known = {str(one) for one in identifier.nb_classes}
    identifier.set_languages([one for one in _LATIN if one in known])
    return identifier


@functools.cache
def _ranked() -> dict[str, str]:
    """Letters of each language from the commonest on, as charset-normalizer has them."""
    from charset_normalizer.constant import FREQUENCIES

    return {language: "".join(letters) for language, letters in FREQUENCIES.items()}


def _alphabet(text: str, letters: dict[str, int], script: str) -> Judgement:
    """By how common the letters of an alphabet other than Latin are.

    The frequency of a letter follows from its rank (Gusein-Zade): log((n + 1) / rank) / n.

    Source: S. M. Gusein-Zade, "Frequency distribution of letters in the Russian language", 1988.
    """
    lowered: Counter[str] = Counter()
    for one, count in letters.items():
        lowered[one.lower()[0]] += count
    total = lowered.total()
    best = Judgement(language="", evidence=-math.inf, fault="no language known")
    for language, ranks in _ranked().items():
        if script_of(ranks[:1]) != script or "—" in language:
            continue
        own = _CYRILLIC.get(language, "")
        chances = {one: math.log(math.log(34 / rank) / 33) for rank, one in enumerate(ranks, 1)}
        strange = {
            one: count
            for one, count in lowered.items()
            if (one not in own if own else script_of(one) != script)
        }
        evidence = sum(
            count * (_STRANGE if one in strange else chances.get(one, _RARE_LETTER))
            for one, count in lowered.items()
        )
        if evidence > best.evidence:
            fault = "letters too rare" if evidence < _LIKELY_LETTER * total else ""
            if sum(strange.values()) > 0.005 * total:
                fault = "letters of no one language"
            best = Judgement(language=language, evidence=evidence, fault=fault)
    singles = sum(
        len(letters_in) == 1
        for word in _foreign_words(text)
        if (letters_in := [one for one in word if not one.isascii() and script_of(one)])
    )
    evidence = best.evidence + _case(text) + _SINGLE * singles
    fault = best.fault or ("too few letters" if total < 8 else "")
    return Judgement(language=best.language, evidence=evidence, fault=fault)


def _asian(letters: dict[str, int], scripts: Counter[str]) -> Judgement:
    """Chinese, Japanese or Korean, by how many characters are among the commonest."""
    total = sum(letters.values())
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if scripts["HANGUL"] > 0.5 * total:
        language, home = "Korean", {"HANGUL"}
    elif kana > 0.1 * total:
        language, home = "Japanese", {"HAN", "HIRAGANA", "KATAKANA"}
    else:
        language, home = "Chinese", {"HAN"}
    common, usual = _asian_characters(language)
    evidence = 0.0
    commons = strange = 0
    for one, count in letters.items():
        if script_of(one) not in home:
            evidence += count * _STRANGE * 1.5
            strange += count
        elif one in common:
            evidence += count * math.log(0.35 / 100)
            commons += count
        else:
            evidence += count * math.log(0.6 / 3000 if one in usual else 0.05 / 15000)
    fault = ""
    if strange > 0.02 * total:
        fault = "scripts that do not go together"
    elif commons < 0.12 * total:
        fault = "characters too rare"
    elif total < 8:
        fault = "too few characters"
    return Judgement(language=language, evidence=evidence, fault=fault)


@functools.cache
def _asian_characters(language: str) -> tuple[frozenset[str], frozenset[str]]:
    """The commonest hundred characters, and those of the first level of its standard."""
    ranks = _ranked()
    if language == "Korean":
        return frozenset(ranks["Korean"]), _level("euc_kr", 0xB0, 0xC8)
    if language == "Japanese":
        common = ranks["Japanese"] + ranks["Japanese——"][:60] + ranks["Japanese—"][:50]
        return frozenset(common), _level("euc_jp", 0xA4, 0xCF)
    common = ranks["Chinese"] + _COMMON_TRADITIONAL
    return frozenset(common), _level("gb2312", 0xB0, 0xD7) | _level("big5", 0xA4, 0xC6)


def _level(encoding: str, first: int, last: int) -> frozenset[str]:
    codes = (bytes((high, low)) for high in range(first, last + 1) for low in range(0x40, 0xFF))
    return frozenset("".join(code.decode(encoding, errors="ignore") for code in codes)[:9999])
