"""Recomputed blocks: the same gradients from less memory."""

import pytest
import torch
from torch import nn

from stereo_tr import create_model
from stereo_tr.recomputing import recompute_blocks
from tests.stand_in import TinyModel


def gradients(model: nn.Module, left: torch.Tensor, right: torch.Tensor) -> tuple[dict, int]:
    """The gradients of every parameter, and the bytes that were kept to compute them."""
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(left, right).disparity.square().mean()
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found, sum(kept.values())


def test_the_same_gradients_from_less_memory():
    torch.manual_seed(0)
    model = create_model("cstr_small", widths=(8, 16, 24, 32), layers=2)
    left, right = torch.rand(2, 3, 37, 70), torch.rand(2, 3, 37, 70)
    expected, much = gradients(model, left, right)
    names = list(model.state_dict())
    model.zero_grad(set_to_none=True)
    recompute_blocks(model)
    found, less = gradients(model, left, right)
    assert found.keys() == expected.keys() and names == list(model.state_dict())
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name
    assert less < 0.8 * much


def test_batch_statistics_are_taken_once():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.ModuleList([nn.Linear(3, 3)])
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x):
            return self.norm(self.inner[0](x))

    model = nn.ModuleDict({"blocks": nn.ModuleList([Normed()])})
    recompute_blocks(model)
    block = model["blocks"][0]
    block(torch.rand(5, 3)).sum().backward()
    assert block.norm.num_batches_tracked == 1
    assert "forward" in vars(block.inner[0]) and "forward" not in vars(block)


def test_models_that_can_do_it_themselves_do():
    with torch.device("meta"):
        model = create_model("vit_tiny_patch16_224")
    recompute_blocks(model)
    assert model.checkpointing
    with pytest.raises(ValueError, match="this model has no blocks that could be recomputed"):
        recompute_blocks(TinyModel())
