"""Dense layers beside float64 products, whichever library makes them; the sizes all differ."""

import sys

import pytest
import torch

import stereo_tr.attention.dense  # noqa: F401  so that the module below is loaded
from stereo_tr.attention import Dense
from stereo_tr.attention.dense import dense, dense_by_head, dense_by_head_backward

MODULE = sys.modules["stereo_tr.attention.dense"]


@pytest.fixture(params=[True, False], ids=["oneDNN", "MKL"])
def convolved(request, monkeypatch):
    """Which library is taken; counts the calls of the one, on any processor."""
    calls = []
    original = MODULE._convolved
    monkeypatch.setattr(MODULE, "_onednn_has_avx512", lambda: request.param)
    monkeypatch.setattr(MODULE, "WORTH", 0)
    monkeypatch.setattr(MODULE, "WORTH_BY_HEAD", 0)
    monkeypatch.setattr(MODULE, "_convolved", lambda *a, **k: calls.append(1) or original(*a, **k))
    yield request.param, calls
    assert bool(calls) == request.param


@pytest.mark.parametrize("bias", [True, False])
def test_a_dense_layer_and_its_gradients(convolved, bias):
    torch.manual_seed(0)
    layer = Dense(19, 23, bias=bias)
    x = torch.randn(3, 7, 5, 38)[..., ::2].requires_grad_()  # not contiguous
    target = torch.randn(3, 7, 5, 23)
    (layer(x) * target).sum().backward()
    twin = torch.nn.Linear(19, 23, bias=bias).double()
    twin.load_state_dict(layer.state_dict())
    same = x.detach().double().requires_grad_()
    expected = twin(same)
    (expected * target).sum().backward()
    assert torch.allclose(layer(x).double(), expected, atol=1e-5)
    assert torch.allclose(x.grad.double(), same.grad, atol=1e-5)
    for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(mine.grad.double(), other.grad, atol=1e-4)


@pytest.mark.parametrize("room", [None, torch.empty(4 * 7 * 3 * 13 + 5)], ids=["new", "given"])
def test_every_head_by_its_own_weight_and_the_way_back(convolved, room):
    x = torch.randn(4, 11, 3 * 17).unflatten(-1, (3, 17)).transpose(1, 2)  # as heads are split
    x = x[:, :, 2:9]  # some tokens of each sequence
    weight = torch.randn(3, 13, 17)
    same, twin = x.double().requires_grad_(), weight.double().requires_grad_()
    expected = torch.einsum("betd,erd->betr", same, twin)
    with torch.no_grad():
        found = dense_by_head(x, weight, room)
    assert found.shape == (4, 3, 7, 13)
    assert torch.allclose(found.double(), expected, atol=1e-5)
    way_back = torch.randn(4, 7, 3, 13).transpose(1, 2)
    expected.backward(way_back.double())
    with torch.no_grad():
        of_x, of_weight = dense_by_head_backward(way_back, x, weight)
    assert of_x.shape == x.shape
    assert of_weight.shape == weight.shape
    assert torch.allclose(of_x.double(), same.grad, atol=1e-4)
    assert torch.allclose(of_weight.double(), twin.grad, atol=1e-4)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_other_numbers_stay_with_torch(monkeypatch, kind):
    monkeypatch.setattr(MODULE, "WORTH", 0)
    monkeypatch.setattr(MODULE, "_convolved", None)  # would be called in vain
    monkeypatch.setattr(MODULE, "_onednn_has_avx512", lambda: True)
    x, weight = torch.randn(6, 5, dtype=kind), torch.randn(4, 5, dtype=kind)
    assert torch.equal(dense(x, weight), torch.nn.functional.linear(x, weight))


class NeverAsked:
    def __le__(self, other):
        raise AssertionError("a size was looked at")


def test_no_size_decides_while_a_graph_is_recorded(monkeypatch):
    """The graph would serve no other size, or take the example's library for all."""
    monkeypatch.setattr(MODULE, "WORTH_BY_HEAD", NeverAsked())
    monkeypatch.setattr(MODULE, "_onednn_has_avx512", lambda: True)
    x, weight = torch.randn(2, 3, 5, 7), torch.randn(3, 11, 7)
    with torch.no_grad():
        with pytest.raises(AssertionError, match="looked at"):
            dense_by_head(x, weight)
        for recorder in ("torch.jit.is_tracing", "torch.compiler.is_compiling"):
            with monkeypatch.context() as recording:
                recording.setattr(recorder, lambda: True)
                found = dense_by_head(x, weight)
            torch.testing.assert_close(found, torch.einsum("betd,erd->betr", x, weight))
