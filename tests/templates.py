"""Templates of CloudFormation, as what they create."""

from __future__ import annotations

import re
from typing import Any

_PLACE = re.compile(r"\$\{([^}]+)\}")
_NOTHING = {"Ref": "AWS::NoValue"}


def created(template: dict[str, Any], *, conditions: bool = True) -> dict[str, Any]:
    """Each resource's type and properties, by its id; two ways to say the same are one.

    All conditions hold, or none.
    """
    return {
        name: {"type": one["Type"], **_plain(one.get("Properties", {}), conditions)}
        for name, one in template["Resources"].items()
    }


def _plain(value: Any, conditions: bool) -> Any:
    match value:
        case {"Ref": name}:
            return f"<{name}>"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"<{name}.{attribute}>"
        case {"Fn::GetAtt": str(text)}:
            return f"<{text}>"
        case {"Fn::Sub": str(text)}:
            return _PLACE.sub(r"<\1>", text)
        case {"Fn::Join": [between, parts]}:
            return between.join(_plain(part, conditions) for part in parts)
        case {"Fn::If": [_, then, otherwise]}:
            return _plain(then if conditions else otherwise, conditions)
        case dict():
            return {
                key: _plain(one, conditions)
                for key, one in value.items()
                if not (isinstance(one, dict) and one.get("Fn::If", [0, 0, 0])[2] == _NOTHING)
                or conditions
            }
        case list():
            return [_plain(one, conditions) for one in value]
        case _:
            return value
