"""FID's Inception network through pytorch-fid, with its published weights, checked by their hash.

Heusel et al. 2017 (arXiv 1706.08500) in pytorch-fid's port. Only these features give numbers called `fid` and `kid`.
"""

import threading
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from geovae.files import hash_file

WEIGHTS_NAME = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
WEIGHTS_URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS_NAME}"

_building = threading.Lock()
_declared: list[torch.library.Library] = []  # kept alive: dropping a library withdraws its operators


class MissingWeights(FileNotFoundError):
    """The weights of FID's network are not here."""


class Inception(nn.Module):
    """Features (b, 2048) of images (b, c, h, w) in [0, 1], resized to 299 x 299; one channel is repeated to three."""

    name = "inception"
    id = f"inception-fid-{WEIGHTS_SHA256[:8]}"

    def __init__(self, *, weights: str | Path | None = None) -> None:
        """Load `weights`, or the file that `inception_weights_path` finds."""
        super().__init__()
        path = checked_weights(weights)
        self.network = _build(torch.load(path, map_location="cpu", weights_only=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return the 2048 features of the final average pooling."""
        if x.shape[1] not in (1, 3):
            raise ValueError(f"inception takes images with 1 or 3 channels, got {x.shape[1]}")
        pooled: Tensor = self.network(x.expand(-1, 3, -1, -1))[0]
        return pooled.flatten(1)


def inception_weights_path() -> Path | None:
    """Return the weights file in torch hub's cache ($TORCH_HOME/hub/checkpoints), None where it is not; no network."""
    path = weights_folder() / WEIGHTS_NAME
    return path if path.is_file() else None


def weights_folder() -> Path:
    """Return the folder in which torch hub keeps weights: $TORCH_HOME/hub/checkpoints."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def checked_weights(weights: str | Path | None = None) -> Path:
    """Return the weights file, `weights` or the one that `inception_weights_path` finds.

    Raises:
        MissingWeights: if there is none.
        ValueError: if its hash is not the published one.
    """
    path = Path(weights) if weights is not None else inception_weights_path()
    if path is None or not path.is_file():
        raise MissingWeights(
            f"no Inception weights at {path or weights_folder() / WEIGHTS_NAME}: download {WEIGHTS_URL} once and put "
            "it there, or give another path as `weights`; without it use the extractor 'random-conv-v1', whose numbers "
            "are not FIDs"
        )
    digest = hash_file(path)
    if digest != WEIGHTS_SHA256:
        raise ValueError(
            f"{path} is not FID's Inception file: its sha256 is {digest}, not {WEIGHTS_SHA256}; "
            f"download it again from {WEIGHTS_URL}"
        )
    return path


def _build(state: dict[str, Any]) -> nn.Module:
    """Return pytorch-fid's network with the weights `state`."""
    module = import_pytorch_fid()
    # its constructor can only download the weights: for the time of the call, the download returns `state`
    with _building, mock.patch.object(module, "load_state_dict_from_url", return_value=state):
        network: nn.Module = module.InceptionV3([module.InceptionV3.BLOCK_INDEX_BY_DIM[2048]]).eval()
    return network


def import_pytorch_fid() -> Any:
    """Import pytorch_fid.inception; where torchvision's compiled operators are missing, declare them first.

    A CPU torch with the registry's CUDA torchvision has none (pytorch/vision#9077); only plain layers are used.
    """
    try:
        import pytorch_fid.inception as module
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_operators()
        import pytorch_fid.inception as module
    return module


def _declare_operators() -> None:
    torch_library: Any = torch.library  # torch does not annotate it
    library = torch_library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
