import torch

from stereo_tr.stereo.edges import LEAST_WEIGHT, LIKE, RINGS, sharpen_edges, weighted_median


def test_weighted_median_holds_half_of_the_weight():
    values = torch.tensor([[5.0, 1.0], [2.0, 4.0], [9.0, 3.0], [7.0, 2.0]])
    weights = torch.tensor([[1.0, 1.0], [1.0, 1.5], [1.0, 5.0], [4.0, 1.0]])
    # 2 5 7 9 with 1 1 4 1 of 7: half is reached at 7; 1 2 3 4 with 1 1 5 1.5 of 8.5: at 3
    torch.testing.assert_close(weighted_median(values, weights), torch.tensor([7.0, 3.0]))


def scene(edge_of_photograph, edge_of_disparity, height=31, width=47):
    """A near half and a far one: dark with disparity 20 left of the edges, bright with 5 right."""
    columns = torch.arange(width).expand(1, height, width)
    left = (columns >= edge_of_photograph).float()[:, None].expand(-1, 3, -1, -1)
    disparity = torch.where(columns < edge_of_disparity, 20.0, 5.0)
    return disparity, left, columns


def test_edge_moves_to_that_of_the_photograph():
    for shift in (-1, 1):
        disparity, left, columns = scene(23, 23 + shift)
        found = sharpen_edges(disparity, torch.full_like(disparity, 0.5), left)
        torch.testing.assert_close(found, torch.where(columns < 23, 20.0, 5.0))


def test_sure_pixels_and_smooth_surfaces_stay():
    disparity, left, columns = scene(23, 25)
    torch.testing.assert_close(
        sharpen_edges(disparity, torch.ones_like(disparity), left), disparity
    )
    slanted = columns * 0.12 + 3  # 1.44 px within 12 columns
    unsure = torch.zeros_like(slanted)
    torch.testing.assert_close(sharpen_edges(slanted, unsure, left), slanted)


def test_equals_a_loop_in_float64():
    generator = torch.Generator().manual_seed(5)
    disparity = torch.rand(2, 13, 17, generator=generator) * 40
    confidence = torch.rand(2, 13, 17, generator=generator) * 0.89
    left = torch.rand(2, 3, 13, 17, generator=generator)
    found = sharpen_edges(disparity, confidence, left)
    offsets = [
        (radius * torch.tensor(6.283185307179586 * (k + radius) / count).sin()).round().int()
        + 1j * (radius * torch.tensor(6.283185307179586 * (k + radius) / count).cos()).round().int()
        for radius, count in RINGS
        for k in range(count)
    ]
    for view, y, x in ((0, 0, 0), (0, 6, 8), (1, 12, 16), (1, 3, 11), (1, 0, 9)):
        ranked = []
        for offset in offsets:
            row = min(max(y + int(offset.real), 0), 12)
            column = min(max(x + int(offset.imag), 0), 16)
            unlike = (left[view, :, row, column] - left[view, :, y, x]).double().abs().sum()
            trust = confidence[view, row, column].double() + LEAST_WEIGHT
            ranked.append(
                (disparity[view, row, column].item(), (trust * (-unlike / LIKE).exp()).item())
            )
        ranked.sort()
        weights = torch.tensor([weight for _, weight in ranked])
        middle = int((weights.cumsum(0) < weights.sum() / 2).sum())
        assert found[view, y, x].item() == ranked[middle][0]
