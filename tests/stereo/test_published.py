"""The published models against tensors that the original code made: facts in ../shared/facts.

Measured here, one thread: disparity within 1.3e-4 px (train mode 7e-4), occlusion 1.4e-5 (3e-5),
losses 4e-7 relative, gradients 2e-6 relative but for the stem's, see `test_training`.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from golden_stereo import FOLDER, golden, pair, sample

from stereo_tr import create_model, load_weights
from stereo_tr.attention.memory import working_memory
from stereo_tr.stereo.published.losses import published_losses

DISPARITY, OCCLUSION = 1e-3, 1e-4
LOSSES = {
    "relative_response": "rr",
    "token_disparity": "l1_raw",
    "disparity": "l1",
    "occlusion": "occ_be",
}
NOISE = ("tokenizer.up.0.convTrans.bias",)
"""a bias before a batch norm has no effect: its gradient is rounding, 1e-8 of the others"""


@pytest.fixture(params=["cstr", "sttr"])
def name(request):
    return request.param


@pytest.fixture
def model(name):
    model = create_model(name)
    load_weights(model, golden(f"{name}/state_dict"))
    return model.eval()


def close(output, expected):
    near = torch.testing.assert_close
    near(output.disparity, expected["disp_pred"], rtol=0, atol=DISPARITY)
    near(output.occlusion, expected["occ_pred"], rtol=0, atol=OCCLUSION)
    details = output.details
    near(details.token_disparity, expected["disp_pred_low_res"], rtol=0, atol=DISPARITY)
    near(details.token_occlusion, expected["occ_pred_low_res"], rtol=0, atol=OCCLUSION)


def test_every_stage_is_the_originals(name, model):
    seen = {}

    def keep(key, pick=lambda result: result):
        return lambda module, given, result: seen.update({key: pick(result)})

    first = model.transformer.within[0], model.transformer.across[0]
    model.backbone.register_forward_hook(keep("backbone_last", lambda features: features[-1]))
    model.tokenizer.register_forward_hook(keep("tokens"))
    first[0].main.register_forward_hook(keep("self0"))
    if name == "sttr":
        model.tokenizer.full.register_forward_hook(keep("full"))
    else:
        first[0].context.register_forward_hook(keep("self0_ctx"))
    (first[1].merge if name == "cstr" else first[1].main).register_forward_hook(keep("cross0"))
    with torch.no_grad(), working_memory(10**12):  # in strips, sttr has no full-size tokens to see
        output = model(*pair("noise"))

    expected = golden(f"{name}/out_noise")
    close(output, expected)
    near = torch.testing.assert_close
    # sttr normalises its coarsest cell by the statistics of two numbers, which magnifies rounding.
    near(seen["backbone_last"], expected["backbone_last"], rtol=1e-4, atol=1e-3)
    if name == "cstr":
        near(seen["tokens"][:, :, ::2, ::2], expected["tokens"], rtol=1e-4, atol=1e-4)
    else:
        near(seen["full"][:, :, ::8, ::8], expected["tokens"], rtol=1e-3, atol=1e-3)
    for key in ("self0", "self0_ctx", "cross0"):
        if key in expected:
            rows = seen[key].flatten(0, 1)[::8].transpose(0, 1)  # [columns, rows of both views, C]
            near(rows, expected[key], rtol=1e-4, atol=1e-4)
    near(output.details.scores, expected["raw_attn"], rtol=0, atol=1e-3)  # the same -inf, too
    near(output.details.log_assignment.exp(), expected["attn_ot"], rtol=1e-3, atol=1e-4)


def test_a_real_pair_is_the_originals(name, model):
    with torch.no_grad():
        output = model(*pair("kitti"))
    expected = golden(f"{name}/out_kitti")
    close(output, expected)
    if "raw_attn" in expected:
        scores = output.details.scores
        torch.testing.assert_close(scores, expected["raw_attn"], rtol=0, atol=1e-3)
    assert output.confidence.min() >= 0
    assert output.confidence.max() <= 1


@pytest.mark.parametrize("case", ["sceneflow", "kitti"])
def test_losses_are_the_originals(name, model, case):
    if (name, case) == ("sttr", "sceneflow"):
        pytest.skip("sttr has one mode; test_training_is_the_originals holds this case")
    batch = sample(case)
    with torch.no_grad():
        output = model(batch.left, batch.right, batch.occluded)
        losses = model.losses(output, batch)
    if name == "cstr" and case == "sceneflow":
        close(output, golden("cstr/gt_eval_sceneflow"))
    expect_losses(losses, name, f"eval.{case}")


def expect_losses(losses, name, key):
    expected = json.loads((FOLDER / name / "losses_and_stats.json").read_text())["losses"][key]
    assert losses.keys() == LOSSES.keys()
    for ours, theirs in LOSSES.items():
        assert losses[ours].item() == pytest.approx(expected[theirs], rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(expected["aggregated"], rel=1e-5)


def test_training_is_the_originals(name, model):
    batch = sample("sceneflow")
    model.train()
    output = model(batch.left, batch.right, batch.occluded)
    losses = model.losses(output, batch)
    sum(losses.values()).backward()

    expected = golden(f"{name}/gt_train_sceneflow")
    close(output, expected)
    expect_losses(losses, name, "train.sceneflow")
    for key, theirs in expected.items():
        if not key.startswith("grad.") or key.removeprefix("grad.") in NOISE:
            continue
        named = model.translate_weights({key.removeprefix("grad."): theirs})
        ours = torch.cat([model.get_parameter(k).grad.flatten() for k in named])
        theirs = torch.cat([v.flatten() for v in named.values()])
        error = (ours - theirs).norm() / theirs.norm()
        # The way back to the first convolution is chaotic: inputs changed by 1e-7 of their value
        # change this gradient by 6e-3 to 9e-3 in sttr (measured, three draws), as much as ours and
        # the original's differ (6e-3 to 1.1e-2 over the draws; cstr 6e-4 to 3e-3).
        assert error < (2e-2 if "in_conv.0" in key else 1e-3), (key, error)
    after = {k.removeprefix("after."): v for k, v in expected.items() if k.startswith("after.")}
    assert bool(after) == (name == "cstr")
    for key, statistic in model.translate_weights(after).items():
        torch.testing.assert_close(model.get_buffer(key), statistic, rtol=1e-5, atol=1e-6)


def test_gradients_reach_what_the_originals_reach(name, model):
    frozen = [key for key, value in model.named_parameters() if not value.requires_grad]
    numbers = sum(model.get_parameter(key).numel() for key in frozen)
    assert numbers == {"cstr": 379_392, "sttr": 256}[name]


@pytest.mark.parametrize(
    ("name", "count"), [("cstr", 5_335_091), ("sttr", 2_513_811), ("sttr_light", 2_333_347)]
)
def test_sizes_are_the_published_ones(name, count):
    assert sum(p.numel() for p in create_model(name).parameters()) == count


def small(name, **sizes):
    """A model of two layers with every weight at random, small enough for many cases."""
    torch.manual_seed(3)
    model = create_model(name, layers=2, **sizes).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key or key.endswith("bias"):
                value.add_(0.1 * torch.randn_like(value))
        for key, value in model.named_buffers():
            if "running_" in key:
                value.add_(0.3 * torch.rand_like(value))
        model.dustbin.fill_(-1.0)
    return model


@pytest.mark.parametrize("name", ["cstr", "sttr", "sttr_light"])
@pytest.mark.parametrize("size", [(1, 2), (2, 1), (7, 5), (33, 47)])
def test_a_batch_gives_what_its_pairs_give_alone_at_any_size(name, size):
    # Statistics over two numbers make float32's rounding visible (5e-2 in STTR's confidence).
    model = small(name).double()
    left, right = torch.rand(2, 3, 3, *size, dtype=torch.float64)
    right[1] *= 0.3  # a pair of another exposure, whose statistics would show
    with torch.no_grad():
        together = model(left, right)
        alone = [model(left[i : i + 1], right[i : i + 1]) for i in range(3)]
    assert together.disparity.shape == (3, *size)
    for field in ("disparity", "occlusion", "confidence"):
        expected = torch.cat([getattr(output, field) for output in alone])
        torch.testing.assert_close(getattr(together, field), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", ["sttr", "sttr_light"])
def test_statistics_are_the_pairs_in_training_too(name):
    model = small(name).train()
    left, right = torch.rand(2, 2, 3, 19, 42)
    with torch.no_grad():
        training, inference = model(left, right), model.eval()(left, right)
    torch.testing.assert_close(training.disparity, inference.disparity)


def test_sttr_light_is_sttr_at_a_quarter():
    """No golden file holds STTR-light: CSTR's features, STTR's layers, nearest upsampling."""
    light, cstr = small("sttr_light", heads=4), small("cstr")
    cstr.train()  # batch statistics of one pair, as STTR-light always has
    shared = cstr.state_dict()
    own = {k: shared.get(k, v) for k, v in light.state_dict().items() if "transformer" not in k}
    light.load_state_dict(own, strict=False)
    left, right = torch.rand(2, 1, 3, 34, 51)
    tokens = {}
    for model in (light, cstr):
        model.tokenizer.register_forward_hook(
            lambda module, given, result: tokens.update({module: result})
        )
    with torch.no_grad():
        output = light(left, right)
        cstr(left, right)
    torch.testing.assert_close(tokens[light.tokenizer], tokens[cstr.tokenizer])
    assert output.details.scale == 4.0
    assert output.details.scores.shape == (1, 9, 13, 13)


def test_the_true_occlusion_alters_training_outputs_only_where_given():
    model = small("sttr_light")
    left, right = torch.rand(2, 1, 3, 24, 36)
    occluded = torch.zeros(1, 24, 36, dtype=torch.bool)
    occluded[:, :, :12] = True
    with torch.no_grad():
        blind, told = model(left, right), model(left, right, occluded)
    assert (told.details.token_occlusion[:, :, :3] == 0).all()  # the published quirk
    torch.testing.assert_close(told.details.log_assignment, blind.details.log_assignment)
    torch.testing.assert_close(told.confidence, blind.confidence)


def test_losses_of_pairs_without_truth_are_zero():
    model = small("sttr_light")
    batch = sample("kitti")
    batch = batch._replace(
        left=batch.left[..., :40, :60],
        right=batch.right[..., :40, :60],
        **{
            field: torch.zeros_like(getattr(batch, field)[:, :40, :60])
            for field in ("disparity", "valid", "right_disparity", "right_valid", "right_occluded")
        },
        occluded=torch.ones(1, 40, 60, dtype=torch.bool),
    )
    losses = published_losses(model(batch.left, batch.right), batch)
    assert all(loss.item() == 0 and loss.requires_grad for loss in losses.values())


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [((2, 3, 8, 9), (2, 3, 8, 7), "one size"), ((2, 3, 1, 1), (2, 3, 1, 1), "1x1")],
)
def test_views_that_cannot_be_matched_are_refused(left, right, said):
    with pytest.raises(ValueError, match=said):
        small("sttr_light")(torch.rand(left), torch.rand(right))


def test_weight_norm_is_torchs():
    from stereo_tr.stereo.published.regression import WeightNormConvolution

    ours = WeightNormConvolution(5, 7)
    torch.nn.init.normal_(ours.direction)
    torch.nn.init.uniform_(ours.length, 0.5, 2.0)
    theirs = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(5, 7, 3, padding=1))
    theirs.parametrizations.weight.original0.data = ours.length.data
    theirs.parametrizations.weight.original1.data = ours.direction.data
    theirs.bias.data = ours.bias.data
    x = torch.randn(2, 5, 11, 13)
    torch.testing.assert_close(ours(x), theirs(x))


def test_regression_reads_three_columns_around_the_best():
    from stereo_tr.stereo.published.regression import regress

    plan = torch.zeros(1, 1, 4, 4)
    plan[0, 0, 0] = torch.tensor([0.6, 0.2, 0.1, 0.0])  # best at the border: two columns
    plan[0, 0, 1] = torch.tensor([0.02, 0.03, 0.01, 0.0])  # hardly matched: not renormalised
    plan[0, 0, 2] = torch.tensor([0.3, 0.3, 0.2, 0.0])  # the first of equals
    plan[0, 0, 3] = torch.tensor([0.1, 0.4, 0.3, 0.2])
    found = regress(plan)
    expected = [0.0, 0.02 * 1, (0.3 * 2 + 0.3 * 1) / 0.6, (0.1 * 3 + 0.4 * 2 + 0.3 * 1) / 0.8]
    torch.testing.assert_close(found.disparity[0, 0], torch.tensor(expected))
    torch.testing.assert_close(found.matched[0, 0], torch.tensor([0.8, 0.06, 0.6, 0.8]))
    torch.testing.assert_close(found.occlusion[0, 0], torch.tensor([0.2, 0.0, 0.4, 0.2]))
    told = regress(plan, torch.tensor([[[False, False, False, True]]]))
    expected = [0.0, 0.02 / 0.06, 0.9 / 0.6, 0.1 * 3 + 0.4 * 2 + 0.3 * 1]
    torch.testing.assert_close(told.disparity[0, 0], torch.tensor(expected))


def test_pair_norm_is_batch_norm_of_one_pair():
    from stereo_tr.stereo.published.features import PairNorm

    norm = PairNorm(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    views = torch.randn(6, 5, 7, 3) * torch.arange(1, 7)[:, None, None, None]
    result = norm(views)
    for i in range(3):
        both = views[[i, i + 3]]
        expected = F.batch_norm(both, None, None, norm.weight, norm.bias, training=True)
        torch.testing.assert_close(result[[i, i + 3]], expected)
