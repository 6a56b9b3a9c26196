"""Scripts of letters, and whether a word is well formed.

Eight-bit encodings decode anything; a wrong one gives itself away by symbols inside words, two
alphabets in a word, and capitals behind small letters.
"""

import functools
import unicodedata

SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "THAI", "HIRAGANA", "KATAKANA", "HANGUL",
)  # fmt: skip
_IN_WORDS = frozenset("'’‘-–—…·/.,:;()_&+#=@*\u00ad\u200c\u200d")
_BEHIND = frozenset("°™®©²³ªº»”’…")
_OPENING = frozenset("¿¡«„‚“‘‹")
LETTERS = (*SCRIPTS, "HAN", "OTHER")
CASED = ("LATIN", "CYRILLIC", "GREEK")
ASIAN = ("HAN", "HIRAGANA", "KATAKANA", "HANGUL")


@functools.cache
def script_of(character: str) -> str:
    """The script of a letter, MARK for what joins it, ILL for what no text has; else empty."""
    code = ord(character)
    category = unicodedata.category(character)
    if category in ("Cc", "Cn", "Co", "Cs") and character not in "\t\n\r\x1b\x0b\x0c":
        return "ILL"
    if 0x2500 <= code < 0x25A0 or 0xFF61 <= code < 0xFFA0 or 0x3130 <= code < 0x3190:
        return "ILL"  # boxes, half-width kana, bare jamo: at home in forms, not in words
    name = unicodedata.name(character, "")
    if category[0] == "M" and name.startswith("COMBINING"):
        return "MARK"
    if category[0] not in "LM" or character in "ªºƒ":
        return ""
    if 0x4E00 <= code < 0xA000 or 0x3400 <= code < 0x4DC0 or 0x20000 <= code < 0x30000:
        return "HAN"
    return next((script for script in SCRIPTS if name.startswith(script)), "OTHER")


def is_well_formed(token: str) -> bool:
    """Whether a word with its punctuation, which is not all ASCII, can be a word."""
    scripts = [script_of(one) for one in token]
    if "ILL" in scripts:
        return False
    for index, (one, script) in enumerate(zip(token, scripts, strict=True)):
        before = scripts[index - 1] if index else ""
        behind = scripts[index + 1] if index + 1 < len(token) else ""
        if script in ("", "MARK"):
            if script == "" and not one.isascii() and not _may_stand(one, before, behind):
                return False
        elif before not in ("", "MARK", script):
            if not (before in ASIAN or script in ASIAN):
                return False  # two alphabets in a word
        elif before == script and script in CASED:
            previous = token[index - 1]
            if previous.islower() and one.isupper() and not (previous + one).isascii():
                return False
    return True


def _may_stand(one: str, before: str, behind: str) -> bool:
    """Whether a character that is no letter may stand between such neighbours."""
    if one in _IN_WORDS or before in ASIAN or behind in ASIAN:
        return True
    left, right = before not in ("", "MARK"), behind not in ("", "MARK")
    if not left and not right:
        return True
    if left and right:
        return False
    if one in _BEHIND:
        return left or one in "«»“”‘’…"
    if one in _OPENING:
        return right or one in "“‘«"
    return unicodedata.category(one)[0] in "PZ"
