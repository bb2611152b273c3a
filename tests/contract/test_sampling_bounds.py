"""Every sampling field at its bounds is a value that SGLang accepts and its tensors can hold."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from schemas import JobRequest
from schemas.job import SamplingParameters

VOCABULARY = 320
_TENSORS = {
    "frequency_penalty": "float32",
    "min_p": "float32",
    "min_tokens": "int32",
    "presence_penalty": "float32",
    "repetition_penalty": "float32",
    "seed": "int64",
    "temperature": "float32",
    "top_k": "int32",
    "top_p": "float32",
}
"""What SGLang's sampling batch and penalizers make of a field's values."""
_SGLANG_NAMES = {
    "max_tokens": "max_new_tokens",
    "min_tokens": "min_new_tokens",
    "seed": "sampling_seed",
}
_OTHERWISE = {
    "ignore_eos": "a truth value",
    "logprobs": "a truth value",
    "max_tokens": "an integer of Python, never in a tensor",
    "response_format": "SGLang compiles a grammar from it",
    "stop": "texts",
    "top_logprobs": "an integer of Python, never in a tensor",
}


def _extremes(name: str) -> list[float]:
    """The least and the greatest value that the contract accepts, up to what JSON can say."""
    schema = SamplingParameters.model_json_schema()["properties"][name]
    rules = next((each for each in schema.get("anyOf", [schema]) if each["type"] != "null"), schema)
    least = rules.get("minimum", rules.get("exclusiveMinimum", -(2**80)))
    greatest = rules.get("maximum", rules.get("exclusiveMaximum", 2**80))
    if "exclusiveMinimum" in rules:
        least = 5e-324 if rules["type"] == "number" else least + 1
    if "exclusiveMaximum" in rules:
        greatest = greatest - 1
    return [least, greatest]


def test_every_field_is_accounted_for() -> None:
    assert {*_TENSORS, *_OTHERWISE} == set(SamplingParameters.model_fields)


@pytest.mark.parametrize("name", sorted(_TENSORS))
def test_the_bounds_survive_sglangs_own_checks_and_its_tensors(name: str) -> None:
    import torch
    from sglang.srt.sampling.sampling_params import SamplingParams

    for value in _extremes(name):
        kind: Any = int if _TENSORS[name].startswith("int") else float
        given = {"model": "m", "prompt": "p", "qos": "chat", "max_tokens": 1_048_576}
        job = TypeAdapter(JobRequest).validate_python(given | {name: kind(value)})
        held = torch.tensor([getattr(job, name)], dtype=getattr(torch, _TENSORS[name])).item()
        options = {"max_new_tokens": job.max_tokens, _SGLANG_NAMES.get(name, name): held}
        parameters = SamplingParams(**options)
        parameters.normalize(object())  # any tokenizer: without one there is no min_tokens
        parameters.verify(VOCABULARY)
