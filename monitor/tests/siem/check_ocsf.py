"""Checks OCSF events, one JSON object a line, with a published validator of the schema (PyPI `ocsf-emitter`).

The validator's models let unknown attributes pass; this script does not: an attribute that the class does not have is a
mistake, except `actor` and `device`, which the profile "host" adds to Network Activity.
"""

import json
import sys

from ocsf_emitter import _models, validate
from pydantic import BaseModel

CLASSES = {
    2004: _models.DetectionFinding,
    4001: _models.NetworkActivity,
    6002: _models.ApplicationLifecycle,
    6008: _models.ApplicationError,
}
HOST_PROFILE = {"actor": _models.Actor, "device": _models.Device}


def unknown_attributes(value, path):
    if isinstance(value, list):
        for item in value:
            yield from unknown_attributes(item, path)
    if not isinstance(value, BaseModel) or type(value) is _models.Object:
        return
    for name in value.model_extra or {}:
        yield f"{path}.{name}"
    for name in type(value).model_fields:
        yield from unknown_attributes(getattr(value, name), f"{path}.{name}")


def problems(event):
    model = CLASSES.get(event.get("class_uid"))
    if model is None:
        yield f"class_uid {event.get('class_uid')} is none of ours"
        return
    event = dict(event)
    if "host" in event["metadata"].get("profiles", []):
        for name, profile_model in HOST_PROFILE.items():
            if name in event and name not in model.model_fields:
                yield from unknown_attributes(profile_model.model_validate(event.pop(name)), name)
    parsed = model.model_validate(event)
    validate(parsed)
    yield from unknown_attributes(parsed, "event")


def main():
    checked, failed = 0, 0
    for number, line in enumerate(sys.stdin, start=1):
        checked += 1
        try:
            found = list(problems(json.loads(line)))
        except Exception as error:
            found = [f"{error} {getattr(error, 'field_errors', '')}"]
        for problem in found:
            failed += 1
            print(f"line {number}: {problem}")
    print(f"{checked} events checked, {failed} problems")
    return 1 if failed or not checked else 0


sys.exit(main())
