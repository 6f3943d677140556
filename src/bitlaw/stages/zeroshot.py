"""Zero-shot tasks by a model, quantized or not, through lm-evaluation-harness."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from bitlaw.artifacts import read_json, write_json
from bitlaw.stage import Job


class ZeroshotStage:
    """Spec ``{"tasks": [{"name", "settings", "data"}], "limit", "fewshot", "seed", "batch", "dtype", "harness"}``.

    ``settings`` and ``data`` are SHA-256s; null for a task of the harness and its own data. ``harness`` is the version
    of lm-evaluation-harness, whose tasks change between versions.

    Parents: as of the evaluate stage. ``hints["tasks"]``: the files of each task.

    Result: ``tasks`` (see ``evaluation.harness.run_tasks``), ``accuracy``, their mean, and ``accuracy_stderr``.
    """

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return nothing: the code of the weights' format is in the key of the quantized weights."""
        return ()

    def run(self, job: Job) -> None:
        """Write the scores.

        Raises:
            UserError: another version of the harness, other data than the spec says, or a task that cannot be run.
        """
        from bitlaw.evaluation.harness import Protocol, check_version, mean_accuracy, run_tasks
        from bitlaw.mixing.mixed import cell_swap
        from bitlaw.models.linears import quantizable
        from bitlaw.models.load import load_model, load_tokenizer

        spec, location = job.spec, job.hints["model"]
        check_version(spec["harness"])
        context = read_json(job.one("model"))["context"]
        protocol = Protocol(spec["limit"], spec["fewshot"], spec["seed"], spec["batch"], context)
        model = load_model(location, spec["dtype"])
        tasks = list(zip(spec["tasks"], job.hints["tasks"], strict=True))
        with ExitStack() as stack:
            if job.inputs.get("quantized"):
                stack.enter_context(cell_swap(job.inputs, quantizable(model))[0]())
            records = run_tasks(model, load_tokenizer(location), tasks, protocol)
        accuracy, stderr = mean_accuracy(records)
        write_json(job.out, job.header, {"tasks": records, "accuracy": accuracy, "accuracy_stderr": stderr})


STAGE = ZeroshotStage()
