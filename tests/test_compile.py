import graphs
import pytest
import torch


@pytest.mark.parametrize("name", graphs.NAMES)
def test_one_graph_without_breaks_for_any_size(name):
    """Dynamo's graph run as it is: what a compiler would be given."""
    model = graphs.tiny(name)
    call = getattr(model, "encode_images", model)
    torch._dynamo.reset()
    compiled = torch.compile(call, backend="eager", fullgraph=True, dynamic=True)
    views = 2 if name == "cstr_small" else 1
    for batch, height, width in ((1, 64, 96), (3, 81, 122)):
        given = [torch.rand(batch, 3, height, width) for _ in range(views)]
        with graphs.shapes_unchecked(), torch.inference_mode():
            expected, found = call(*given), compiled(*given)
        expected, found = (each[0] if views == 2 else each for each in (expected, found))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
