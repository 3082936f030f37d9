import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stereo_tr.attention import ASSIGNMENTS, Attention, PositionTables, attend
from stereo_tr.attention.added import skew, unskew

B, E, T, S, D, V = 2, 3, 5, 7, 8, 4


def tokens(value_channels=V):
    return torch.randn(B, E, T, D), torch.randn(B, E, S, D), torch.randn(B, E, S, value_channels)


def some_mask():
    """Some pairs may meet; one query looks at nothing, and one key is seen by nobody."""
    mask = torch.rand(B, 1, T, S) > 0.4
    mask[:, :, :, 2] |= ~mask.any(-1)  # the others do look somewhere
    mask[0, 0, 3] = False
    mask[1, 0, :, 4] = False
    return mask


def all_tables():
    rows = T + S - 1
    return PositionTables(
        query=torch.randn(E, rows, D),
        key=torch.randn(1, rows, D),
        value=torch.randn(E, rows, V),
        bias=torch.randn(E, T, S),
    )


def assign(scores, assignment):
    """Turn one matrix of scores into weights, a row or column at a time; all -inf gives zeros."""
    if assignment == "over keys":
        return torch.stack([row.exp() / row.exp().sum() for row in scores]).nan_to_num(0)
    if assignment == "over queries":
        return assign(scores.T, "over keys").T
    weights = torch.zeros_like(scores)
    for j, column in enumerate(scores.T):
        if column.max() > -torch.inf:
            weights[column.argmax(), j] = 1
    return weights


def attend_one_pair_at_a_time(query, key, value, position, mask, assignment, scale):
    """The definition in float64."""
    query, key, value = query.double(), key.double(), value.double()
    tables = [None if table is None else table.double() for table in position]
    at_query, at_key, at_value, bias = (
        None if table is None else table.expand(E, -1, -1) for table in tables[:4]
    )
    out = torch.zeros(*query.shape[:3], value.shape[-1], dtype=torch.float64)
    for b in range(B):
        for e in range(E):
            scores = torch.full((T, S), -torch.inf, dtype=torch.float64)
            for i in range(T):
                for j in range(S):
                    if mask is not None and not mask[b, 0, i, j]:
                        continue
                    q, k, offset = scale * query[b, e, i], key[b, e, j], j - i + T - 1
                    scores[i, j] = q @ k
                    if at_query is not None:
                        scores[i, j] += q @ at_query[e, offset]
                    if at_key is not None:
                        scores[i, j] += scale * k @ at_key[e, offset]
                    if bias is not None:
                        scores[i, j] += bias[e, i, j]
            weights = assign(scores, assignment)
            for i in range(T):
                for j in range(S):
                    found = value[b, e, j]
                    if at_value is not None:
                        found = found + at_value[e, j - i + T - 1]
                    out[b, e, i] += weights[i, j] * found
    return out


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
@pytest.mark.parametrize("masked", [False, True], ids=["everywhere", "masked"])
@pytest.mark.parametrize("positions", [False, True], ids=["", "tables"])
def test_attend_is_the_definition(assignment, masked, positions):
    query, key, value = tokens()
    mask = some_mask() if masked else None
    position = all_tables() if positions else PositionTables()
    for scale in (None, 0.3):
        out = attend(
            query, key, value, position=position, mask=mask, assignment=assignment, scale=scale
        ).tokens
        expected = attend_one_pair_at_a_time(
            query, key, value, position, mask, assignment, D**-0.5 if scale is None else scale
        )
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("assignment", ["over queries", "nearest query"])
def test_every_key_is_shared_out_once(assignment):
    query, key, _ = tokens()
    out = attend(query, key, torch.ones(B, E, S, 1), assignment=assignment).tokens
    torch.testing.assert_close(out.sum(2), torch.full((B, E, 1), float(S)))


def test_attend_is_torchs():
    query, key, value = tokens()
    mask = some_mask()
    mask[0, 0, 3, 0] = True  # what torch does with a query that looks at nothing is its own affair
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(attend(query, key, value, mask=mask).tokens, expected)


def test_fused_is_plain():
    """Inference may take the fused kernel, training on a CPU takes plain products: same numbers."""
    query, key, value = tokens(D)
    tables = all_tables()._replace(value=None)
    for position in (PositionTables(), tables, PositionTables(angles=torch.randn(S, D // 2))):
        for mask in (None, some_mask()):
            plain = attend(query, key, value, position=position, mask=mask).tokens
            with torch.no_grad():
                fused = attend(query, key, value, position=position, mask=mask).tokens
            torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)


def test_a_query_that_may_look_at_nothing_gets_zeros_and_finite_gradients():
    leaves = [x.requires_grad_() for x in tokens()]
    mask = torch.zeros(T, S, dtype=torch.bool)
    mask[1, 2] = True
    for assignment in ASSIGNMENTS:
        out = attend(*leaves, mask=mask, assignment=assignment).tokens
        assert torch.equal(out[:, :, [0, 2, 3, 4]], torch.zeros(B, E, 4, V))
        torch.testing.assert_close(out[:, :, 1], leaves[2][:, :, 2])
        out.square().sum().backward()
        assert all(x.grad.isfinite().all() for x in leaves if x.grad is not None)
    with torch.no_grad():
        assert torch.equal(attend(*leaves, mask=mask).tokens[:, :, 0], torch.zeros(B, E, V))


def test_scores_are_what_the_weights_are_made_of():
    query, key, value = tokens()
    mask = some_mask()
    position = all_tables()._replace(value=None)
    attended = attend(query, key, value, position=position, mask=mask, with_scores=True)
    assert torch.equal(attended.scores == -torch.inf, ~mask.expand(B, E, T, S))
    weights = attended.scores.softmax(-1).nan_to_num(0)
    torch.testing.assert_close(weights @ value, attended.tokens)
    assert attend(query, key, value).scores is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_masks_work_in_half_precision(dtype):
    query, key, value = (x.to(dtype) for x in tokens())
    mask = some_mask()
    expected = attend(query.float(), key.float(), value.float(), mask=mask).tokens
    plain = attend(query, key, value, mask=mask).tokens
    with torch.no_grad():
        fused = attend(query, key, value, mask=mask).tokens
    torch.testing.assert_close(plain.float(), expected, rtol=0, atol=0.05)
    torch.testing.assert_close(fused.float(), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize(("queries", "keys"), [(4, 6), (6, 4), (1, 3), (3, 1), (1, 1)])
def test_skewing_goes_from_offsets_to_keys_and_back(queries, keys):
    products = torch.randn(2, queries, queries + keys - 1)
    skewed = skew(products, keys)
    assert skewed.shape == (2, queries, keys)
    back = unskew(skewed)
    touched = torch.zeros_like(products, dtype=torch.bool)
    for i in range(queries):
        for j in range(keys):
            offset = j - i + queries - 1
            assert torch.equal(skewed[:, i, j], products[:, i, offset])
            touched[:, i, offset] = True
    assert torch.equal(back, products * touched)
    assert torch.equal(skew(back, keys), skewed)


@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
def test_attention_is_torchs(cross):
    channels, heads = 12, 3
    ours = Attention(channels, heads)
    theirs = nn.MultiheadAttention(channels, heads, batch_first=True)
    with torch.no_grad():
        projections = (ours.to_query, ours.to_key, ours.to_value)
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())
    x = torch.randn(B, T, channels)
    context = torch.randn(B, S, channels) if cross else None
    seen = x if context is None else context
    mask = torch.rand(T, seen.shape[1]) > 0.4
    mask[:, 0] = True
    expected, _ = theirs(x, seen, seen, attn_mask=~mask)  # torch's True means "may not"
    torch.testing.assert_close(ours(x, context, mask=mask).tokens, expected)
    attended = ours(x, context, mask=mask, with_scores=True)
    assert attended.scores.shape == (B, heads, T, seen.shape[1])
    torch.testing.assert_close(attended.tokens, expected)


def test_attention_names_what_cannot_be():
    with pytest.raises(ValueError, match="channels=10 must be a multiple of heads=4"):
        Attention(10, 4)
    with pytest.raises(ValueError, match="'by lot'; known are over keys, over queries"):
        Attention(8, 4, assignment="by lot")


def test_a_mask_a_sample_is_not_taken_for_a_mask_a_head():
    attention, x = Attention(4, 2), torch.randn(2, 3, 4)
    mask = torch.ones(2, 3, 3, dtype=torch.bool).tril()
    with pytest.raises(ValueError, match=r"mask \[2, 3, 3\] has three axes.* give \[B, 1, T, S\]"):
        attention(x, mask=mask)
    expected = attention(x, mask=mask[:, None]).tokens
    for same in (mask[0], mask[:1]):
        torch.testing.assert_close(attention(x, mask=same).tokens, expected)
