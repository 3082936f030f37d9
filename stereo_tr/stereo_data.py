"""Which pairs a stereo model is trained and validated on: names, weights and roots made data sets.

    --data generated                                      endless, nothing to download
    --data sceneflow:0.7 generated:0.3 --root DIR         a mixture; weights are 1 where not given
    --data sceneflow:2,kitti2015_train --root sceneflow=DIR kitti2015_train=DIR

Pairs on disk are shuffled anew in each epoch, augmented by the settings' recipe and cropped to the
settings' size. Generated pairs are made in that size, by two cameras that differ already.

A validation scores whole pairs: those of `--validate`; else the part that the first data set holds
back, where it does; else generated ones.

Letters  H W image height and width in pixels
Tests    tests/test_stereo_data.py
"""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from torch.utils.data import Dataset, Subset

from .datasets.augmentation import RECIPES, augmented
from .datasets.generated import GeneratedScenes
from .datasets.naming import closest
from .datasets.registry import DATASETS, open_dataset
from .datasets.sample import StereoSample
from .mixing import Mixture, Shuffled
from .recipe import TrainingSettings
from .training_data import VALIDATION_SEED


def _generated(height: int, width: int, seed: int) -> Dataset[StereoSample]:
    return GeneratedScenes(height, width, seed=seed)


DATA: dict[str, Callable[[int, int, int], Dataset[StereoSample]]] = {"generated": _generated}
"""name -> function of height, width and seed, of data that need no disk. The data set takes every
index from 0 on; a sample depends on the seed and its index alone and is of height x width pixels"""

HELD_OUT = {
    "sceneflow": "sceneflow_test",
    "sceneflow_clean": "sceneflow_clean_test",
    "flyingthings3d": "flyingthings3d_test",
    "flyingthings3d_clean": "flyingthings3d_clean_test",
    "flyingthings3d_subset": "flyingthings3d_subset_val",
    "kitti2012_train": "kitti2012_validation",
    "kitti2015_train": "kitti2015_validation",
    "instereo2k": "instereo2k_test",
}
"""data set -> the part of it, with truth, that isn't for training"""


def read_mixture(data: Sequence[str]) -> dict[str, Fraction]:
    """Turn ("sceneflow:0.7,generated:0.3",) or its parts one by one into name -> weight.

    Raises ValueError for a name that isn't known or comes twice, or a weight that isn't positive.
    """
    mixture: dict[str, Fraction] = {}
    for part in (part for text in data for part in text.split(",")):
        name, colon, weight = part.partition(":")
        _require_known(name)
        if name in mixture:
            raise ValueError(f"--data names {name} twice; give it one weight, as in {name}:2")
        try:
            mixture[name] = Fraction(weight) if colon else Fraction(1)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"--data {part}: {weight!r} is no weight, such as 0.7") from error
        if mixture[name] <= 0:
            raise ValueError(f"--data {part}: a weight is positive; leave {name} out instead")
    if not mixture:
        raise ValueError(f"--data takes names of data sets: {', '.join(_names())}")
    return mixture


def open_training(settings: TrainingSettings) -> Dataset[StereoSample]:
    """Open the pairs to train on.

    Raises ValueError for settings that can't be, OSError and ValueError as `open_dataset`.
    """
    size, seed = (settings.height, settings.width), settings.seed
    if settings.augmentation not in RECIPES:  # also where no pair comes from disk
        hint = closest(settings.augmentation, RECIPES)
        raise ValueError(f"unknown augmentation {settings.augmentation!r}; {hint}")
    mixture = read_mixture(settings.data)
    roots = read_roots(settings.root, mixture)
    parts: list[Dataset[StereoSample]] = []
    for name in mixture:
        if name in DATA:
            parts.append(DATA[name](*size, seed))
        else:
            pairs = Shuffled(_open(name, roots[name]), seed)
            parts.append(augmented(pairs, settings.augmentation, *size, seed))
    return parts[0] if len(parts) == 1 else Mixture(parts, list(mixture.values()))


def open_validation(settings: TrainingSettings) -> Dataset[StereoSample]:
    """Open the pairs to score, never trained on unless `validate` names the training data itself.

    Of a data set on disk they are spread evenly over its order, `settings.validate_pairs` of them.
    Raises as `open_training`.
    """
    mixture = read_mixture(settings.data)
    first = next(iter(mixture))
    name = settings.validate or (first if first in DATA else HELD_OUT.get(first, "generated"))
    _require_known(name)
    if name in DATA:
        if settings.validate_root is not None:
            raise ValueError(f"--validate-root is of no use: {name} pairs aren't read from disk")
        return DATA[name](settings.height, settings.width, VALIDATION_SEED)
    root = settings.validate_root
    if root is None:
        roots = read_roots(settings.root, mixture)
        # Without a root of its own it is a part of a data set that is trained on.
        trained = next((t for t in mixture if name in (t, HELD_OUT.get(t))), None)
        if trained is None:
            raise ValueError(f"--validate {name} is read from disk: give --validate-root DIR")
        root = roots[trained]
    try:
        pairs = _open(name, root)
    except FileNotFoundError as error:
        if settings.validate is not None:
            raise
        raise FileNotFoundError(
            f"{error}. A run on {first} is validated on {name}; or take --validate generated"
        ) from error
    count = min(settings.validate_pairs, len(pairs))
    return Subset(pairs, [index * len(pairs) // count for index in range(count)])


def read_roots(given: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """Turn ("DIR",) or ("sceneflow=DIR", "kitti2015=DIR") into name -> folder or file.

    A root without a name serves every data set that isn't named. Raises ValueError where one of the
    `names` that is read from disk has none, or a root is of no use.
    """
    on_disk = [name for name in names if name not in DATA]
    roots: dict[str, str] = {}
    common: list[str] = []
    for text in given:
        name, equals, root = text.partition("=")
        if equals and name in DATASETS:
            roots[name] = root
        else:
            common.append(text)
    if len(common) > 1:
        raise ValueError(
            f"--root {' '.join(common)}: for several data sets say which is whose, "
            f"as in {(on_disk or ['kitti2015'])[0]}={common[0]}"
        )
    for name in on_disk:
        if name not in roots and not common:
            raise ValueError(
                f"--data {name} is read from disk: give --root DIR, or --root {name}=DIR"
            )
    if unused := [name for name in roots if name not in on_disk]:
        raise ValueError(f"--root {unused[0]}=... is of no use: --data doesn't name {unused[0]}")
    if given and not on_disk:
        raise ValueError("--root is of no use: no data set of --data is read from disk")
    return {name: roots.get(name, *common) for name in on_disk}


def _open(name: str, root: str) -> Dataset[StereoSample]:
    dataset = open_dataset(name, Path(root))
    if "disparity" not in dataset.required:
        raise ValueError(f"the truth of {name} isn't published: nothing can be learned or scored")
    return dataset


def _names() -> list[str]:
    return [*DATA, *DATASETS]


def _require_known(name: str) -> None:
    if name not in _names():
        raise ValueError(f"unknown data {name!r}; {closest(name, _names())}")
