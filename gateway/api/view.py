"""The base of what the API shows."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer

Measured = Annotated[float, PlainSerializer(lambda value: round(value, 6), return_type=float)]
"""Without the digits that differences of times come with."""


class View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)
