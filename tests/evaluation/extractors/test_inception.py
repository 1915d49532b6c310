import dataclasses
import hashlib
import zlib

import numpy as np
import pytest
import torch

from sagan.evaluation.extractors import inception
from sagan.evaluation.extractors.inception_network import FidInception
from sagan.evaluation.extractors.resize import resize_bicubic
from sagan.evaluation.extractors.table import load_extractor
from sagan.evaluation.extractors.weights import INCEPTION, load_weights
from sagan.system.files import file_sha256

# What torch-fidelity 0.4.0's FeatureExtractorInceptionV3 ("2048" and "logits_unbiased") makes of ``formula_images``
# when it loads ``formula_weights``: torch 2.13, CPU, float32. Two channels of each of the six branches of the last
# block, and the Euclidean norm of all, for the first and the second image.
CHANNELS = [2, 7, 320, 323, 705, 706, 1088, 1089, 1472, 1473, 1856, 1857]
FEATURES = [
    [1.43452, 2.10443, 0.61616, 3.3944, 2.13448, 4.36204, 2.33663, 4.19083, 4.03254, 2.68958, 5.84309, 5.87251],
    [3.42084, 3.92018, 2.53226, 6.57171, 3.52128, 8.14195, 4.52668, 8.85423, 7.40528, 5.85162, 12.22877, 9.65799],
]
FEATURE_NORMS = [195.3339, 357.2283]
CLASSES = [0, 500, 1007]
LOGITS = [[-12.51528, 2.717, -9.48103], [-24.6881, 3.79008, -17.99896]]
LOGIT_NORMS = [362.511, 657.79]
# The sha256 of one line "name (shape)" for each tensor of torch-fidelity's network, in its order.
LAYOUT = "79c8158b8eb5f9c1c404019d79ee503732a6fae29639fcdceffd24059d7224ea"


def formula_weights(shapes):
    """Weights that depend on nothing but their names: uniform numbers from numpy's Philox, keyed by the name's CRC."""
    weights = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        raw = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(count)
        unit = torch.from_numpy((raw >> np.uint64(11)) * 2.0**-53 * 2 - 1).reshape(tuple(shape))
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.long)
        elif name.endswith("conv.weight"):
            weights[name] = (unit * (6 / np.prod(shape[1:])) ** 0.5).float()
        elif name.endswith(("bn.weight", "running_var")):
            weights[name] = (1 + 0.5 * unit).float()
        else:
            weights[name] = (unit * (0.1 if name == "fc.weight" else 0.2)).float()
    return weights


def formula_images():
    """Two images of 50 x 64: waves, and noise."""
    channel, y, x = np.ogrid[:3, :50, :64]
    waves = 127 + 60 * np.sin(x / 7 + channel) + 60 * np.cos(y / 5 - channel)
    noise = np.random.Philox(key=7).random_raw(3 * 50 * 64).reshape(3, 50, 64) >> np.uint64(56)
    return torch.from_numpy(np.stack([waves.astype(np.uint8), noise.astype(np.uint8)]))


def layout():
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in FidInception().state_dict().items()}


@pytest.fixture(scope="module", name="weights_file")
def make_weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "formula.pth"
    torch.save(formula_weights(layout()), path)
    return path


@pytest.fixture(scope="module", name="extractor")
def make_extractor(weights_file):
    return load_extractor("inception", weights=weights_file)


def test_the_layout_is_that_of_the_published_file():
    lines = "".join(f"{name} {shape}\n" for name, shape in layout().items())
    assert len(layout()) == 566
    assert hashlib.sha256(lines.encode()).hexdigest() == LAYOUT


def test_features_and_logits_equal_those_of_torch_fidelity(extractor):
    features, logits = extractor.with_logits(formula_images())
    assert features.shape == (2, 2048)
    assert logits.shape == (2, 1008)
    np.testing.assert_allclose(features[:, CHANNELS], FEATURES, rtol=1e-4)
    np.testing.assert_allclose(logits[:, CLASSES], LOGITS, rtol=1e-4)
    np.testing.assert_allclose(features.norm(dim=1), FEATURE_NORMS, rtol=1e-5)
    np.testing.assert_allclose(logits.norm(dim=1), LOGIT_NORMS, rtol=1e-5)


def test_the_clean_extractor_sees_what_clean_fid_shows(weights_file):
    extractor = load_extractor("inception-clean", weights=weights_file)
    with torch.device("meta"):
        network = FidInception()
    load_weights(network, formula_weights(layout()), "the formula")
    image = formula_images()[:1]
    with torch.inference_mode():
        expected, _ = network.eval()(resize_bicubic(image, (299, 299)))
    assert extractor.resize == "bicubic antialiased to 299"
    assert extractor.name == f"inception-{file_sha256(weights_file)[:8]}-clean"
    assert extractor.qualifier == f"(Inception-v3 with weights {file_sha256(weights_file)[:8]}) (clean resize)"
    torch.testing.assert_close(extractor(image), expected, rtol=1e-4, atol=1e-4)


def test_other_weights_are_never_called_fid(extractor, weights_file):
    sha256 = file_sha256(weights_file)
    assert extractor.weights_sha256 == sha256
    assert extractor.name == f"inception-{sha256[:8]}-tf1"
    assert (extractor.is_fid, extractor.qualifier) == (False, f"(Inception-v3 with weights {sha256[:8]})")
    assert extractor.resize == "bilinear TF1 to 299"


def test_the_published_weights_give_the_fid_and_are_the_default(weights_file, monkeypatch):
    published = dataclasses.replace(INCEPTION, sha256=file_sha256(weights_file))
    monkeypatch.setattr(inception, "INCEPTION", published)
    monkeypatch.setenv(INCEPTION.variable, str(weights_file))
    extractor = load_extractor()
    assert (extractor.name, extractor.dim) == ("inception-2015-tf1", 2048)
    assert (extractor.is_fid, extractor.qualifier) == (True, "")
    assert extractor.weights_sha256 == published.sha256
    assert extractor.has_logits


def test_the_published_hash():
    assert INCEPTION.sha256.startswith("6726825d")
    assert all("6726825d" in name for name in INCEPTION.filenames)
