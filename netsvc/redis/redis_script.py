"""A Lua script that Redis runs by its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RedisScript:
    """The text of a Lua script, and the SHA-1 digest by which Redis knows it once it is loaded.

    :ivar digest: in hexadecimal digits.
    """

    text: str = field(repr=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha1(self.text.encode()).hexdigest())
