import pytest
import torch

from stereo_tr.datasets.generated import CLASSES, GeneratedScenes
from stereo_tr.datasets.generated_panoptic import SMALLEST, STUFF, GeneratedPanoptic

SIZE = (64, 96)


@pytest.mark.parametrize("coarse", [False, True])
def test_segments_are_the_scene_s_objects(coarse):
    images = GeneratedPanoptic(*SIZE, seed=4, coarse=coarse, photographs=False)
    scenes = GeneratedScenes(*SIZE, seed=4, photographs=False)
    for index in range(4):
        sample, scene = images[index], scenes.scene(index)
        assert torch.equal(sample.image, scene.sample.left)
        assert sorted(sample.segment_map.unique().tolist())[-1] == len(sample.classes)
        seen = []
        for number, category in enumerate(sample.classes.tolist(), 1):
            inside = sample.segment_map == number
            (kind,) = scene.classes[inside].unique().tolist()
            name = images.classes.names[category]
            if CLASSES[kind] in STUFF:
                assert name == CLASSES[kind]
                assert torch.equal(inside, scene.classes == kind)
                seen.append(category)
            else:
                (number_of_object,) = scene.objects[inside].unique().tolist()
                assert torch.equal(inside, scene.objects == number_of_object)
                assert inside.sum() >= SMALLEST
                assert name == ("thing" if coarse else CLASSES[kind])
                assert category in images.classes.things
        assert len(seen) == len(set(seen))
        void = sample.segment_map == 0
        for number in scene.objects[void].unique().tolist():
            assert (scene.objects == number).sum() < SMALLEST


def test_few_things():
    """At most ten are put up, some of them as groups, and no room or street."""
    few, all_ = (
        GeneratedPanoptic(*SIZE, seed=4, few=few, coarse=True, photographs=False)
        for few in (True, False)
    )
    counts = [
        [sum(c in images.classes.things for c in images[i].classes.tolist()) for i in range(12)]
        for images in (few, all_)
    ]
    assert all(counts[0]) and sum(counts[0]) < 0.7 * sum(counts[1])
    assert all("floor" not in [few.classes.names[c] for c in few[i].classes] for i in range(12))


def test_an_image_depends_on_seed_and_index_alone():
    images = GeneratedPanoptic(*SIZE, seed=4, photographs=False)
    again = GeneratedPanoptic(*SIZE, seed=4, photographs=False)
    assert all(torch.equal(a, b) for a, b in zip(images[3][:3], again[3][:3], strict=True))
    assert not torch.equal(images[3].image, images[2].image)
    assert images[3].name == "generated/4/3"
