"""Texts that were decoded wrongly before they were written to their file."""

import re

# What UTF-8 becomes when it is read as Windows-1252 (or Windows-1251) and written again.
_MOJIBAKE = re.compile(
    "[ÃÂ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"
    "|â€[\x80-\xbf™œ\x9d˜“”¦¢]"
    "|(?:[ÐÑ][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]){2}"
    "|(?:[РС][\xa0-\xbf‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—™љ›њќћџЎўЈҐЁЄЇІіґё№єјЅѕї]){2}"
    "|(?:[äåæçèé][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]{2}){2}"
    "|ï»¿|ï¿½|\ufffd"
)
_MOJIBAKE_STARTS = re.compile(  # one class after the other: searched ten times as fast
    "[ÃÂâÐÑРСäåæçèéï][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸѓЉЊЌЋЏђљњќћџЎўЈҐЁЄЇІіґё№єјЅѕї]"
)


def mojibake(text: str) -> str | None:
    """Find characters of a text that was decoded wrongly before it was written to its file.

    Returns:
        The first such place with what stands around it; None if there is none.
    """
    if text.isascii() or not (_MOJIBAKE_STARTS.search(text) or "\ufffd" in text):
        return None
    found = _MOJIBAKE.search(text)
    return text[max(0, found.start() - 10) : found.end() + 10] if found else None
