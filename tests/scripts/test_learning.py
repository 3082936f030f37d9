"""What the models of `stereo-tr learning` learn from, and a few steps of it."""

import pytest
import torch
from torch import nn

from stereo_tr.scripts import learning


def test_digits_keep_a_quarter_for_measuring():
    data = learning.digits(side=12)
    assert data.pictures.shape == (1347, 1, 12, 12) and data.unseen_pictures.shape[0] == 450
    assert data.pictures.min() >= 0 and data.pictures.max() <= 1
    assert torch.bincount(data.unseen_labels).tolist() == pytest.approx([45] * 10, abs=2)


def test_shapes_are_their_classes_and_never_of_the_grounds_colour():
    pictures, labels = learning.shapes(5, seed=3, side=40)
    again, _ = learning.shapes(5, seed=3, side=40)
    assert torch.equal(pictures, again)
    assert pictures.shape == (5, 3, 40, 40) and labels.shape == (5, 40, 40)
    assert set(labels.unique().tolist()) <= set(range(len(learning.SHAPES)))
    for picture, label in zip(pictures, labels, strict=True):
        ground = picture[:, label == 0].mean(1)
        for kind in label.unique()[1:]:
            assert (picture[:, label == kind].mean(1) - ground).abs().max() > 0.15


def test_dice_is_the_mean_over_the_shapes_that_are_there():
    labels = torch.tensor([[[0, 1, 1, 3]]])
    found = torch.tensor([[[0, 1, 3, 3]]])
    assert learning.dice(found, labels) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert learning.dice(labels, labels) == 1


def test_a_few_steps_lower_the_error_and_are_told(monkeypatch, capsys):
    def tiny(steps):
        model = nn.Linear(2, 1)
        x, truth = torch.randn(50, 2), torch.randn(50, 1)

        def losses(chosen):
            return (model(x[chosen]) - truth[chosen]).square().mean()

        before = losses(torch.arange(50)).item()
        learning._train(model, losses, 50, steps, "tiny")
        return model, "error gone", before - losses(torch.arange(50)).item(), 0.0

    monkeypatch.setattr(learning, "_EXPERIMENTS", {"tiny": (30, tiny)})
    (result,) = learning.learning(learning.Learning(models=("tiny",)))
    assert result.reached > 0 and result.parameters == 3
    assert "| tiny | 0 k | error gone |" in capsys.readouterr().out


def test_what_cannot_be_asked_for():
    with pytest.raises(ValueError, match=r"unknown model 'swim'; did you mean swin\?"):
        learning.learning(learning.Learning(models=("swim",)))
    with pytest.raises(ValueError, match="--steps must be 1 or more"):
        learning.learning(learning.Learning(steps=0))
