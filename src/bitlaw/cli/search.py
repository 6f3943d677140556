"""bitlaw search: the largest share of the weights that can be quantized within a loss."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path

from bitlaw.cli.base import Command, add_study
from bitlaw.errors import UserError, unknown


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="NAME", help="a model of the study")
    parser.add_argument("--format", required=True, metavar="NAME", help="the format to quantize to")
    parser.add_argument("--method", metavar="NAME", help="how to round (default: the study's first method)")
    limit = parser.add_mutually_exclusive_group(required=True)
    limit.add_argument("--delta-nll", type=float, metavar="NATS", help="loss that may be added, nats per token")
    limit.add_argument("--nll", type=float, metavar="NATS", help="loss that may not be exceeded, nats per token")
    parser.add_argument(
        "--granularity", default="matmul", choices=("layer", "matmul"), help="what is chosen as a whole"
    )
    parser.add_argument("--select", default="loss", metavar="NAME", help="the order of sensitivity (default: loss)")
    parser.add_argument("--high", metavar="FORMAT", help="format of the rest (default: 16 bits)")
    parser.add_argument("--json", action="store_true", help="print the probes as JSON")
    add_study(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.mixing import SELECTS
    from bitlaw.study.load import find_root, load_study, validate
    from bitlaw.study.search import search
    from bitlaw.study.yaml_file import YamlFile

    loaded = load_study(find_root(Path(options.root) if options.root else None), options.study, options.scale)
    if options.select not in SELECTS or SELECTS[options.select].needs == "nothing":
        raise unknown("order", options.select, [name for name in SELECTS if SELECTS[name].needs != "nothing"])
    limits = {"nll": options.nll, "delta_nll": options.delta_nll}
    limits = {name: math.inf if value is None else value for name, value in limits.items()}
    if any(math.isnan(value) for value in limits.values()):
        raise UserError("the loss must be a number")
    methods = [entry for entry in loaded.study.methods if options.method in (None, entry.name)]
    method = methods[0].model_dump(mode="json") if methods else options.method or "rtn"
    entry = {"formats": [options.format], "methods": [method], "q_ratio": [0.5], "high": options.high}
    entry |= {"granularity": options.granularity, "select": options.select}
    # A study of its own, so that what the command line says is checked like what a file says.
    plain: dict[str, object] = {"models": [{"source": "zoo"}], "mixes": [entry]}
    mix = validate(plain, [YamlFile("the command line", plain, None)]).mixes[0]
    probes = []
    if not options.json:
        print(f"{'share':>8}{'bits':>8}{'nll':>10}{'added':>10}")
    for probe in search(loaded, options.model, mix, **limits):
        probes.append(probe)
        if not options.json:
            mark = "" if probe.meets else "  too much"
            print(
                f"{probe.share:8.4f}{probe.effective_bits:8.3f}{probe.nll:10.4f}{probe.delta_nll:10.4f}{mark}",
                flush=True,
            )
    best = max((probe for probe in probes if probe.meets), key=lambda probe: probe.share)
    if options.json:
        print(json.dumps({"best": asdict(best), "probes": [asdict(probe) for probe in probes]}))
    else:
        print(f"largest share within the loss: {best.share:.4f}, {best.delta_nll:+.4f} nats: {best.path}")
    return 0


COMMAND = Command(
    summary="find the largest share of a model's weights that can be quantized within a loss",
    description="""\
Find by bisection the largest share of a model's weights (Q_r) that can be in a format while the loss stays within
what is allowed. Linears, or whole layers, are quantized in an order of sensitivity: first those that cost least. What
is looked at are ordinary mixed cells in results/, so the same search again makes nothing, and one at another loss
little.""",
    epilog="""\
examples:
  bitlaw search --model gpt2-1.6m --format mxint4_b32 --delta-nll 0.05
  bitlaw search --model gpt2-1.6m --format int3_b64 --method gptq --delta-nll 0.05 --high int8_b64
  bitlaw search --model gpt2-1.6m --format mxint4_b32 --nll 3.4 --granularity layer --select curvature""",
    arguments=_arguments,
    run=_run,
)
