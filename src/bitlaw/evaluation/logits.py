"""What rows of logits say of the next token: its loss, their entropy, and how far two of them are apart.

Plain torch says what comes out. On a GPU with Triton ``cuda_logits`` does the same but for the last digits and reads
each row once; plain torch goes over float32 copies of the rows half a dozen times, which takes longer than making them.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from bitlaw.gpu import has_triton


def token_losses(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of ``target``, (n,) int64, under ``logits``, (n, vocabulary).

    Returns:
        (n,) float32, nats; NaN or infinite where a row is.
    """
    if _by_kernel(logits):
        from bitlaw.evaluation import cuda_logits

        return cuda_logits.described(logits, target)[0]
    return functional.cross_entropy(logits.float(), target, reduction="none")


def described(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return loss, negative entropy and most likely token at each row of ``logits``.

    Args:
        logits: (n, vocabulary), any floating dtype.
        target: (n,) int64.

    Returns:
        Loss, see ``token_losses``; ``sum_v P(v) log P(v)``, (n,) float32; most likely token, (n,) int64.
    """
    if _by_kernel(logits):
        from bitlaw.evaluation import cuda_logits

        return cuda_logits.described(logits, target)
    log_p = logits.float().log_softmax(-1)
    return -log_p.gather(1, target[:, None])[:, 0], torch.linalg.vecdot(log_p.exp(), log_p), log_p.argmax(-1)


def compared(
    logits: torch.Tensor, own_logits: torch.Tensor, negentropy: torch.Tensor, top: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the loss at each row of ``logits``, and how far it is from that of ``own_logits``.

    Args:
        logits: (n, vocabulary), any floating dtype; of the distribution Q.
        own_logits: likewise, of the distribution P.
        negentropy: of P, (n,) float32; see ``described``.
        top: most likely token of P, (n,) int64.
        target: (n,) int64.

    Returns:
        Loss, see ``token_losses``; ``KL(P || Q)``, (n,) float32, nats; whether Q puts no token before ``top``, (n,)
        bool: a tie counts as agreement.
    """
    if _by_kernel(logits):
        from bitlaw.evaluation import cuda_logits

        return cuda_logits.compared(logits, own_logits, negentropy, top, target)
    log_q = logits.float().log_softmax(-1)
    kl = negentropy - torch.linalg.vecdot(own_logits.float().softmax(-1), log_q)
    agreed = log_q.gather(1, top[:, None])[:, 0] == log_q.amax(-1)
    return -log_q.gather(1, target[:, None])[:, 0], kl, agreed


def _by_kernel(logits: torch.Tensor) -> bool:
    return logits.is_cuda and has_triton()
