"""SGLang's server arguments, as `workers.runtime.features` asks about them."""

from collections.abc import Mapping
from typing import Any

from sglang.srt.arg_groups.arg_utils import record_fields
from sglang.srt.arg_groups.overrides import resolution_result

from workers.runtime.feature import Argument


def given(server_args: Any) -> Mapping[str, Argument]:
    """As the user has set them."""
    return {
        field.name: Argument(
            getattr(server_args, field.name),
            field.default,
            type(server_args)._NS_BY_FIELD[field.name],
        )
        for field in record_fields(type(server_args))
    }


def resolved(server_args: Any) -> Mapping[str, Argument]:
    """As SGLang has completed them, for this model and device."""
    return {
        name: argument._replace(value=resolution_result(server_args, name))
        for name, argument in given(server_args).items()
    }
