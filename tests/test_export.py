import graphs
import pytest
import torch

from stereo_tr.exporting import write_graph


@pytest.mark.parametrize("name", graphs.IN_ONNX)
def test_every_family_in_onnx(name, tmp_path):
    import onnxruntime

    model, path = graphs.tiny(name), tmp_path / "tiny.onnx"
    with graphs.shapes_unchecked():
        write_graph(model, name, path)
    session = onnxruntime.InferenceSession(path)
    call = getattr(model, "encode_images", model)
    for size in ((1, 3, 128, 96), (3, 3, 151, 203)):  # the graph was recorded for 2x141x174
        images = torch.rand(size)
        with torch.inference_mode():
            expected = call(images)
        (found,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["model"] == name
