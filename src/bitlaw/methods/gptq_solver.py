"""The GPTQ solver: Frantar et al. 2023 (arXiv 2210.17323), Algorithm 1, for any block format.

What depends on a layer's inputs alone is a ``Factor``, made once and used by all formats. All linear algebra is in
float32, as in the authors' code. The weights are kept transposed, so that a column is contiguous, and columns are
worked on in lazy blocks: inside, ``kernels.gptq_block`` updates later columns one error at a time; the columns behind a
lazy block get the errors of all its columns by one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from bitlaw.formats import kernels
from bitlaw.formats.base import Quantized
from bitlaw.formats.scales import Scales
from bitlaw.methods.gptq_factor import DAMPING_FACTOR

if TYPE_CHECKING:
    from torch import Tensor

    from bitlaw.formats.base import Format
    from bitlaw.methods.gptq_factor import Factor


def solve(
    w: Tensor,
    factor: Factor,
    fmt: Format,
    *,
    block_columns: int,
    static_groups: bool,
    whole_block: bool = False,
    energy: float | None = None,
) -> tuple[Quantized, dict[str, Any]]:
    """Return ``w`` rounded to ``fmt`` so that ``tr((W - Q) H (W - Q)^T)`` is small, and how it went.

    As in the authors' code, columns whose input is always zero are set to zero first. Scales belong to blocks of
    columns in the matrix's own order, whatever order the columns are worked on, so the result needs no stored
    permutation. (With ``act_order`` and without ``static_groups`` the authors' code instead forms groups of columns in
    the permuted order; all other combinations agree with it.) A scale taken on reaching a block is read from fully
    updated weights, also where blocks are narrower than ``block_columns`` or straddle its borders.

    A block that decodes to NaN (a NaN or an infinity among its weights, a scale that cannot be stored) hands no error
    on: all other blocks are what they would be if that block's rounding were exact.

    Args:
        w: ``(out, in)``, any floating dtype; not changed.
        factor: of the layer's Hessian.
        fmt: the format.
        block_columns: columns a lazy update covers.
        static_groups: take all scales from the weights before any update, else that of a block on reaching it.
        whole_block: round all columns of a format's block at once, as Sharify et al. 2024 (arXiv 2405.07135),
            Algorithm 1: the errors of a block b are ``(W_b - Q_b) U_bb^-1``.
        energy: ``tr(W H W^T)`` of the weights as given.

    Returns:
        The quantized matrix, and: ``damping`` as used; ``damping_tries``; ``damping_factor``; ``dead_columns``, how
        many; ``proxy_loss``, ``tr((W - Q) H (W - Q)^T) / energy``, a float64 tensor without dimensions on the weights'
        device, ``None`` without ``energy``.

    Raises:
        ValueError: if the shapes do not fit, or for ``whole_block`` with an order of its own.
    """
    rows, columns = w.shape
    if factor.upper.shape != (columns, columns):
        expected, found = f"{columns} x {columns}", f"{len(factor.upper)} x {len(factor.upper)}"
        raise ValueError(f"weights of {rows} x {columns} need the factor of a {expected} Hessian, not a {found} one")
    work = _Work(w, factor, fmt, static_groups, whole_block)
    lost = work.run(block_columns, measured=energy is not None)
    codes = work.codes if work.in_order else work.codes[work.position]
    quantized = Quantized(fmt, codes.T.contiguous(), work.scales)
    if energy is not None:  # decoded once, for the loss and for who wants the weights
        quantized = replace(quantized, known=quantized.weight())
    return quantized, {
        "damping": factor.damping,
        "damping_tries": factor.damping_tries,
        "damping_factor": DAMPING_FACTOR,
        "dead_columns": factor.dead_columns,
        "proxy_loss": None if energy is None else _proxy_loss(w, quantized, factor, lost, energy),
    }


def _proxy_loss(w: Tensor, quantized: Quantized, factor: Factor, lost: Tensor, energy: float) -> Tensor:
    """Return ``tr((W - Q) H (W - Q)^T) / energy``, (), without a product of matrices and without waiting for a GPU.

    In working order ``W - Q = E U`` with the errors E, so ``|E|^2 = tr((W - Q) (H' + shift I) (W - Q)^T)``; ``lost`` is
    ``|E|^2``. H' differs from H in the dead columns alone, where it has 1 and W counts as zero.
    """
    error = quantized.weight() - _live(w, factor)
    squares = error.square_().sum(0).double()
    loss = lost - factor.shift * squares.sum()
    if factor.dead_columns:
        loss = loss - squares[factor.dead].sum()
    loss = loss.clamp_min(0.0)  # below it by rounding
    # Without any output there is none to lose; a loss against a total of zero is infinite.
    return loss / energy if energy else torch.where(loss == 0, 0.0, loss * torch.inf)


def _squares(errors: Tensor) -> Tensor:
    """Return the sum of squares of ``errors``, which are lost: of rows in float32, and of these sums in float64."""
    return errors.square_().sum(1).sum(dtype=torch.float64)


def _empty_scales(fmt: Format, w: Tensor) -> Scales:
    """Return the scales of ``w`` with block parts that are yet to be written."""
    rows, blocks = fmt.grid((w.shape[0], w.shape[1]))
    # The scales of one row have the dtypes.
    parts = {name: part.new_empty((rows, blocks)) for name, part in fmt.fit(w[:1]).block.items()}
    return Scales(parts, fmt.shared(w))


def _live(w: Tensor, factor: Factor) -> Tensor:
    """Return ``w`` in float32 with zeros in dead columns; ``w`` itself if that is the same."""
    w = w.detach().float()
    # A product keeps a NaN or an infinity in a dead column visible, where assigning zero would hide it.
    return w * (~factor.dead).float() if factor.dead_columns else w


class _Work:
    """One matrix on its way: columns in working order are rows here.

    Attributes:
        w: weights, ``(in, out)`` float32; updated by the errors of all finished lazy blocks.
        codes: ``(in, out)``.
        scales: in the matrix's own order; a running scale is written when its block is reached.
        position: of each column in the working order.
        blocks: to which block of the format the column of each step belongs.
        static: what the scales of all blocks mean, if they are known from the start; made once, for it costs launches.
        turned: block parts as ``(blocks, out)``, for kernels that take scales themselves.
        taken: the blocks whose scales these took.
        block_of: the same on the device of the weights, where a list would have to be copied to at each use.
    """

    def __init__(self, w: Tensor, factor: Factor, fmt: Format, static_groups: bool, whole_block: bool) -> None:
        columns = w.shape[1]
        self.fmt, self.upper = fmt, factor.upper
        self.in_order = factor.in_order
        order = list(range(columns)) if self.in_order else factor.order.tolist()
        if whole_block and not self.in_order:
            raise ValueError("whole_block needs the columns from left to right: act_order must be false")
        live = _live(w, factor)
        turned = live.T.clone(memory_format=torch.contiguous_format)
        self.w = turned if self.in_order else turned[factor.order]
        self.codes = torch.empty_like(self.w, dtype=torch.int8 if fmt.element.signed else torch.uint8)
        self.position = torch.argsort(factor.order)
        self.width = columns if fmt.block == "none" else fmt.width(columns)
        self.blocks = [column // self.width for column in order]
        self.block_of = factor.order // self.width
        # One block a row, or one for all, is reached before any update: its scale is the static one.
        self.running = not static_groups and self.width < columns
        self.scales = _empty_scales(fmt, live) if self.running else fmt.fit(live)
        self.whole_block = whole_block
        self.static: tuple[Tensor, Tensor | None, Tensor | None] | None = None
        self.turned: dict[str, Tensor] = {}
        self.taken: list[int] = []

    def run(self, block_columns: int, measured: bool) -> Tensor:
        """Round all columns; return the sum of the squares of the errors, (), if it is ``measured``, or else zero."""
        columns = len(self.w)
        if self.whole_block:  # a lazy block is one or more whole blocks
            block_columns = max(1, block_columns // self.width) * self.width
        # On a CPU the errors of a lazy block stay in cache; on a GPU sums at the end save launches in the loop.
        kept = columns if self.w.is_cuda else min(block_columns, columns)
        errors = self.w.new_empty((kept, self.w.shape[1]))
        reached: set[int] = set()
        lost = []
        for start in range(0, columns, block_columns):
            stop = min(start + block_columns, columns)
            found = errors[start:stop] if self.w.is_cuda else errors[: stop - start]
            if not self._all_groups(start, stop, found):
                for first, last in self._segments(start, stop, reached):
                    self._reach(first, start, found, reached)
                    self._round(first, last, found[first - start : last - start])
                    self._spread(first, last, stop, found[first - start : last - start])
            self._spread(start, stop, columns, found)
            if measured and not self.w.is_cuda:
                lost.append(_squares(found))
        self._take_scales()
        if measured and self.w.is_cuda:
            lost.append(_squares(errors))
        return torch.stack(lost).sum() if lost else self.w.new_zeros((), dtype=torch.float64)

    def _spread(self, first: int, last: int, stop: int, errors: Tensor) -> None:
        """Update the columns from ``last`` to ``stop`` by the errors of those from ``first`` to ``last``."""
        if last < stop:
            self.w[last:stop].addmm_(self.upper[first:last, last:stop].T, errors, alpha=-1)

    def _all_groups(self, start: int, stop: int, errors: Tensor) -> bool:
        """Round a lazy block of whole groups with running scales, and return true, or false if no kernel can."""
        whole = start % self.width == 0 and (stop % self.width == 0 or stop == len(self.w))
        if not (whole and self.running and self.in_order) or self.whole_block:
            return False
        blocks = slice(start // self.width, -(-stop // self.width))
        if not self.turned:
            self.turned = {name: part.T.contiguous() for name, part in self.scales.block.items()}
        parts = {name: part[blocks] for name, part in self.turned.items()}
        w, upper = self.w[start:stop], self.upper[start:stop, start:stop]
        codes = self.codes[start:stop]
        if not kernels.gptq_groups(self.fmt, self.scales.shared, w, upper, parts, self.width, codes, errors):
            return False
        self.taken += range(blocks.start, blocks.stop)
        return True

    def _take_scales(self) -> None:
        """Copy the scales that kernels took to where they belong: once, for copies in the loop would cost launches."""
        every = len(self.taken) == -(-len(self.w) // self.width)
        for name, part in self.turned.items():
            if every:
                self.scales.block[name].copy_(part.T)
            else:
                taken = torch.tensor(self.taken, dtype=torch.int64, device=self.w.device)
                self.scales.block[name][:, taken] = part[taken].T

    def _segments(self, start: int, stop: int, reached: set[int]) -> Iterator[tuple[int, int]]:
        """Yield the runs of columns that can be rounded before another scale must be taken, or whole blocks."""
        first, known = start, reached | {self.blocks[start]}
        if self.running or self.whole_block:
            for at in range(start, stop):
                if self.blocks[at] not in known:
                    known.add(self.blocks[at])
                    yield first, at
                    first = at
        yield first, stop

    def _reach(self, first: int, start: int, errors: Tensor, reached: set[int]) -> None:
        """Take the scale of the block of column ``first``, if it is a running one, from fully updated weights."""
        block = self.blocks[first]
        if not self.running or block in reached:
            return
        reached.add(block)
        at = self.position[block * self.width : (block + 1) * self.width]
        members = self.w[at]
        # Columns behind the lazy block still lack its errors; those in it have them.
        if first > start:
            pending = self.upper[start:first, at] * (at >= start + len(errors))
            members.addmm_(pending.T, errors[: first - start], alpha=-1)
        for name, part in self.fmt.scales(members.T.contiguous(), self.scales.shared).block.items():
            self.scales.block[name][:, block] = part

    def _round(self, first: int, last: int, errors: Tensor) -> None:
        """Round the columns from ``first`` to ``last``, whose scales are known; write codes and errors."""
        w, upper, codes = self.w[first:last], self.upper[first:last, first:last], self.codes[first:last]
        each = self.block_of[first:last]
        if self.whole_block:
            self._round_at_once(w, upper, self._scales(each), codes, errors)
            return
        if self.in_order:  # neighbors share their scales
            values = self._values(slice(self.blocks[first], self.blocks[last - 1] + 1))
            group = each - self.blocks[first]
        else:
            values, group = self._values(each), torch.arange(last - first, device=w.device)
        if not kernels.gptq_block(self.fmt, self.scales.shared, w, upper, values, group, codes, errors):
            self._round_one_by_one(w, upper, self._scales(each), codes, errors)

    def _values(self, blocks: slice | Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return steps, zero points and means of some blocks, each ``(blocks, rows)`` float32 or ``None``."""
        if self.running:
            return self._read(self._scales(blocks))
        steps, zeros, means = self.static = self.static or self._read(self._scales(slice(None)))
        return steps[blocks], None if zeros is None else zeros[blocks], None if means is None else means[blocks]

    def _read(self, scales: Scales) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.fmt.steps(scales), self.fmt.zeros(scales), self.fmt.means(scales)

    def _scales(self, blocks: slice | Tensor) -> Scales:
        """Return the scales of some blocks: block parts of ``(blocks, rows)``."""
        # The one entry of a scale for the whole matrix belongs to all rows.
        parts = {name: part.expand(self.w.shape[1], -1)[:, blocks] for name, part in self.scales.block.items()}
        return Scales({name: part.T.contiguous() for name, part in parts.items()}, self.scales.shared)

    def _round_one_by_one(self, w: Tensor, upper: Tensor, scales: Scales, codes: Tensor, errors: Tensor) -> None:
        """Do as ``kernels.gptq_block`` in plain torch; the scales have a row for each column."""
        for j in range(len(w)):
            code = self.fmt.round_block(w[j].unsqueeze(1), scales[j,])
            codes[j] = code[:, 0]
            error = (w[j] - self.fmt.decode(code, scales[j,])[:, 0]) / upper[j, j]
            errors[j] = error.where(error.isfinite(), 0.0)
            w[j + 1 :] -= upper[j, j + 1 :].unsqueeze(1) * errors[j]

    def _round_at_once(self, w: Tensor, upper: Tensor, scales: Scales, codes: Tensor, errors: Tensor) -> None:
        """Round whole blocks: all their columns before any update. The scales have a row for each column."""
        code = self.fmt.round_block(w.unsqueeze(2), scales)
        codes.copy_(code[..., 0])
        error = w - self.fmt.decode(code, scales)[..., 0]
        error = error.where(error.isfinite(), 0.0)
        errors.copy_(torch.linalg.solve_triangular(upper.T, error, upper=False))
