"""Encodings from before Unicode: which one a text is in, if only one can be meant.

Every candidate of charset-normalizer's list that can decode the sample is judged by what it makes
of it (`plausibility`). One is certain if all that are plausible make the same text, or one is far
more likely than the others. Everything else is left to the user: a wrong guess is trained on.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tasks.data.reading.plausibility import Judgement, judge_text

CANDIDATES = (
    "cp1252", "gb18030", "big5", "cp950", "big5hkscs", "shift_jis", "cp932", "euc_jp", "cp949",
    "cp1251", "koi8_r", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic", "cp855",
    "cp1250", "iso8859_2", "cp852", "mac_latin2", "mac_roman", "cp850", "cp437", "latin_1",
    "iso8859_15", "cp1253", "iso8859_7", "cp737", "cp1254", "cp1255", "iso8859_8", "cp1256",
    "iso8859_6", "cp1257", "iso8859_4", "iso8859_13", "iso8859_16", "cp1258", "cp874",
)  # fmt: skip
"""Tried in this order; of those that make the same text the first is named."""

_RARE = frozenset(
    {"mac_cyrillic", "cp855", "cp852", "mac_latin2", "cp437", "cp737", "iso8859_4", "iso8859_6",
     "iso8859_8", "iso8859_13", "iso8859_16", "cp1258"}
)  # fmt: skip
_RARITY = -4.0
"""Of an encoding that few files were ever written in."""

LEAST_CONFIDENCE = 0.85
"""Of charset-normalizer (1 less the mess that it sees); below this a file is refused."""

_FAR_AHEAD = 10.0
"""Logarithm of the odds between the likeliest text and the next."""
_USUAL = 3
"""Lines of the sample in which a character stands that says nothing about another line."""
_SEGMENTS = re.compile(r'["\t\r\n]+|\\\\[nrt"]')


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What one encoding makes of the sample."""

    encoding: str
    text: str
    judgement: Judgement

    @property
    def sample(self) -> str:
        """The first of the text."""
        return self.text.split("\n", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The encoding that is certain, if one is, and the likeliest with what they make of it."""

    best: Candidate | None
    candidates: list[Candidate]
    reason: str
    confidence: float = 0.0


def detect(sample: list[bytes]) -> Verdict:
    """Find the encoding of lines that are not Unicode."""
    texts: dict[str, Candidate] = {}
    for name in CANDIDATES:
        text = _decoded(name, sample)
        if text and text not in texts:
            judgement = judge_text(text)
            if name in _RARE:
                judgement = replace(judgement, evidence=judgement.evidence + _RARITY)
            texts[text] = Candidate(encoding=name, text=text, judgement=judgement)
    candidates = sorted(texts.values(), key=lambda one: -one.judgement.evidence)
    if not candidates:
        return Verdict(best=None, candidates=[], reason="none decodes it")
    best, *others = candidates
    rivals = [
        one.encoding
        for one in others
        if one.judgement.evidence > best.judgement.evidence - _FAR_AHEAD
    ]
    confidence = _confidence(best.encoding, sample)
    reason = ""
    if rivals:
        reason = f"{' and '.join([best.encoding, *rivals][:3])} are about equally likely"
    elif best.judgement.fault:
        reason = f"{best.encoding} is the likeliest but makes {best.judgement.fault}"
    elif confidence < LEAST_CONFIDENCE:
        reason = f"confidence {confidence:.2f} in {best.encoding}, wanted {LEAST_CONFIDENCE}"
    if reason:
        return Verdict(best=None, candidates=candidates, reason=reason)
    reason = f"by its letters {best.encoding}, {best.judgement.language}"
    return Verdict(best=best, candidates=candidates, reason=reason, confidence=confidence)


def find_other(lines: Iterable[tuple[int, bytes]], best: Candidate) -> tuple[int, str] | None:
    """Find a line that is in another encoding than the rest of its file.

    Only lines of characters that are new or rare in the sample are looked at closely.

    Returns:
        Its number and the encoding; None if there is none.
    """
    seen = Counter(one for part in best.text.split("\n") for one in set(part))
    usual = {one for one, count in seen.items() if count >= _USUAL}
    for number, line in lines:
        characters = {one for one in line.decode(best.encoding) if not one.isascii()}
        if len(characters) < _USUAL or len(characters - usual) <= len(characters) / 2:
            continue
        other = detect([line.strip(b"\r\n")]).best
        own = judge_text(_decoded(best.encoding, [line.strip(b"\r\n")]))
        if other and own.fault and other.judgement.evidence > own.evidence + 2 * _FAR_AHEAD:
            return number, other.encoding
    return None


def _decoded(encoding: str, sample: list[bytes]) -> str:
    """The parts of a sample that are not ASCII, each once; empty if it is not in the encoding."""
    try:
        decoded = [line.decode(encoding) for line in sample]
    except UnicodeError:
        return ""
    parts = (part.strip(" ") for line in decoded for part in _SEGMENTS.split(line))
    return "\n".join(dict.fromkeys(part for part in parts if not part.isascii()))


def _confidence(encoding: str, sample: list[bytes]) -> float:
    """How clean charset-normalizer finds the decoded text."""
    from charset_normalizer import from_bytes

    found = from_bytes(
        b"\n".join(sample), cp_isolation=[encoding], enable_fallback=False, threshold=1.0
    ).best()
    return 0.0 if found is None else 1 - found.percent_chaos / 100
