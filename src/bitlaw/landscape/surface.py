"""The mean negative log-likelihood of some tokens as a function of the quantizable weights, with its derivatives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call, vmap
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bitlaw.errors import UserError
from bitlaw.landscape.plain import plain
from bitlaw.landscape.vectors import Weights, dot
from bitlaw.models.linears import quantizable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PASS_BYTES = {"cpu": 2**23, "cuda": 2**31}
"""Weights and logits of the models that are computed at once: what the caches of a CPU hold, and what keeps a GPU busy.

A large matrix product gains nothing from company, and on a CPU it loses what was in the cache.
"""
MOST_AT_ONCE = 64


class Surface:
    """The loss of a model as a function of its quantizable weights; all other parameters stay as they are.

    The text is cut into disjoint windows; each scores all of its tokens but the first, as ``bitlaw.evaluation.nll``
    does with ``stride = window``. Attention is computed without fused kernels, which have no second derivatives. Each
    method counts what it costs in ``forwards`` and ``hvps``.

    Attributes:
        model: in evaluation mode, float32 or float64.
        windows: ``(n, length)`` int64, the tokens.
        linears: those that the weights are of.
        weights: the quantizable weights where the model stands, by linear, each ``(out, in)``; not to be written to.
        batch: windows at a time.
        forwards: forward passes over all windows so far, each of one set of weights.
        hvps: Hessian-vector products so far.
    """

    def __init__(self, model: PreTrainedModel, windows: torch.Tensor, batch: int) -> None:
        self.model, self.batch = model, batch
        self.windows = windows.to(model.device)
        self.linears = quantizable(model)
        self.weights: Weights = {linear.name: linear.weight() for linear in self.linears}
        self.forwards = self.hvps = 0

    @property
    def n_tokens(self) -> int:
        """Tokens whose loss is in the mean."""
        return self.windows.shape[0] * (self.windows.shape[1] - 1)

    @property
    def n_weights(self) -> int:
        """Weights that the loss is a function of."""
        return sum(w.numel() for w in self.weights.values())

    @cached_property
    def at_once(self) -> int:
        """How many sets of weights are computed in one pass: those that fit ``PASS_BYTES``, and 1 where none does."""
        if not self._stackable:
            return 1
        rows, length = min(self.batch, self.windows.shape[0]), self.windows.shape[1]
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        numbers = self.n_weights + 3 * rows * length * vocabulary
        return max(1, min(MOST_AT_ONCE, PASS_BYTES.get(self.windows.device.type, PASS_BYTES["cpu"]) // (4 * numbers)))

    def losses(self, points: Iterable[Weights], at_once: int | None = None) -> list[float]:
        """Return the loss at each of ``points`` (sets of weights like ``weights``), nats per token.

        Args:
            points: taken as they are needed, ``at_once`` at a time.
            at_once: computed together by ``torch.func.vmap`` over stacked weights; 1 is a plain loop. The values agree
                to the last digits of the model's dtype.
        """
        waiting, found = iter(points), list[float]()
        while group := list(islice(waiting, at_once or self.at_once)):
            self.forwards += len(group)
            with torch.no_grad(), self._differentiable():
                sums = self._sums_of(group)
            found += [value / self.n_tokens for value in sums.tolist()]
        return found

    @cached_property
    def loss(self) -> float:
        """The loss of the model as it stands, nats per token."""
        return self.losses([self.weights])[0]

    def derivatives(self, direction: Weights) -> tuple[Weights, Weights]:
        """Return the gradient, and the Hessian times ``direction``, both of the mean loss in nats per token.

        The gradient of the gradient's product with ``direction`` (Pearlmutter 1994, "Fast exact multiplication by the
        Hessian"), in reverse mode twice: every operation that a model is trained with has it, and it was measured to
        be faster than forward mode over reverse mode, see ``docs/landscape.md``.
        """
        self.hvps += 1
        every: dict[str, Any] = {"materialize_grads": True}  # zeros for a linear that the text does not reach
        gradient = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        product = {name: torch.zeros_like(w) for name, w in self.weights.items()}
        with torch.enable_grad(), self._differentiable():
            for windows in self._batches():
                weights = {name: w.detach().requires_grad_() for name, w in self.weights.items()}
                leaves = list(weights.values())
                first = torch.autograd.grad(self._sum(weights, windows), leaves, create_graph=True, **every)
                slope = torch.stack([(g * direction[name]).sum() for name, g in zip(weights, first, strict=True)]).sum()
                second = torch.autograd.grad(slope, leaves, **every)
                for name, g, h in zip(weights, first, second, strict=True):
                    gradient[name].add_(g.detach(), alpha=1 / self.n_tokens)
                    product[name].add_(h, alpha=1 / self.n_tokens)
        return gradient, product

    def hvp(self, direction: Weights) -> Weights:
        """Return the Hessian of the mean loss times ``direction``."""
        return self.derivatives(direction)[1]

    def expansion(self, step: Weights) -> tuple[float, float]:
        """Return ``g.d`` and ``d.H.d / 2`` for the step ``d``: the terms of the loss's second-order expansion, nats."""
        gradient, product = self.derivatives(step)
        return dot(gradient, step), dot(step, product) / 2

    def _sums_of(self, group: Sequence[Weights]) -> torch.Tensor:
        """Return the summed losses of each set of weights, ``(len(group),)`` float64."""
        totals = torch.zeros(len(group), dtype=torch.float64, device=self.windows.device)
        stacked = {name: torch.stack([w[name] for w in group]) for name in self.weights} if len(group) > 1 else {}
        for windows in self._batches():
            if stacked:
                totals += vmap(lambda w, x=windows: self._sum(w, x))(stacked)
            else:
                totals += self._sum(group[0], windows)
        return totals

    def _batches(self) -> Sequence[torch.Tensor]:
        return torch.split(self.windows, self.batch)

    def _sum(self, weights: Weights, windows: torch.Tensor) -> torch.Tensor:
        """Return the summed loss of ``windows`` under ``weights``, float64, no dimension."""
        parameters = {
            f"{linear.name}.weight": weights[linear.name].mT if linear.transposed else weights[linear.name]
            for linear in self.linears
        }
        called = {"input_ids": windows, "use_cache": False}
        logits = functional_call(self.model, parameters, (), called).logits[:, :-1].flatten(0, 1)
        return functional.cross_entropy(logits, windows[:, 1:].flatten(), reduction="none").double().sum()

    @cached_property
    def _stackable(self) -> bool:
        """Whether ``vmap`` can batch the model's operations; found out on two tokens."""
        windows = self.windows[:1, :2]
        with torch.no_grad(), self._differentiable():
            try:
                vmap(lambda w: self._sum(w, windows))({n: w.expand(2, *w.shape) for n, w in self.weights.items()})
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # what torch.func raises for an operation that it cannot batch
                return False
        return True

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(plain(self.model))
            yield


def cut(ids: torch.Tensor, window: int) -> torch.Tensor:
    """Return the disjoint windows of a text, ``(n, window)``; the last tokens are left out if they fill none.

    Args:
        ids: ``(tokens,)`` int64.
        window: tokens in each, at least 2.

    Raises:
        UserError: the text is shorter than one window.
    """
    if len(ids) < window:
        raise UserError(f"the landscape needs {window} tokens for a window, but the text has {len(ids)}")
    n = len(ids) // window
    return ids[: n * window].view(n, window)
