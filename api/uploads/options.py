"""The options of a job, from form fields."""

from __future__ import annotations

import json

from pydantic import ValidationError

from api.problems import Problem, invalid
from api.schemas import JobOptions


def parse_options(fields: dict[str, str]) -> JobOptions:
    """Options from the JSON field ``options`` and from single fields, which win. Raises Problem."""
    return validate_options(given_options(fields))


def given_options(fields: dict[str, str]) -> dict[str, object]:
    """The same before they are validated. Raises Problem."""
    single = {name: value for name, value in fields.items() if name != "options"}
    try:
        given = json.loads(fields.get("options") or "{}")
    except (ValueError, RecursionError) as error:
        raise Problem(
            422, "invalid_options", "Invalid options", f"The field `options` is not JSON: {error}."
        ) from error
    if not isinstance(given, dict):
        raise Problem(422, "invalid_options", "Invalid options", "The field `options` must be a JSON object.")
    return given | single


def validate_options(given: dict[str, object]) -> JobOptions:
    unknown = sorted(set(given) - set(JobOptions.model_fields))
    if unknown:
        known = ", ".join(JobOptions.model_fields)
        detail = f"Unknown option {', '.join(map(repr, unknown))}; this server knows: {known}."
        raise Problem(422, "invalid_options", "Invalid options", detail)
    try:
        return JobOptions.model_validate(given)
    except ValidationError as error:
        raise invalid("invalid_options", "Invalid options", error.errors()) from error
