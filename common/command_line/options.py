"""The base of every model that people fill in: complaints have one form, with option and range.

pydantic's own messages name bounds without units, and types nobody has chosen: each is worded anew
(`complaints`) from what is known of the field (`field_spec`).
"""

from __future__ import annotations

from typing import Any, Self

from cyclopts import Parameter
from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from pageferry.common.command_line.complaints import complaint
from pageferry.common.command_line.field_spec import FieldSpec, kinds_of


class Options(BaseModel):
    """A model that people fill in; what is wrong with it is told in our words."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate, and word anew what pydantic finds."""
        try:
            _check_digits(cls, data)
            return handler(data)
        except ValidationError as error:
            worded = [_worded(cls, each) for each in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, worded) from error


def _check_digits(cls: type[BaseModel], data: Any) -> None:
    """Refuse `1_000`, a number to Python and pydantic only. Raises `ValidationError`."""
    for name, field in cls.model_fields.items():
        text = data.get(name, data.get(field.alias)) if isinstance(data, dict) else None
        if not isinstance(text, str) or "_" not in text:
            continue
        for kind, refusal in ((int, "int_parsing"), (float, "float_parsing")):
            if kind in kinds_of(field.annotation) and _is_number(text):
                wrong = InitErrorDetails(type=refusal, loc=(name,), input=text)
                raise ValidationError.from_exception_data(cls.__name__, [wrong])


def _is_number(text: str) -> bool:
    """Check whether Python takes a text for a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _worded(cls: type[BaseModel], detail: ErrorDetails) -> InitErrorDetails:
    """Word one of pydantic's errors, with the option's name beside the text."""
    name, field = _field(cls, detail["loc"])
    option = None if name is None or field is None else _option(name, field)
    text = complaint(detail, None if field is None else FieldSpec.of(field), cls.model_fields)
    context = {"text": text, "option": option or "", "was": detail["type"]}
    if detail["type"] == "our_words":  # from a model within this one
        context = detail["ctx"]
    return InitErrorDetails(
        type=PydanticCustomError("our_words", "{text}", context),
        loc=detail["loc"],
        input=detail["input"],
    )


def _field(cls: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str | None, FieldInfo | None]:
    """Find the field that an error is about, by its name or alias; (None, None): none of them."""
    head = loc[0] if loc else None
    for name, field in cls.model_fields.items():
        if head in (name, field.alias):
            return name, field
    return None, None


def _option(name: str, field: FieldInfo) -> str:
    """Name the flag that sets a field."""
    for item in field.metadata:
        if isinstance(item, Parameter) and item.name:
            return item.name if isinstance(item.name, str) else next(iter(item.name))
    return "--" + name.replace("_", "-")
