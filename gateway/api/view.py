"""The base of what the API shows."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, from_attributes=True)
