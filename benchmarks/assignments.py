"""Whether the linears that `bitlaw advise --mixed` puts into the better format lose less than linears drawn at random.

Run: ``python benchmarks/assignments.py [--models NAME ...] [--sets N]``. For each model of the zoo, pair of formats and
share of the way between their sizes: the loss added, on 4,096 tokens of Python's pydoc in windows of 256, by the chosen
linears, by those that the noise itself would choose (not as a share of the weights), and by sets drawn at random that
have as many weights within 2 %, all rounded to nearest.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import machine

from bitlaw.advise.mixed import Linear, best_pair, stored_bits, weight_costs
from bitlaw.evaluation.nll import nll
from bitlaw.formats.grammar import parse
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model, load_tokenizer
from bitlaw.models.tokens import encode
from bitlaw.text import CORPORA

ROOT = Path(__file__).resolve().parents[1]
PAIRS = (("int3_b64", "int8_b64"), ("mxint3_b32", "int6_b64"))
SHARES = (0.25, 0.5, 0.75)
TOKENS = 4096
CLOSE = 0.02
TRIES = 5000


def text() -> str:
    """Return the evaluation text."""
    corpus = CORPORA["pydoc"]
    return corpus.read(corpus.Settings(source="pydoc"), ROOT)


def drawn(linears: Sequence[Linear], weights: int, count: int) -> list[frozenset[int]]:
    """Return up to ``count`` random sets of linears that have about as many weights."""
    chance, total = random.Random(0), sum(one.size for one in linears)
    found: list[frozenset[int]] = []
    for _ in range(TRIES):
        some = frozenset(at for at in range(len(linears)) if chance.random() < weights / total)
        if abs(sum(linears[at].size for at in some) - weights) <= CLOSE * total:
            found.append(some)
        if len(found) == count:
            break
    return found


def measure(folder: Path, whole: str, count: int) -> Iterator[tuple[str, str, float, float, float, float, float]]:
    """Yield pair, share, and losses added: by share of noise, by noise, mean and least of the random sets."""
    location = {"pretrained": str(folder), "revision": None}
    model, ids = load_model(location), encode(load_tokenizer(location), whole, TOKENS).ids
    modules = quantizable(model)
    power = [float(one.weight().double().square().mean()) for one in modules]
    whole_loss = nll(model, ids, 256, 256, 8).nll
    for low, high in PAIRS:
        linears, shares = weight_costs(folder, (low, high))
        noise = {name: [cost * p for cost, p in zip(costs, power, strict=True)] for name, costs in shares.items()}
        bits = {name: [stored_bits(name, one) for one in linears] for name in (low, high)}
        rounded = {
            name: {one.name: parse(name).fake_quantize(one.weight().contiguous()) for one in modules}
            for name in (low, high)
        }

        def added(taken: frozenset[int], low: str = low, high: str = high, rounded: dict = rounded) -> float:
            weights = {one.name: rounded[low if at in taken else high][one.name] for at, one in enumerate(modules)}
            with swapped(modules, weights):
                return nll(model, ids, 256, 256, 8).nll - whole_loss

        for share in SHARES:
            budget = share * sum(bits[low]) + (1 - share) * sum(bits[high])
            chosen = best_pair(linears, shares, bits, budget)[2]
            sets = drawn(linears, sum(linears[at].size for at in chosen), count)
            losses = [added(some) for some in sets]
            if losses:
                by_noise = added(best_pair(linears, noise, bits, budget)[2])
                yield low, high, share, added(chosen), by_noise, sum(losses) / len(losses), min(losses)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", help="models of the zoo (default: those of 0.4 M and 1.6 M)")
    parser.add_argument("--sets", type=int, default=15, help="random sets of each case (default: 15)")
    options = parser.parse_args()
    names = options.models or sorted(path.name for path in (ROOT / "data" / "zoo").iterdir() if "0.1m" not in path.name)
    print(machine(), end="\n\n")
    print("| model | formats | share | by share of noise | by noise | random, mean | random, least |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    whole, cases = text(), []
    for name in names:
        for low, high, share, *losses in measure(ROOT / "data" / "zoo" / name, whole, options.sets):
            cases.append(losses)
            print(f"| {name} | {low}, {high} | {share} | {' | '.join(f'{loss:.4f}' for loss in losses)} |", flush=True)
    better = [sum(one[at] < one[2] for one in cases) for at in (0, 1)]
    least = [sum(one[at] < one[3] for one in cases) for at in (0, 1)]
    print(f"\n{len(cases)} cases; lower than the random mean: {better[0]} by share of noise, {better[1]} by noise; ")
    print(f"lower than the best random set: {least[0]} and {least[1]}.")


if __name__ == "__main__":
    main()
