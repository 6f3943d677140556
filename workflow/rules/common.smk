# The plan of this run, the pool of warm workers, and the helpers of the rules.

import sys
from pathlib import Path

from bitlaw.errors import UserError
from bitlaw.workflow import Workflow

# At the start of a line, `report` is a keyword.
from snakemake.io import report as shown

CAPTION = workflow.current_basedir.join("../report/figure.rst")

try:
    RUN = Workflow(Path(workflow.basedir), config, main=workflow.is_main_process)
except UserError as error:
    print(f"bitlaw: {error}", file=sys.stderr)
    sys.exit(2)


# Outputs are marked update(): else Snakemake removes a job's outputs before the job, also one that another run has made
# since the graph was built and is about to read.


def missing_parents(output):
    """Return the input function of a rule: the parents of an artifact that are missing too, and no others."""
    return lambda wildcards: RUN.inputs(output.format(**wildcards))


def mem_mb(wildcards, attempt):
    """Megabytes that the job of an artifact may use; more with each attempt."""
    return RUN.mem_mb(wildcards.key, attempt)


def runtime(wildcards, attempt):
    """Minutes that the job of an artifact may take; more with each attempt."""
    return RUN.runtime(wildcards.key, attempt)


def chunk_mem_mb(wildcards, attempt):
    """Megabytes that the job of a chunk may use; more with each attempt."""
    return RUN.chunk_mem_mb(f"{wildcards.model}/{wildcards.number}", attempt)


def chunk_runtime(wildcards, attempt):
    """Minutes that the job of a chunk may take; more with each attempt."""
    return RUN.chunk_runtime(f"{wildcards.model}/{wildcards.number}", attempt)


def figures(wildcards):
    """Return the page's figures where Snakemake runs no job; a run waits for none of them."""
    paths = [] if workflow.executor_plugin else RUN.figures()
    about = {"caption": CAPTION, "category": "Figures"}
    return [shown(path, **about, labels={"figure": Path(path).stem}) for path in paths]


# Jobs in other places, such as pods, get the variables that are named here and no others.
envvars:
    "BITLAW_PLAN",


wildcard_constraints:
    key="[0-9a-f]{32}",
    label=".+",


onstart:
    RUN.start((workflow.cores or 1) if workflow.local_exec else 0)


onsuccess:
    RUN.finish(success=True)
