# The plan of this run, the pool of warm workers, and the helpers of the rules.

import sys
from pathlib import Path

from bitlaw.errors import UserError
from bitlaw.workflow import Workflow

try:
    RUN = Workflow(Path(workflow.basedir), config, main=workflow.is_main_process)
except UserError as error:
    print(f"bitlaw: {error}", file=sys.stderr)
    sys.exit(2)


def missing_parents(output):
    """Return the input function of a rule: the parents of an artifact that are missing too, and no others."""
    return lambda wildcards: RUN.inputs(output.format(**wildcards))


wildcard_constraints:
    key="[0-9a-f]{32}",
    label=".+",


onstart:
    RUN.start(workflow.cores or 1)


onsuccess:
    RUN.finish(success=True)


onerror:
    RUN.finish()
