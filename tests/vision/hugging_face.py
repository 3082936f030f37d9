"""Hugging Face's models with random weights, to compare with."""

import importlib
import warnings

import torch


def hugging_face(family: str, prefix: str, **config):
    """Return a classifier, and its weights by name; every number of it is random."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other people's imports warn about isn't ours
        module = importlib.import_module(f"transformers.models.{family}")
        settings = getattr(module, f"{prefix}Config")(**config)
        model = getattr(module, f"{prefix}ForImageClassification")(settings).eval()
    torch.manual_seed(3)
    weights = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value = value + torch.randn(value.shape) / (value[0].numel() ** 0.5 + 1)
            weights[name] = value.abs() if name.endswith("running_var") else value
        else:
            weights[name] = value
    model.load_state_dict(weights)
    return model, weights


def run(model, images, **options):
    """Return a model's output, with the maps on the way."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model(images, output_hidden_states=True, **options)
