"""What vLLM makes room for: run by a Python that has vLLM, which may lack all else that tests need.

``python vllm_places.py ROWS COLUMNS FOLDER...`` reads the ``config.json`` of checkpoints by vLLM's own code and prints,
for each, JSON: the scheme that it takes, and the shapes of the parameters of a linear of ``(ROWS, COLUMNS)``, by name.
Kernels, which need a GPU for most schemes, are stood in for. For a layout without a scheme it ends with vLLM's error.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace


def stand_in(*modules: object) -> None:
    kernel = SimpleNamespace(input_quant_key=lambda: None, __name__="none")
    for module in modules:
        for name in vars(module).copy():
            if name.startswith("init_") and name.endswith("_linear_kernel"):
                setattr(module, name, lambda *_, **__: kernel)
            elif name == "choose_mp_linear_kernel":
                setattr(module, name, lambda *_, **__: type("Kernel", (), {"__init__": lambda *_, **__: None}))
            elif name == "expose_input_quant_key":
                setattr(module, name, lambda *_, **__: None)


def main(rows: str, columns: str, *folders: str) -> None:
    import torch
    from vllm.model_executor import parameter  # type: ignore[import-not-found]
    from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors, schemes

    names = [name for name in sys.modules if name.startswith(f"{schemes.__name__}.")]
    stand_in(*(sys.modules[name] for name in names))
    parameter.get_tensor_model_parallel_rank = lambda: 0
    parameter.get_tensor_model_parallel_world_size = lambda: 1
    out, into = int(rows), int(columns)
    found = []
    for folder in folders:
        config = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]
        read = compressed_tensors.CompressedTensorsConfig.from_config(config)
        (parts,) = list(read.target_scheme_map.values())[:1]
        scheme = read._get_scheme_from_parts(parts["weights"], parts["input_activations"], format=parts["format"])
        layer = torch.nn.Module()
        scheme.create_weights(
            layer,
            output_size=out,
            input_size=into,
            output_partition_sizes=[out],
            input_size_per_partition=into,
            params_dtype=torch.float16,
            weight_loader=lambda *_: None,
        )
        shapes = {name: list(part.shape) for name, part in layer.named_parameters()}
        found.append({"scheme": type(scheme).__name__, "shapes": shapes})
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
