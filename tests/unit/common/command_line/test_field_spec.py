"""What is known of a field, in words."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pageferry.common.command_line.field_spec import FieldSpec, listed
from pageferry.common.command_line.options import Options
from pageferry.common.config.fields import Duration


class Asked(Options):
    limit: Annotated[Duration, Field(gt=0, le=3600)] | None = None


def test_the_range_of_an_optional_value_is_that_of_the_value() -> None:
    assert FieldSpec.of(Asked.model_fields["limit"]).range == "above 0s and at most 1h"


def test_a_list_for_people() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b", "c"])] == ["", "a", "a, b or c"]
