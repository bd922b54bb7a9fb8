"""Write the tables of docs/policies.md from the policy's JSON schema: `python docs/render_fields.py`."""

import json
from pathlib import Path
from typing import Any

from airflow_dbhygiene.policy import json_schema

PAGE = Path(__file__).with_name("policies.md")
PARTS = (
    "Policy",
    "OlderThan",
    "Expired",
    "Matching",
    "Parquet",
    "ObjectLock",
    "Encryption",
    "ColdTable",
    "Discard",
    "Guard",
    "Pace",
    "Notify",
)
HEAD = "| field | type | default | meaning |\n|---|---|---|---|"


def tables() -> dict[str, str]:
    """Give one Markdown table per part of a policy."""
    schema = json.loads(json_schema())
    properties = {"Policy": schema["properties"]} | {name: part["properties"] for name, part in schema["$defs"].items()}
    return {name: "\n".join([HEAD, *_rows(properties[name])]) for name in PARTS}


def render(page: str) -> str:
    """Put the tables between their markers."""
    for name, table in tables().items():
        start, end = f"<!-- fields of {name} -->", f"<!-- end of {name} -->"
        before, rest = page.split(start)
        page = f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"
    return page


def _rows(properties: dict[str, Any]) -> list[str]:
    return [
        f"| `{name}` | {_type(field)} | {_default(field)} | {_meaning(field)} |"
        for name, field in properties.items()
        if "const" not in field
    ]


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"])
    if "oneOf" in field:
        return " or ".join(_type(option) for option in field["oneOf"])
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "$ref" in field:
        return f"[{field['$ref'].rpartition('/')[2]}](#{field['$ref'].rpartition('/')[2].lower()})"
    if field["type"] == "array":
        return f"list of {_type(field['items'])}"
    names = {"string": "text", "integer": "integer", "number": "number", "boolean": "yes or no", "object": "mapping"}
    return names.get(field["type"], "none") + _limits(field)


def _limits(field: dict[str, Any]) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "from", "exclusiveMaximum": "below", "maximum": "up to"}
    limits = [f"{word} {field[name]:g}" for name, word in words.items() if name in field]
    return f", {' and '.join(limits)}" if limits else ""


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "" if field.get("type") == "object" else "required"
    value = field["default"]
    if value is None or value == []:
        return "none"
    return "its defaults" if isinstance(value, dict) else f"`{json.dumps(value)}`"


def _meaning(field: dict[str, Any]) -> str:
    return str(field["description"]).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
