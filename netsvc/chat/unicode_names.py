"""Names in any script, such as Chinese. Names that look alike count as the same name.

A name must fit PRECIS's username profile (RFC 8265), which maps full-width letters and refuses spaces, symbols and text
of mixed direction. Names that look alike have the same skeleton (UTS #39).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from confusable_homoglyphs.confusables import confusables_data
from precis_i18n import get_profile

from netsvc.chat.names import NAME_MAX, InvalidNameError, Names


class UnicodeNames(Names):
    """Names of 1 to 24 bytes of UTF-8: letters and digits of any script, ``_`` and ``-``."""

    def __init__(self) -> None:
        self._profile = get_profile("UsernameCasePreserved")
        super().__init__()

    def keys(self, name: str) -> set[str]:
        # A capital letter resembles other letters than its small letter does. So both forms are compared. A small i
        # does not look like an l, but a capital I does, and both are the same name.
        skeletons = (_skeleton(form).casefold() for form in (name, name.casefold()))
        return {_skeleton(skeleton).casefold().replace("i", "l") for skeleton in skeletons}

    def parse(self, text: str, what: str) -> str:
        try:
            name: str = self._profile.enforce(text) if text else ""
        except UnicodeEncodeError:
            name = ""
        ascii_part = "".join(filter(str.isascii, name)).translate({ord("_"): None, ord("-"): None})
        if (
            not 0 < len(name.encode("utf-8")) <= NAME_MAX
            or (ascii_part and not ascii_part.isalnum())
            or unicodedata.category(name[0]).startswith("M")  # it would combine with the character before the name
        ):
            raise InvalidNameError(f"{what} is 1 to {NAME_MAX} bytes of letters, digits, _ and -")
        return name


def _skeleton(text: str) -> str:
    """Return the skeleton of UTS #39, section 4. It is the same for texts that look alike.

    The data contains composed characters as well, which the procedure of UTS #39 decomposes first. Here they are looked
    up before they are decomposed.
    """
    for _ in range(2):
        text = unicodedata.normalize("NFD", "".join(map(_prototype, text)))
    return text


@lru_cache(maxsize=4_096)
def _prototype(character: str) -> str:
    """Return the prototype of the characters that look like this one.

    The data lists for a prototype all characters that look like it, and for any other character its prototype.
    """
    alike = confusables_data.get(character, ())
    if len(alike) != 1:
        return character
    other: str = alike[0]["c"]
    if len(confusables_data[other]) > 1:
        return other
    return min(character, other, key=lambda one: (-len(one), one))  # for a pair without a prototype, either one will do
