"""Results for programs: one JSON object on each line."""

from __future__ import annotations

import json
from collections.abc import Mapping


def json_line(fields: Mapping[str, object]) -> str:
    """Return an object on one line, without the line end.

    The line is ASCII, with other characters escaped. So a terminal interprets nothing in it, whatever its encoding is.

    :param fields: the names of the fields, in snake_case, and their values. Seconds are floats. An unknown value is
        None. Where a command has several kinds of objects, the first field is ``type``.
    """
    return json.dumps(fields, separators=(", ", ": "), allow_nan=False)
