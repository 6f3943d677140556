"""Untrained models of 5 and 25 M parameters, for measurements of time: larger relatives of those in ``data/zoo``.

Run: ``python benchmarks/untrained.py FOLDER [--models opt-5m neox-5m opt-25m neox-25m]``. Each becomes a folder in
FOLDER, with the tokenizer of its relative. What a cell takes does not depend on what the weights have learnt.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

ZOO = Path(__file__).resolve().parents[1] / "data" / "zoo"
SHAPES = {"5m": (256, 6, 4), "25m": (512, 8, 8)}
"""Width, blocks and heads, by size."""
FAMILIES = {"opt": ("ffn_dim", "word_embed_proj_dim"), "neox": ("intermediate_size", None)}
"""What the configuration calls the width of the MLP, and that of the embeddings if it is told."""
NAMES = [f"{family}-{size}" for size in SHAPES for family in FAMILIES]


def write(name: str, folder: Path) -> int:
    """Write the model ``name`` into ``folder`` and return the number of its parameters."""
    family, size = name.split("-")
    relative, (width, blocks, heads) = ZOO / f"{family}-1.6m", SHAPES[size]
    mlp, embeddings = FAMILIES[family]
    config = AutoConfig.from_pretrained(relative)
    shape = {"hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads, mlp: 4 * width}
    for key, value in (shape | ({embeddings: width} if embeddings else {})).items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.float16)
    model.save_pretrained(folder)
    for path in relative.glob("tokenizer*"):
        shutil.copy(path, folder)
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Write the models, and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", metavar="NAME", default=NAMES, choices=NAMES)
    arguments = parser.parse_args()
    for name in arguments.models:
        print(f"{arguments.folder / name}: {write(name, arguments.folder / name):,} parameters")


if __name__ == "__main__":
    main()
