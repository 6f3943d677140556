"""bitlaw schema: the JSON Schema of params.yaml, from the typed parameters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bitlaw.artifacts import replace_file
from bitlaw.cli.base import Command
from bitlaw.errors import UserError


def study_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file under ``studies/``."""
    from bitlaw.study.params import Study

    schema = Study.model_json_schema()
    own = {name: {"$ref": f"#/properties/{name}"} for name in schema["properties"]}
    scales = {
        "description": "the same study with some keys replaced, by name; `scale` in params.yaml chooses one",
        "type": "object",
        "additionalProperties": {"type": "object", "properties": own, "additionalProperties": False},
    }
    schema["properties"] = {**schema["properties"], "scales": scales}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def params_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``params.yaml``: a study's keys, none required, and ``study``, which selects a file."""
    schema = study_schema()
    properties: dict[str, Any] = {
        "study": {"type": "string", "description": "name of a file under studies/"},
        "scale": {"type": "string", "description": "a scale of the study; full: as it stands"},
    }
    del schema["properties"]["scales"]
    return {
        **schema,
        "title": "params.yaml",
        "description": "Which study to run, and what to override in it.",
        "properties": properties | schema["properties"],
        "required": ["study"],
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", action="store_true", help="the schema of the files under studies/ instead")
    parser.add_argument("--write", metavar="FILE", help="write it there")
    parser.add_argument("--check", metavar="FILE", help="fail if the file differs from it")


def _run(options: argparse.Namespace) -> int:
    schema = study_schema() if options.study else params_schema()
    text = json.dumps(schema, indent=1, ensure_ascii=False) + "\n"
    if options.write:
        replace_file(Path(options.write), text.encode())
    elif options.check:
        file = Path(options.check)
        if not file.is_file() or file.read_text("utf-8") != text:
            raise UserError("out of date; run `bitlaw schema --write` on it", place=options.check)
    else:
        print(text, end="")
    return 0


COMMAND = Command(
    summary="print the JSON Schema of params.yaml or of a study",
    description="""\
Print the JSON Schema of params.yaml (or, with --study, of the files under studies/), made from the typed parameters.
Editors that know YAML schemas complete and check params.yaml with it; the committed copy is
workflow/schemas/params.schema.json.""",
    epilog="""\
examples:
  bitlaw schema               every key, its type, its default
  bitlaw schema --check workflow/schemas/params.schema.json""",
    arguments=_arguments,
    run=_run,
)
