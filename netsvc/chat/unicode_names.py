"""Names in any script, for rooms that speak Chinese, say; those that look like another one count as the same.

What a name may hold is PRECIS's username profile (RFC 8265), which maps full-width letters, and refuses blanks, symbols
and text that runs both ways; names that differ by no more than their looks have the same skeleton (UTS #39).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from confusable_homoglyphs.confusables import confusables_data
from precis_i18n import get_profile

from netsvc.chat.names import NAME_MAX, NameRefusedError, Names


class UnicodeNames(Names):
    """Names of 1 to 24 bytes of UTF-8: letters and digits of any script, ``_`` and ``-``."""

    def __init__(self) -> None:
        self._profile = get_profile("UsernameCasePreserved")
        super().__init__()

    def keys(self, name: str) -> set[str]:
        # What it looks like as it is written, and as it might be: a capital looks like others than its small letter.
        # No small i looks like an l, but the capital one does, and both are the same name.
        looks = (_skeleton(written).casefold() for written in (name, name.casefold()))
        return {_skeleton(look).casefold().replace("i", "l") for look in looks}

    def parse(self, text: str, what: str) -> str:
        try:
            name: str = self._profile.enforce(text) if text else ""
        except UnicodeEncodeError:
            name = ""
        ascii_part = "".join(filter(str.isascii, name)).translate({ord("_"): None, ord("-"): None})
        if (
            not 0 < len(name.encode("utf-8")) <= NAME_MAX
            or (ascii_part and not ascii_part.isalnum())
            or unicodedata.category(name[0]).startswith("M")  # it would stand on what is before it
        ):
            raise NameRefusedError(f"{what} is 1 to {NAME_MAX} bytes of letters, digits, _ and -")
        return name


def _skeleton(text: str) -> str:
    """Return the skeleton of UTS #39, section 4, which is the same for texts that look alike.

    Its data knows composed characters, too, which its procedure takes apart at once: here they are looked up before.
    """
    for _ in range(2):
        text = unicodedata.normalize("NFD", "".join(map(_prototype, text)))
    return text


@lru_cache(maxsize=4_096)
def _prototype(character: str) -> str:
    """Return what stands for all the characters that look like this one.

    The data lists for each character those that look like it: for a prototype all of them, for any other its prototype.
    """
    alike = confusables_data.get(character, ())
    if len(alike) != 1:
        return character
    other: str = alike[0]["c"]
    if len(confusables_data[other]) > 1:
        return other
    return min(character, other, key=lambda one: (-len(one), one))  # of two alone, either will do
