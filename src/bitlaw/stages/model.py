"""A model: downloaded, trained or converted if need be, and described."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bitlaw.artifacts import write_json
from bitlaw.stage import Job

# Sources whose weights this stage writes itself: the module that does it, part of the key of these models only.
_WRITERS = {"train": "bitlaw.models.train", "gguf": "bitlaw.models.gguf_folder"}


class ModelStage:
    """Spec ``{"source": identity}``; result: ``describe``, training tokens, hash of the tokenizer."""

    suffix = ".json"

    def code(self, spec: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the module that makes the weights, if this stage makes them."""
        writer = _WRITERS.get(spec["source"]["source"])
        return (writer,) if writer else ()

    def run(self, job: Job) -> None:
        """Write the description, and the weights to ``job.payload`` where they are made here.

        Raises:
            UserError: the model is not there, or no causal language model, or has no tokenizer.
        """
        from bitlaw.models.describe import describe
        from bitlaw.models.files import n_tokens
        from bitlaw.models.load import load_tokenizer, local_folder, skeleton

        location = self._prepare(job)
        result = describe(skeleton(location))
        result["n_tokens"] = n_tokens(local_folder(location))
        # The text form of a fast tokenizer is all that it does, whatever files it was read from.
        form: str = load_tokenizer(location).backend_tokenizer.to_str()
        result["tokenizer_sha256"] = hashlib.sha256(form.encode()).hexdigest()
        write_json(job.out, job.header, result)

    def _prepare(self, job: Job) -> Mapping[str, Any]:
        """Make the weights if they are made here, and return where the model is."""
        identity, location = job.spec["source"], job.hints["model"]
        kind = identity["source"]
        if kind not in _WRITERS:
            return dict(location)
        writer = importlib.import_module(_WRITERS[kind])
        if kind == "train":
            writer.train_to_folder(identity, job.hints, job.payload)
        else:
            writer.gguf_to_folder(Path(location["gguf_file"]), job.payload)
        return {"pretrained": str(job.payload), "revision": None, "trust_remote_code": False}


STAGE = ModelStage()
