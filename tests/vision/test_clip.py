import gzip
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from golden_vision import golden

from stereo_tr.pretrained import create_model, load_weights
from stereo_tr.vision.clip import CLIP, TextTower, contrastive_loss
from stereo_tr.vision.tokenizer import Tokenizer
from stereo_tr.vision.vitamin import ViTamin

TEXT = partial(TextTower, channels=32, depth=3, heads=4, joint=24, vocabulary=50, context=16)


def tiny():
    image = ViTamin(
        stem=8, channels=16, depth=1, heads=2, convolutions=(1, 1), image_size=32, num_classes=0
    )
    return CLIP(image, TEXT(), 16, 24)


@torch.no_grad()
def test_the_text_tower_is_openclips():
    _, weights, tensors = golden("clip_text_small")
    tower = TEXT().eval()
    load_weights(tower, weights)
    features = tower(tensors["in/tokens"])
    torch.testing.assert_close(features, tensors["out/features"], rtol=1e-4, atol=1e-4)


def test_the_loss_is_openclips():
    _, _, tensors = golden("clip_loss")
    image, text, scale = (
        tensors[f"in/{name}"].requires_grad_() for name in ("image", "text", "logit_scale")
    )
    loss = contrastive_loss(image, text, scale)
    torch.testing.assert_close(loss, tensors["out/loss"], rtol=1e-6, atol=1e-6)
    loss.backward()
    for ours, name in ((image, "image"), (text, "text"), (scale, "scale")):
        torch.testing.assert_close(ours.grad, tensors[f"out/grad_{name}"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("vitamin_small_clip", 22.026e6, 40.44e6),
        ("vitamin_base_clip", 87.53e6, 63.43e6),
        ("vitamin_large_clip", 333.32e6, 123.65e6),
    ],
)
def test_sizes_are_the_published(name, image, text):
    with torch.device("meta"):
        model = create_model(name)
    towers = [sum(x.numel() for x in part.parameters()) for part in (model.image, model.text)]
    assert towers[0] + model.to_joint.weight.numel() == pytest.approx(image, rel=1e-3)
    assert towers[1] == pytest.approx(text, rel=1e-3)


@torch.no_grad()
def test_what_comes_after_the_end_mark_says_nothing():
    tower = TEXT().eval()
    tokens = torch.tensor([[47, 3, 8, 49, 0, 0, 0], [47, 5, 49, 0, 0, 0, 0]])
    other = torch.tensor([[47, 3, 8, 49, 7, 1, 30], [47, 5, 49, 2, 9, 4, 6]])
    torch.testing.assert_close(tower(tokens), tower(other))
    torch.testing.assert_close(tower(tokens[:, :4]), tower(tokens))
    with pytest.raises(ValueError, match="17 tokens in a text; this model reads 16 at most"):
        tower(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.parametrize("prefix", ["text.", ""])
@torch.no_grad()
def test_openclips_checkpoints_load(prefix):
    """The text tower's names stand below `text.` or alone; the image tower has timm's names."""
    _, weights, _ = golden("clip_text_small")
    model = tiny()
    published = {f"{prefix}{name}": value for name, value in weights.items()}
    published["logit_scale"] = torch.tensor(2.5)
    published["visual.head.proj.weight"] = torch.randn(24, 16)
    position = torch.randn(1, 4, 16)
    for name, value in model.image.state_dict().items():
        published[f"visual.trunk.{name}"] = value + 1
    del published["visual.trunk.position.table"]
    published["visual.trunk.pos_embed"] = position
    load_weights(model, published)
    assert model.log_scale == 2.5
    assert torch.equal(model.to_joint.weight, published["visual.head.proj.weight"])
    assert torch.equal(model.text.words.weight, weights["token_embedding.weight"])
    assert torch.equal(model.image.position.table, position.view(2, 2, 16))
    # our own layout, back and forth
    again = tiny()
    load_weights(again, model.state_dict())
    for ours, theirs in zip(again.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_classes_are_means_over_their_texts():
    model = tiny().eval()
    images = torch.rand(3, 3, 32, 40)
    prompts = [torch.tensor([[47, 3, 49], [47, 9, 49]]), torch.tensor([[47, 8, 49]])]
    classes = model.zero_shot_classes(prompts)
    first = model.encode_texts(prompts[0]).sum(0)
    torch.testing.assert_close(classes[0], first / first.norm())
    vectors = model(images, prompts[0])
    torch.testing.assert_close(vectors.image.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(vectors.scale, torch.tensor(1 / 0.07))
    expected = vectors.scale * vectors.image @ classes.T
    torch.testing.assert_close(model.classify(images, classes), expected)


def test_the_scale_stays_in_its_range():
    model = tiny()
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    tokens = torch.tensor([[47, 3, 49]])
    out = model.train()(torch.rand(1, 3, 32, 32), tokens)
    assert out.scale.item() == pytest.approx(100)
    assert model.log_scale.item() == pytest.approx(math.log(100))


def test_merges_are_followed_in_their_order():
    """Numbers: 256 letters, 256 letters that end a word, then the merges."""
    merges = [("l", "o"), ("lo", "w</w>"), ("e", "r</w>"), ("w", "er</w>"), ("a", "a")]
    tokenizer = Tokenizer(merges, context=9)
    letters = {letter: number for number, letter in enumerate(map(chr, range(33, 127)))}
    assert tokenizer.vocabulary == 512 + len(merges) + 2
    assert tokenizer.numbers("low") == [513]
    assert tokenizer.numbers("  LOWER ") == [512, 515]
    assert tokenizer.numbers("slow") == [letters["s"], 513]
    assert tokenizer.numbers("aaa!") == [516, 256 + letters["a"], 256 + letters["!"]]
    # digits stand alone; contractions, letters and signs are words; entities are resolved twice
    assert tokenizer.numbers("12") == [256 + letters["1"], 256 + letters["2"]]
    assert tokenizer.numbers("it's?!") == [
        letters["i"],
        256 + letters["t"],
        letters["'"],
        256 + letters["s"],
        letters["?"],
        256 + letters["!"],
    ]
    assert tokenizer.numbers("&amp;lt;") == [256 + letters["<"]]
    # é is two bytes, C3 A9, visible in Latin-1 both
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    assert tokenizer.numbers("é") == [visible.index(0xC3), 256 + visible.index(0xA9)]
    rows = tokenizer(["low", "a b c d e f g h i"])
    start, end = 517, 518
    assert rows[0].tolist() == [start, 513, end, 0, 0, 0, 0, 0, 0]
    assert rows.shape == (2, 9)
    assert rows[1, -1] == end


def test_merges_come_from_a_file(tmp_path):
    plain, packed = tmp_path / "merges.txt", tmp_path / "merges.txt.gz"
    plain.write_text('"bpe": version\nl o\nlo w</w>\n')
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        tokenizer = Tokenizer.from_file(path)
        assert tokenizer.numbers("low") == [513]
        assert tokenizer("low").shape == (1, 77)
    plain.write_text("heading\none two three\n")
    with pytest.raises(ValueError, match="line 2 isn't two pieces"):
        Tokenizer.from_file(plain)
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ValueError, match="can't be read"):
        Tokenizer.from_file(packed)
    with pytest.raises(FileNotFoundError):
        Tokenizer.from_file(tmp_path / "none.txt")


WORKER = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from stereo_tr.vision.clip import contrastive_loss

rank, folder = int(sys.argv[1]), sys.argv[2]
held = torch.load(f"{folder}/in.pt", weights_only=True)
dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
image, text, scale = held["towers"][0], held["towers"][1], held["scale"].requires_grad_()
towers = [nn.Parameter(tower) for tower in (image, text)]
vectors = [
    nn.functional.normalize(x[3 * rank : 3 * rank + 3] @ tower, dim=-1)
    for x, tower in zip(held["x"], towers)
]
loss = contrastive_loss(*vectors, scale)
loss.backward()
gradients = [tower.grad for tower in towers] + [scale.grad]
for gradient in gradients:
    dist.all_reduce(gradient)
    gradient /= 2
if rank == 0:
    torch.save([loss.detach(), *gradients], f"{folder}/out.pt")
dist.destroy_process_group()
"""


def test_two_processes_learn_what_one_does(tmp_path):
    """Each brings three of six pairs; gradients are averaged as the training loop does."""
    torch.manual_seed(4)
    held = {"x": torch.randn(2, 6, 5), "towers": torch.randn(2, 5, 4), "scale": torch.tensor(3.0)}
    torch.save(held, tmp_path / "in.pt")
    root = str(Path(__file__).resolve().parents[2])
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], cwd=root)
        for rank in range(2)
    ]
    assert [worker.wait(timeout=300) for worker in workers] == [0, 0]
    towers = [tower.clone().requires_grad_() for tower in held["towers"]]
    scale = held["scale"].clone().requires_grad_()
    image, text = (
        torch.nn.functional.normalize(x @ tower, dim=-1)
        for x, tower in zip(held["x"], towers, strict=True)
    )
    loss = contrastive_loss(image, text, scale)
    loss.backward()
    expected = [loss.detach(), *(x.grad for x in (*towers, scale))]
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    for ours, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, alone, rtol=1e-5, atol=1e-7)
