"""bitlaw models: the models of a study."""

from __future__ import annotations

import argparse

from bitlaw.cli.base import Command, add_study
from bitlaw.cli.plan import open_plan


def _run(options: argparse.Namespace) -> int:
    plan = open_plan(options)
    sources = {row["model"]: row["source"] for row in plan.grid.table.spec["rows"]}
    models = [artifact for artifact in plan.grid.artifacts if artifact.stage == "model"]
    width = max(len(artifact.label) for artifact in models)
    for artifact in models:
        location = artifact.hints["model"]
        made = str(plan.root / artifact.payload)  # where this project makes the weights itself
        place = f"{location.get('pretrained', made)}{'@' + location['revision'] if location.get('revision') else ''}"
        print(f"{artifact.label:<{width}}  {sources[artifact.label]:<6}  {place}")
    return 0


COMMAND = Command(
    summary="list the models of a study and where they are",
    description="""\
List the models of the study, one a line: its name in tables and folders, its source, and where it is: a folder, or a
repository and revision of the Hugging Face hub, which a run downloads if it is not on this machine.""",
    epilog="""\
examples:
  bitlaw models               the study that params.yaml selects
  bitlaw models --study zoo   another one""",
    arguments=add_study,
    run=_run,
)
