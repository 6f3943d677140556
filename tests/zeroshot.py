"""Small zero-shot tasks and how tests name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bitlaw.evaluation.harness import Protocol
from bitlaw.evaluation.task_files import Task

PROTOCOL = Protocol(limit=None, fewshot=0, seed=0, batch=4, context=64)
WORD = ["model", "text", "token", "café", "reads", "how", "likely", "each"]
CHOICE = [
    {"query": f"the {a} says {b}", "choices": [f"{WORD[n * k % 8]} {b}" for k in (1, 3, 5)], "gold": n % 3}
    for n, (a, b) in enumerate((a, b) for a in WORD for b in WORD[:4])
]
LAST = [{"context": f"the {a} reads a {b} and says", "continuation": b} for a in WORD for b in WORD[:3]]


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def entry(task: str, data: str | None = None) -> Any:
    from bitlaw.study.params import Task as Named

    return Named(task=task, data=data)


def pair(task: Task) -> tuple[Any, Any]:
    return task.spec(), task.hints()


ROLLING = """
task: local_wikitext
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{page}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
