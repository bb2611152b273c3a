"""Job documents that use every field of the contract, generated from its schema."""

from typing import Any

from hypothesis import strategies as st

from schemas import JobRequest
from tests.support.json_schema import documents

_SCHEMA = JobRequest.model_json_schema(by_alias=True)
_PROMPTS = ("messages", "prompt", "input_ids")
_QOS = st.sampled_from(
    [
        *("chat", {"ttft_ms": 500, "tbt_ms": 50}, {"ttlt_s": 60}, {"ttft_ms": 0.5, "tbt_ms": 0.5}),
        *({"ttlt_ms": 8000}, {"task": {"id": "t", "deadline": "2026-11-22T10:00:00.500000Z"}}),
        {"task": {"id": "t:1", "deadline": "2026-11-22T10:00:00Z", "call": 2, "calls_left": 0}},
    ]
)


def _property(name: str) -> st.SearchStrategy[Any]:
    """Values of a field that are not null, which would say the same as leaving it out."""
    schema = _SCHEMA["properties"][name]
    if "anyOf" in schema:
        schema = {"anyOf": [each for each in schema["anyOf"] if each.get("type") != "null"]}
    return documents(schema, _SCHEMA)


@st.composite
def _response_formats(draw: st.DrawFn) -> dict[str, Any]:
    """The type `json_schema` goes with a schema, and no other does."""
    form: dict[str, Any] = draw(_property("response_format"))
    form.pop("json_schema", None)
    if form["type"] == "json_schema":
        form["json_schema"] = draw(documents(_SCHEMA["$defs"]["JsonSchemaFormat"], _SCHEMA))
    return form


@st.composite
def job_documents(draw: st.DrawFn) -> dict[str, Any]:
    """A valid job as a producer may write it: one kind of prompt, any of the other fields."""
    prompt = draw(st.sampled_from(_PROMPTS))
    strategies = {
        name: _property(name)
        for name in _SCHEMA["properties"]
        if name == prompt or name not in _PROMPTS
    }
    strategies |= {"qos": _QOS, "response_format": _response_formats()}
    required = {*_SCHEMA["required"], prompt}
    chosen = [name for name in strategies if name in required or draw(st.integers(0, 2))]
    return {name: draw(strategies[name]) for name in chosen}
