from functools import partial

import pytest
import torch
from torch import nn

from stereo_tr import create_model, load_weights
from stereo_tr.attention import recorded_weights
from stereo_tr.mask.kmax_deeplab import BACKBONES, KMaxDeepLab

SMALL = {
    "num_classes": 5,
    "num_queries": 7,
    "layers": (1, 1, 1),
    "decoder_widths": (16, 8, 8, 4),
    "decoder_depths": (1, 1, 1, 1),
    "channels": 12,
    "filters": 8,
    "feed_forward": 20,
    "hidden": 10,
    "features": 6,
}
ENCODERS = {
    "resnet50": {"widths": (8, 12, 16, 20), "depths": (1, 1, 1, 1)},
    "max_s": {"stem_widths": (6, 6, 8), "filters": (4, 4, 8, 8), "depths": (1, 1, 2, 1)},
    "convnext_tiny": {"widths": (8, 12, 16, 20), "depths": (1, 1, 1, 1)},
}
ALL = ("cross", "dual_cross", "kmeans", "dual_kmeans", "clustering")
small = partial(KMaxDeepLab, **SMALL)


@pytest.mark.parametrize("backbone", ENCODERS)
@pytest.mark.parametrize("size", [(37, 70), (5, 3)])
def test_any_size_and_a_batch_gives_what_its_images_give_alone(backbone, size):
    model = small(backbone=backbone, encoder=ENCODERS[backbone]).eval()
    images = torch.rand(3, 3, *size)
    with torch.no_grad():
        out = model(images)
        alone = torch.cat([model(image[None]).final.mask_logits for image in images])
    height, width = (-(-side // 4) for side in size)
    assert out.final.class_logits.shape == (3, 7, 6)
    assert out.final.mask_logits.shape == (3, 7, height, width)
    torch.testing.assert_close(out.final.mask_logits, alone, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(out.pixel_features.norm(dim=1), torch.ones(3, height, width))
    assert out.semantic_logits is None


@pytest.mark.parametrize("interaction", ALL)
def test_every_interaction_gives_masks_assignments_and_gradients(interaction):
    model = small(
        backbone="resnet50",
        encoder=ENCODERS["resnet50"],
        interaction=interaction,
        predicts=True,
        semantic=True,
    )
    with recorded_weights(model) as weights:
        out = model(torch.rand(2, 3, 64, 96))
    assert len(out.assignments) == len(out.auxiliary) == 3
    for assigned in out.assignments:
        torch.testing.assert_close(assigned.sum(1), torch.ones_like(assigned[:, 0]))
    assert len(out.references) == (3 if interaction == "clustering" else 0)
    assert "decoder.layers.0.0.attention" in weights
    predictions = (out.final, *out.auxiliary)
    learned = [out.semantic_logits, *out.references, *(x for p in predictions for x in p)]
    sum(x.mean() for x in learned).backward()
    assert out.semantic_logits.shape == (2, 6, 16, 24)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_convnexts_patches_start_a_pixel_before_the_image():
    """Published: 1 zero before and 2 behind, floor; the other maps are padded behind."""
    encoder = BACKBONES["convnext_tiny"](**ENCODERS["convnext_tiny"])
    for size in (33, 32, 31, 30):
        x = torch.rand(1, 3, size, size)
        padded = nn.functional.pad(2 * x - 1, (1, 2, 1, 2))
        first = encoder.patches.project(padded)
        ours = encoder.patches(encoder.normalised(x)).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours, first)


def published(model, backbone):
    """The PyTorch port's names and shapes for what `model` holds."""
    names = {}
    encoder = {
        "resnet50": (
            ("stages.0.", "res2."),
            ("stages.1.", "res3."),
            ("stages.2.", "res4."),
            ("stages.3.", "res5."),
            ("stem.0.", "stem.conv1."),
            ("stem.1.", "stem.conv1.norm."),
            ("narrow.0.", "conv1."),
            ("narrow.1.", "conv1.norm."),
            ("mix.0.", "conv2."),
            ("mix.1.", "conv2.norm."),
            ("widen.0.", "conv3."),
            ("widen.1.", "conv3.norm."),
            ("shortcut.0.", "shortcut."),
            ("shortcut.1.", "shortcut.norm."),
        ),
        "convnext_tiny": (
            *((f"stages.{s}.0.entry_norm.", f"downsample_layers.{s}.0.") for s in (1, 2, 3)),
            *((f"stages.{s}.0.patches.project.", f"downsample_layers.{s}.1.") for s in (1, 2, 3)),
            ("patches.project.", "downsample_layers.0.0."),
            ("patch_norm.", "downsample_layers.0.1."),
            *((f"stages.{s}.1.", f"stages.{s}.0.") for s in (1, 2, 3)),
            ("branch.0.filter.", "dwconv."),
            ("branch.1.", "norm."),
            ("branch.2.widen.", "pwconv1."),
            ("branch.2.narrow.", "pwconv2."),
            (".0.scale", ".0.gamma"),
        ),
    }[backbone]
    head = (
        ("head.pixels.0.", "_predcitor._pixel_space_head_conv0bnact."),
        ("head.pixels.1.", "_predcitor._pixel_space_head_conv1bnact."),
        ("head.feature.", "_predcitor._pixel_space_head_last_convbn."),
        ("head.kernel.", "_predcitor._transformer_mask_head."),
        ("head.classes.", "_predcitor._transformer_class_head.conv."),
        ("head.mask_norm.", "_predcitor._pixel_space_mask_batch_norm."),
    )
    layers = (
        *((f"layers.{i}.0.", f"_kmax_transformer_layers.{i}.") for i in range(3)),
        ("enter_queries.", "_query_conv1_bn_act."),
        ("enter_pixels.", "_pixel_conv1_bn_act."),
        ("project_queries.", "_query_qkv_conv_bn."),
        ("project_pixels.", "_pixel_v_conv_bn."),
        ("leave_attention.", "_query_conv3_bn."),
        ("leave_cluster.", "_kmeans_query_conv3_bn."),
        ("attention.score_norm.", "_query_self_attention._batch_norm_similarity."),
        ("attention.token_norm.", "_query_self_attention._batch_norm_retrieved_value."),
        ("cluster_norm.", "_kmeans_query_batch_norm_retrieved_value."),
        ("feed_forward.0.", "_query_ffn_conv1_bn_act."),
        ("feed_forward.1.", "_query_ffn_conv2_bn."),
        ("of_classes.", "_class_embedding_projection."),
        ("of_masks.", "_mask_embedding_projection."),
    )
    pixels = (
        ("norms.", "_in_norms."),
        ("fuses.", "_resized_fuses."),
        ("coarse.", "_conv_bn_low."),
        ("fine.", "_conv_bn_high."),
        ("narrow.", "_conv1_bn_act."),
        ("widen.", "_conv3_bn."),
        ("shortcut.", "_shortcut."),
        *((f"stages.{i}.0.", f"_stages.{i}._blocks.0.") for i in range(4)),
        ("mix.0.height.", "_attention._height_axis."),
        ("mix.0.width.", "_attention._width_axis."),
        ("mix.", "_conv2_bn_act."),
        ("project.conv.", "qkv_transform.conv."),
        ("project.norm.", "_batch_norm_qkv."),
        ("attention.score_norm.", "_batch_norm_similarity."),
        ("attention.token_norm.", "_batch_norm_retrieved_output."),
        *(
            (f"attention.position.{w}", f"_{w}_rpe._embeddings.weight")
            for w in ("query", "key", "value")
        ),
    )
    for name, value in model.state_dict().items():
        part, rest = name.split(".", 1)
        place, table = {
            "encoder": ("backbone.", encoder),
            "pixel_decoder": ("sem_seg_head.pixel_decoder.", pixels),
            "decoder": ("sem_seg_head.predictor.", (*head, *layers)),
        }[part]
        if rest == "queries":
            rest = "_cluster_centers.weight"
        for ours, theirs in table:
            rest = rest.replace(ours, theirs)
        flat = part == "decoder" and rest.endswith("conv.weight") and "_pixel" not in rest
        names[place + rest] = value[..., 0] if flat else value
    extra = "sem_seg_head.predictor._auxiliary_semantic_predictor.conv_block_0.conv.weight"
    return names | {extra: torch.zeros(3, 1, 5, 5)}


@pytest.mark.parametrize("backbone", ["resnet50", "convnext_tiny"])
def test_the_published_layout_loads(backbone):
    """What a checkpoint of the PyTorch port holds; its semantic branch is left out."""
    make = partial(small, backbone=backbone, encoder=ENCODERS[backbone])
    first, second = make(), make()
    load_weights(second, published(first, backbone))
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
    load_weights(second, first.state_dict())


def test_weights_from_training_load_without_the_semantic_branch():
    make = partial(small, encoder=ENCODERS["resnet50"])
    trained, without = make(semantic=True), make()
    load_weights(without, trained.state_dict())
    for name, value in without.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    with pytest.raises(ValueError, match="semantic"):
        load_weights(trained, without.state_dict())


def test_by_name():
    overrides = SMALL | {"encoder": ENCODERS["max_s"], "interaction": "dual_kmeans"}
    assert isinstance(create_model("kmax_max_s", **overrides), KMaxDeepLab)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backbone": "vgg"}, "'vgg'; known are resnet50, max_s"),
        ({"decoder_widths": (8, 8)}, r"decoder_widths=\(8, 8\).*which has 4"),
        ({"losses": {"class_balance": (1.0, 2.0)}}, "2 numbers for 133 classes; give one for each"),
        ({"losses": {"contrast": "pixel"}}, "contrast='pixel'; known are pixels, masks"),
    ],
)
def test_bad_settings_say_so(wrong, message):
    with pytest.raises(ValueError, match=message):
        KMaxDeepLab(**wrong)


def test_short_trainings_start_with_surer_masks_and_follow_their_norms_faster():
    """One step on one image: published norms keep 0.99 of where they started, ours 0.9."""
    for name, scale, kept in (("kmax_resnet50", 0.1, 0.99), ("kmax_small", 2.0, 0.9)):
        model = create_model(name, **SMALL, backbone="resnet50", encoder=ENCODERS["resnet50"])
        norm = model.decoder.head.mask_norm
        assert norm.weight.item() == pytest.approx(scale)
        norm(torch.full((1, 1, 4, 6), 7.0))
        assert norm.running_mean.item() == pytest.approx(7 * (1 - kept))


def test_the_balance_of_generated_scenes_is_for_their_classes_alone():
    given = SMALL | {"backbone": "resnet50", "encoder": ENCODERS["resnet50"]}
    for classes, balance in ((4, (1.0, 1.0, 4.0, 1.0)), (15, None)):
        losses = create_model("kmax_small", **given | {"num_classes": classes}).losses
        assert losses.class_balance == balance and losses.mask_weight == 10


def test_bad_images_say_so():
    model = small(encoder=ENCODERS["resnet50"])
    with pytest.raises(ValueError, match=r"\[2, 4, 8, 8\]; give \[images, 3, height, width\]"):
        model(torch.rand(2, 4, 8, 8))
