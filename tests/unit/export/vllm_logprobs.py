"""What vLLM makes of a checkpoint: run by a Python that has vLLM, which may lack all else that tests need.

``python vllm_logprobs.py FOLDER DTYPE TOKENS COUNT`` reads a checkpoint on the CPU and prints JSON: log probabilities
of the tokens of the prompt but the first, and ``COUNT`` tokens that it continues with, greedily.
"""

import json
import os
import sys

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}


def main(folder: str, dtype: str, tokens: str, count: str) -> None:
    from vllm import LLM, SamplingParams  # type: ignore[import-not-found]

    ids = json.loads(tokens)
    settings = {"enforce_eager": True, "max_model_len": 128, "max_num_seqs": 2, "skip_tokenizer_init": True}
    sampling = SamplingParams(max_tokens=int(count), temperature=0, prompt_logprobs=0, detokenize=False)
    (made,) = LLM(model=folder, dtype=dtype, **settings).generate([{"prompt_token_ids": ids}], sampling)
    scored = [each[token].logprob for token, each in zip(ids[1:], made.prompt_logprobs[1:], strict=True)]
    print("\n" + json.dumps({"prompt": scored, "continued": list(made.outputs[0].token_ids)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
