"""The loop by hand evaluates what it says: lm-eval's loss of the text, and its own, are those of the model."""

from __future__ import annotations

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from projects import REPOSITORY, ZOO

sys.path.append(str(REPOSITORY / "benchmarks"))
from hand_loop import Task, loss, rolling_loss

WINDOW, WINDOWS = 32, 5


@pytest.mark.parametrize("name", ["neox-0.1m", "llama-0.1m"])
def test_both_losses_are_the_models(name: str) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(ZOO / name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(ZOO / name)
    ids = torch.tensor(tokenizer((REPOSITORY / "README.md").read_text("utf-8"))["input_ids"][: WINDOW * WINDOWS])
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert tokenizer(text)["input_ids"] == ids.tolist()
    task = Task(ZOO / name, ids.view(WINDOWS, WINDOW), ids[:0], 2, torch.float32, False, text, tokenizer)
    with torch.inference_mode():
        # lm-eval scores every token: the first after the token that begins a text, that of a window after its last one.
        before = torch.cat([torch.tensor([tokenizer.bos_token_id or tokenizer.eos_token_id]), ids[:-1]])
        rows = model(before.view(WINDOWS, WINDOW)).logits.log_softmax(-1)
        every = -rows.flatten(0, 1).gather(1, ids[:, None]).mean()
        rows = model(ids.view(WINDOWS, WINDOW)).logits[:, :-1].log_softmax(-1)
        own = -rows.flatten(0, 1).gather(1, ids.view(WINDOWS, WINDOW)[:, 1:].reshape(-1, 1)).mean()
    assert rolling_loss(model, task) == pytest.approx(float(every), rel=1e-5)
    assert loss(model, task.ids, 2) == pytest.approx(float(own), rel=1e-5)
