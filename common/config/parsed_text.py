"""Options that are parsed once: the text that was written, which knows what it means."""

from __future__ import annotations

from typing import Any

from pydantic_core import CoreSchema, core_schema


class ParsedText(str):
    """A text in flags, documents and comparisons; a subclass parses it when it is made."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.str_schema()  # in a document it is text
