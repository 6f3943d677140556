"""The Triton kernels over logits against plain torch: on a GPU, or interpreted where Triton is installed."""

import pytest
import torch

from bitlaw.evaluation import logits as plain
from kernel_device import triton_device

DEVICE = triton_device()
GPU = DEVICE == "cuda"

from bitlaw.evaluation import cuda_logits  # noqa: E402  (it defines kernels)


@pytest.fixture(autouse=True)
def _plain_torch(monkeypatch):
    monkeypatch.setattr(plain, "_by_kernel", lambda logits: False)


def case(rows, vocabulary, dtype=torch.float32, spread=8.0):
    generator = torch.Generator().manual_seed(rows + vocabulary)
    p = (spread * torch.randn(rows, vocabulary, generator=generator)).to(dtype)
    q = (p + 0.3 * torch.randn(rows, vocabulary, generator=generator)).to(dtype)
    return p.to(DEVICE), q.to(DEVICE), torch.randint(vocabulary, (rows,), generator=generator).to(DEVICE)


def check(p, q, target):
    found, expected = cuda_logits.described(p, target), plain.described(p.double().float(), target)
    assert torch.equal(found[2], expected[2])
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(plain.token_losses(p, target), plain.described(p, target)[0])
    _, negentropy, top = expected
    found, expected = (
        cuda_logits.compared(q, p, negentropy, top, target),
        plain.compared(q, p, negentropy, top, target),
    )
    assert torch.equal(found[2], expected[2]) and found[2].dtype == torch.bool
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5)


DTYPES = [torch.float32, torch.float16, *([torch.bfloat16] if GPU else [])]  # the interpreter reads bfloat16 slowly


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [2, 5, 320, 2048, 5000, 9001])
def test_near_plain_torch(vocabulary, dtype):
    check(*case(7, vocabulary, dtype))


@pytest.mark.parametrize("spread", [0.0, 0.01, 60.0])
def test_flat_and_steep(spread):
    check(*case(6, 4500, spread=spread))


def test_a_ramp_whose_largest_comes_last():
    """Each tile has a larger maximum than the one before: all sums are shrunk each time."""
    p = torch.linspace(-200, 200, 9000).repeat(3, 1).to(DEVICE)
    q, target = p.roll(1, 0) * 0.99, torch.tensor([0, 5000, 8999], device=DEVICE)
    check(p, q, target)
    check(p.flip(1).contiguous(), q, target)


def test_ties_and_strides():
    p, q, target = case(8, 300)
    p[:, 7] = p[:, 250] = 99.0
    q[:, 250] = q[:, 9] = 99.0
    q[:4, 7] = 99.0
    check(p, q, target)
    agreed = cuda_logits.compared(q, p, *plain.described(p, target)[1:], target)[2]
    assert agreed.tolist() == [True] * 4 + [False] * 4
    check(p[::2], q[::2], target[::2])
    check(p.T.contiguous().T, q, target)
    assert [len(part) for part in cuda_logits.described(p[:0], target[:0])] == [0, 0, 0]


def test_bad_rows():
    p, q, target = case(6, 5000)
    q[0, 4999], q[1, 0], q[2, 17], q[3] = torch.nan, torch.nan, torch.inf, torch.nan
    expected = plain.compared(q, p, *plain.described(p, target)[1:], target)
    found = cuda_logits.compared(q, p, *plain.described(p, target)[1:], target)
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert one.isnan().tolist() == other.isnan().tolist() == [True] * 4 + [False] * 2
    assert torch.equal(found[2], expected[2])
    loss, negentropy, top = cuda_logits.described(q, target)
    assert loss.isnan().tolist() == negentropy.isnan().tolist() == [True] * 4 + [False] * 2
    assert bool(((top >= 0) & (top < 5000)).all())


def test_a_token_that_cannot_come():
    """Some models give tokens beside their vocabulary a logit of minus infinity."""
    p, q, target = case(5, 5000)
    p[:, 4000:] = q[:, 4000:] = -torch.inf
    target = target % 4000
    loss, negentropy, top = cuda_logits.described(p, target)
    expected = plain.described(p[:, :4000].contiguous(), target)
    assert torch.allclose(loss, expected[0], atol=1e-5) and torch.allclose(negentropy, expected[1], atol=1e-5)
    kl = cuda_logits.compared(q, p, negentropy, top, target)[1]
    assert torch.allclose(kl, plain.compared(q[:, :4000], p[:, :4000], *expected[1:], target)[1], atol=1e-5)


@pytest.mark.skipif(not GPU, reason="there is no GPU")
def test_taken_on_a_gpu(monkeypatch):
    monkeypatch.undo()
    p, _, target = case(5, 320)
    assert torch.equal(plain.token_losses(p, target), cuda_logits.described(p, target)[0])
