"""Names of spans and attributes are OpenTelemetry's where it has one."""

import pytest
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    gen_ai_attributes,
    messaging_attributes,
)

from niyama.tracing import names

CONVENTIONS = (error_attributes, gen_ai_attributes, messaging_attributes)
CONVENTIONAL = {
    name: value
    for name, value in vars(names).items()
    if isinstance(value, str) and value.startswith(("messaging.", "gen_ai.", "error."))
}


@pytest.mark.parametrize("name", CONVENTIONAL)
def test_a_conventional_attribute_is_named_as_in_the_conventions(name: str) -> None:
    [convention] = [module for module in CONVENTIONS if hasattr(module, name)]

    assert getattr(convention, name) == CONVENTIONAL[name]


def test_well_known_values_are_those_of_the_conventions() -> None:
    operations = messaging_attributes.MessagingOperationTypeValues
    generations = gen_ai_attributes.GenAiOperationNameValues

    assert messaging_attributes.MessagingSystemValues.KAFKA.value == names.KAFKA
    assert (operations.SEND.value, operations.PROCESS.value) == (names.SEND, names.PROCESS)
    assert generations.CHAT.value == names.CHAT
    assert generations.TEXT_COMPLETION.value == names.TEXT_COMPLETION


def test_everything_else_is_in_a_namespace_of_its_own() -> None:
    dotted = [
        value
        for name, value in vars(names).items()
        if name.isupper() and "." in value and name not in CONVENTIONAL
    ]

    assert all(value.startswith("niyama.") for value in dotted)
