"""Documents that follow a JSON Schema, for hypothesis: of every property, so none is forgotten.

Covers what pydantic writes for the contract. An unknown keyword is an error, never ignored.
"""

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]
Documents = st.SearchStrategy[Any]

_ANNOTATIONS = {"title", "description", "default", "examples", "$defs", "$schema", "$id"}
_MAX_LENGTH = 6


def documents(schema: Schema, root: Schema | None = None) -> Documents:
    """Values that `schema` accepts, optional properties present or not."""
    root = schema if root is None else root
    if "$ref" in schema:
        return documents(_resolve(schema["$ref"], root), root)
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([documents(each, root) for each in schema[choice]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    rules = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    return _OF_TYPE[rules.pop("type")](rules, root)


def _resolve(reference: str, root: Schema) -> Schema:
    schema: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return schema


def _object(rules: Schema, root: Schema) -> Documents:
    names = rules.pop("propertyNames", None)
    additional = rules.pop("additionalProperties", True)
    longest = min(rules.pop("maxProperties", _MAX_LENGTH), 3)
    properties = rules.pop("properties", {})
    required = set(rules.pop("required", ()))
    _nothing_left(rules)
    if properties:
        strategies = {name: documents(each, root) for name, each in properties.items()}
        return st.fixed_dictionaries(
            {name: each for name, each in strategies.items() if name in required},
            optional={name: each for name, each in strategies.items() if name not in required},
        )
    keys = documents({"type": "string", **(names or {})}, root)
    values = documents(additional, root) if isinstance(additional, dict) else _any_json()
    return st.dictionaries(keys, values, max_size=longest)


def _any_json() -> Documents:
    scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5)
    keys = st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=2),
        max_leaves=4,
    )


def _array(rules: Schema, root: Schema) -> Documents:
    items = documents(rules.pop("items"), root)
    smallest = rules.pop("minItems", 0)
    largest = min(rules.pop("maxItems", smallest + 3), smallest + 3)
    _nothing_left(rules)
    return st.lists(items, min_size=smallest, max_size=largest)


def _string(rules: Schema, _root: Schema) -> Documents:
    if (form := rules.pop("format", None)) is not None:
        _nothing_left(rules)
        return {"uuid": st.uuids().map(str), "date-time": st.just("2026-11-21T09:30:00Z")}[form]
    if (pattern := rules.pop("pattern", None)) is not None:
        _nothing_left(rules)
        return st.from_regex(pattern.removesuffix("$") + r"\Z", fullmatch=True)
    smallest = rules.pop("minLength", 0)
    largest = min(rules.pop("maxLength", smallest + _MAX_LENGTH), smallest + _MAX_LENGTH)
    _nothing_left(rules)
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=smallest, max_size=largest)


def _integer(rules: Schema, _root: Schema) -> Documents:
    lowest = rules.pop("minimum", None)
    highest = rules.pop("maximum", None)
    if "exclusiveMaximum" in rules:
        highest = rules.pop("exclusiveMaximum") - 1
    if "exclusiveMinimum" in rules:
        lowest = rules.pop("exclusiveMinimum") + 1
    _nothing_left(rules)
    return st.integers(lowest, highest)


def _number(rules: Schema, _root: Schema) -> Documents:
    bounds = {
        "min_value": rules.pop("minimum", rules.get("exclusiveMinimum")),
        "max_value": rules.pop("maximum", rules.get("exclusiveMaximum")),
        "exclude_min": rules.pop("exclusiveMinimum", None) is not None,
        "exclude_max": rules.pop("exclusiveMaximum", None) is not None,
    }
    _nothing_left(rules)
    return st.floats(allow_nan=False, allow_infinity=False, **bounds)


def _nothing_left(rules: Schema) -> None:
    if rules:
        raise NotImplementedError(f"JSON Schema keywords {sorted(rules)}")


_OF_TYPE = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": lambda _rules, _root: st.booleans(),
    "null": lambda _rules, _root: st.none(),
}
