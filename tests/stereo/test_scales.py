import pytest
import torch
from torch import nn

from stereo_tr.stereo import scales as scales_module
from stereo_tr.stereo.output import Candidates, StereoOutput
from stereo_tr.stereo.planes import Completed
from stereo_tr.stereo.scales import Scales, largest_factor, match_at_scales


class WidthModel(nn.Module):
    """Disparity of width^2 / 300: as a share of the width it differs from scale to scale."""

    def __init__(self, confidence):
        super().__init__()
        self.confidence = confidence
        self.shown = []

    def forward(self, left, right):
        height, width = left.shape[-2:]
        self.shown.append((height, width))
        disparity = torch.full_like(left[:, 0], width**2 / 300)
        occlusion = torch.zeros_like(disparity)
        confidence = torch.full_like(disparity, self.confidence[width])
        return StereoOutput(disparity, occlusion, confidence, None)


def views(height, width):
    return torch.rand(2, 1, 3, height, width)


def test_as_it_is():
    model = WidthModel({30: 0.25})
    found = match_at_scales(model, *views(20, 30), Scales()).maps
    assert model.shown == [(20, 30)]
    torch.testing.assert_close(found.disparity, torch.full((1, 20, 30), 3.0))


def test_small_pairs_are_matched_enlarged():
    model = WidthModel({60: 0.5, 46: 0.5})
    scales = Scales(least_pixels=2400)  # four times the pixels of 20x30: twice the sides
    found = match_at_scales(model, *views(20, 30), scales).maps
    # 12 px of 60 columns are 6 px of 30
    torch.testing.assert_close(found.disparity, torch.full((1, 20, 30), 6.0))
    match_at_scales(model, *views(48, 46), scales)  # nearly large enough
    assert model.shown == [(40, 60), (48, 46)]


def test_the_coarse_answer_stands_where_it_is_clearly_surer():
    for coarse_confidence, expected in ((0.55, 3.0), (0.95, 0.48 * 30 / 12)):
        model = WidthModel({30: 0.25, 12: coarse_confidence})
        found = match_at_scales(model, *views(20, 30), Scales(coarse=0.4)).maps
        assert model.shown == [(8, 12), (20, 30)]
        torch.testing.assert_close(found.disparity, torch.full((1, 20, 30), expected))
        chosen = 0.25 if coarse_confidence < 0.8 else coarse_confidence
        torch.testing.assert_close(found.confidence, torch.full((1, 20, 30), chosen))


def test_a_third_look_stands_where_it_is_about_as_sure():
    scales = Scales(coarse=0.4).thorough()
    for finer_confidence, expected in ((0.45, 42**2 / 300 / 1.4), (0.35, 3.0)):
        model = WidthModel({30: 0.5, 12: 0.6, 42: finer_confidence})
        found = match_at_scales(model, *views(20, 30), scales).maps
        assert sorted(model.shown) == [(8, 12), (20, 30), (28, 42)]
        torch.testing.assert_close(found.disparity, torch.full((1, 20, 30), expected))
    assert largest_factor(scales, 20, 30) == 1.4
    with pytest.raises(ValueError, match="asked once"):
        Scales().thorough()


class GuidedModel(WidthModel):
    """Keeps what it was told to expect."""

    def forward(self, left, right, expected=None):
        self.told = expected
        return super().forward(left, right)


def test_a_guided_model_is_told_what_the_coarse_look_found():
    """12^2 / 300 px of 12 columns are 1.2 px of 30, with the confidence of that look."""
    model = GuidedModel({30: 0.4, 12: 0.75})
    match_at_scales(model, *views(20, 30), Scales(coarse=0.4, guided=True))
    torch.testing.assert_close(model.told.disparity, torch.full((1, 20, 30), 1.2))
    torch.testing.assert_close(model.told.confidence, torch.full((1, 20, 30), 0.75))
    match_at_scales(model, *views(20, 30), Scales(coarse=0.4))
    assert model.told is None


def test_a_third_look_is_told_the_surer_of_both():
    """In its own pixels: the coarse 1.2 px of 30 columns are 1.68 of 42; the fine 3 are 4.2."""
    for coarse_confidence, disparity, confidence in ((0.95, 1.68, 0.95), (0.55, 4.2, 0.25)):
        model = GuidedModel({30: 0.25, 12: coarse_confidence, 42: 0.5})
        match_at_scales(model, *views(20, 30), Scales(coarse=0.4, guided=True).thorough())
        assert model.shown[-1] == (28, 42)
        torch.testing.assert_close(model.told.disparity, torch.full((1, 28, 42), disparity))
        torch.testing.assert_close(model.told.confidence, torch.full((1, 28, 42), confidence))


class MatchedModel(WidthModel):
    """Tokens of 5x6 px, matched to other disparities each."""

    def forward(self, left, right):
        own = torch.arange(20.0).view(1, 4, 5)  # of a view of 20x30
        height, width = left.shape[-2:]
        rows, columns = torch.arange(height) * 4 // height, torch.arange(width) * 5 // width
        tokens = Candidates(
            own[:, rows][..., columns] * width / 30, torch.full_like(left[:, 0], 0.7)
        )
        return super().forward(left, right)._replace(candidates=tokens)


@pytest.mark.parametrize("scales", [Scales(coarse=0.4), Scales(coarse=0.4).thorough()])
def test_candidates_are_those_of_the_largest_look(monkeypatch, scales):
    """None is made of two of them, and the views' pixels are their unit."""
    shown = []
    monkeypatch.setattr(
        scales_module, "sharpen_edges", lambda *given: shown.append(given[-1]) or given[0]
    )
    model = MatchedModel({30: 0.5, 12: 0.99, 42: 0.6})
    match_at_scales(model, *views(20, 30), scales)
    [candidates] = shown
    height, width = model.shown[-1]
    rows = (torch.arange(20) + 0.5).mul(height / 20).long()
    columns = (torch.arange(30) + 0.5).mul(width / 30).long()
    own = torch.arange(20.0).view(4, 5)[rows * 4 // height][:, columns * 5 // width]
    torch.testing.assert_close(candidates.disparity, own[None])
    torch.testing.assert_close(candidates.confidence, torch.full((1, 20, 30), 0.7))


def test_edges_are_told_how_sure_planes_are(monkeypatch):
    given = torch.full((1, 20, 30), 4.0), torch.full((1, 20, 30), 0.9)
    monkeypatch.setattr(scales_module, "complete", lambda *maps: Completed(*given))
    shown = []
    monkeypatch.setattr(
        scales_module, "sharpen_edges", lambda *maps: shown.extend(maps[:2]) or maps[0] + 1
    )
    found = match_at_scales(WidthModel({30: 0.5, 12: 0.6}), *views(20, 30), Scales(coarse=0.4)).maps
    assert shown[0] is given[0] and shown[1] is given[1]
    torch.testing.assert_close(found.disparity, torch.full((1, 20, 30), 5.0))
    # what is told is the model's own
    torch.testing.assert_close(found.confidence, torch.full((1, 20, 30), 0.5))


class ThreeMaps(nn.Module):
    """A model of a user's own."""

    def forward(self, left, right):
        disparity = left.mean(1)
        return disparity, torch.zeros_like(disparity), torch.ones_like(disparity)


@pytest.mark.parametrize("scales", [Scales(), Scales(coarse=0.6)])
def test_three_maps_are_enough(scales):
    left, right = views(20, 30)
    found = match_at_scales(ThreeMaps(), left, right, scales).maps
    torch.testing.assert_close(found.disparity, left.mean(1))


class RowModel(nn.Module):
    """One row: what is known of it."""

    def forward(self, left, right):
        width = left.shape[-1]
        disparity = torch.tensor([9.0, 7.0, 5.0, 6.0, 8.0, 2.0])[None, None]
        hidden = torch.tensor([0.9, 0.1, 0.6, 0.7, 0.2, 0.8])[None, None]
        confidence = torch.ones_like(disparity)
        if width != 6:  # the coarse look is never sure
            disparity, hidden, confidence = (torch.zeros(1, *left.shape[-2:]) for _ in range(3))
        return StereoOutput(disparity, hidden, confidence, None)


def test_hidden_pixels_take_the_background():
    found = match_at_scales(RowModel(), *views(1, 6), Scales(coarse=0.5)).maps
    # between 7 and 8 lies 7; at either end there is one neighbour only
    expected = torch.tensor([[[7.0, 7.0, 7.0, 7.0, 8.0, 8.0]]])
    torch.testing.assert_close(found.disparity, expected)
    torch.testing.assert_close(found.occlusion[0, 0, 2], torch.tensor(0.6))
