"""Attention that batch norm scales: of the scores, before softmax, and of what was retrieved.

The mask transformers divide no score by sqrt(D); a batch norm for each head learns the scale. With
positions, each of the three terms of a score and both retrieved terms have a norm of their own:

    score_ij = norm(q_i . k_j) + norm(q_i . r_query(j - i)) + norm(k_j . r_key(j - i))
    token_i  = norm(sum_j w_ij v_j) + norm(sum_j w_ij r_value(j - i)),  w_i = softmax_j(score_ij)

Letters  N sequences, E heads, D channels a head, V of a value; T queries, S keys
Source   Axial-DeepLab, eq. 4, https://arxiv.org/abs/2003.07853; MaX-DeepLab, eq. 2 to 6,
         https://arxiv.org/abs/2012.00759
Tests    tests/mask/test_axial.py and tests/mask/test_dual_path.py: the authors' layers
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .attend import ASSIGNMENTS, Attended
from .positions import AxialOffsetTable

EPSILON, MOMENTUM = 1e-3, 0.01
"""of every batch norm of the DeepLab family (its "momentum 0.99" is torch's 0.01)"""

BatchNorm = partial(nn.BatchNorm2d, eps=EPSILON, momentum=MOMENTUM)


class NormalisedAttention(nn.Module):
    """Scores, norm, softmax over the keys, values, norm; the projections are the caller's.

    `reach`: offsets up to +-(reach - 1) have learned vectors, shared by the heads, and what lies
    beyond uses the outermost ones; None for attention that knows no position.
    """

    def __init__(
        self, heads: int, key_channels: int, value_channels: int, *, reach: int | None = None
    ) -> None:
        super().__init__()
        if key_channels % heads or value_channels % heads:
            raise ValueError(
                f"{key_channels} and {value_channels} channels must be multiples of heads={heads}"
            )
        self.heads = heads
        self.position = (
            None
            if reach is None
            else AxialOffsetTable(reach, key_channels // heads, value_channels // heads)
        )
        self.score_norm = BatchNorm(heads if reach is None else 3 * heads)
        self.token_norm = BatchNorm(value_channels if reach is None else 2 * value_channels)

    def forward(
        self,
        query: Float[Tensor, "N C T"],
        key: Float[Tensor, "N C S"],
        value: Float[Tensor, "N V S"],
        *,
        with_scores: bool = False,
    ) -> Attended:
        """Tokens [N, T, V], heads joined; with `with_scores` also scores and weights [N, E, T, S].

        Channels come first, as convolutions give them.
        """
        query, key, value = (
            x.unflatten(1, (self.heads, -1)).transpose(2, 3) for x in (query, key, value)
        )
        scores = query @ key.transpose(2, 3)
        if self.position is None:
            scores = self.score_norm(scores)
            weights = ASSIGNMENTS["over keys"](scores)
            tokens = self.token_norm(_channels_first(weights @ value))
        else:
            tables = self.position.tables(self, query.shape[2], key.shape[2])
            # Multiplying the table of each place by all heads' vectors there: no offset is
            # computed that no pair has, as skewing would.
            of_query = torch.einsum("neid,ijd->neij", query, _by_pair(tables.query, key))
            of_key = torch.einsum("nejd,ijd->neij", key, _by_pair(tables.key, key))
            terms = self.score_norm(torch.cat((scores, of_query, of_key), dim=1))
            scores = terms.unflatten(1, (3, self.heads)).sum(1)
            weights = ASSIGNMENTS["over keys"](scores)
            of_value = torch.einsum("neij,ijd->neid", weights, _by_pair(tables.value, key))
            retrieved = torch.cat((weights @ value, of_value), dim=1)
            retrieved = self.token_norm(_channels_first(retrieved))
            tokens = retrieved.unflatten(1, (2, -1)).sum(1)
        tokens = tokens.flatten(2).transpose(1, 2)
        return Attended(tokens, scores, weights) if with_scores else Attended(tokens, None)


def _by_pair(
    table: Float[Tensor, "1 R D"], keys: Float[Tensor, "N E S _"]
) -> Float[Tensor, "T S D"]:
    """Row of the offset j - i for each query i and each key j, without copying."""
    return table[0].flip(0).unfold(0, keys.shape[2], 1).flip(2).transpose(1, 2)


def _channels_first(tokens: Float[Tensor, "N E T V"]) -> Float[Tensor, "N C 1 T"]:
    return tokens.transpose(2, 3).flatten(1, 2)[:, :, None]
