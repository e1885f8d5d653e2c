"""A trained model in one file: weights, what built them, and the codes of the training set.

The codes are all that geometry and samplers need, so drawing from a model file reads no data set.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geovae.adapters import KINDS, build_adopted
from geovae.checkpoint import check_finite, check_kind, load, restore_weights, save
from geovae.checks import check_choice, check_fields
from geovae.codes import Codes, encode_images
from geovae.data import DATASETS, Splits
from geovae.images import to_uint8
from geovae.models import build_model
from geovae.samplers import SAMPLERS, Sampler, fit_sampler

BATCH = 500  # images decoded at once
CODES = {  # names in the file -> fields of `Codes`
    "codes.mu": "mu",
    "codes.log_var": "log_var",
    "codes.held_out": "held_out",
    "labels": "labels",
    "codes.held_out_labels": "held_out_labels",
}
# of a model file's header; where a field is optional, None is admitted
HEADER: dict[str, Any] = {
    "model": str,
    "options": dict,
    "image_shape": list,
    "data": dict | None,
    "digest": str | None,
    "sampler": dict | None,
    "best_sampler": str | None,
    "headline": str | None,
    "scores": dict | None,
    "directions": dict | None,
}


@dataclass(frozen=True)
class SavedModel:
    """A model file in memory.

    Attributes:
        model: in evaluation mode.
        codes: of its training images (n, d), on the CPU, with those of its validation images as `held_out`, and the
            labels of both where they have any.
        meta: the rest of the header: `model`, `options`, `image_shape`, `data`, `digest`; after scoring also `sampler`
            (options by name), `best_sampler`, `headline` and `scores`; of brains `directions`, the sides of pictures.
    """

    model: Any
    codes: Codes
    meta: dict[str, Any]

    def encode(self, images: Tensor) -> Codes:
        """Return the codes (n, d) of `images` (n, c, h, w), uint8 or floats in [0, 1]; codes are on the CPU."""
        return encode_images(self.model, images)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return uint8 images (n, c, h, w), on the CPU, of latents (n, d) of any precision."""
        like = next(self.model.parameters())  # latents may be float64, or on another device
        return torch.cat([to_uint8(self.model.decode(batch.to(like)).float()).cpu() for batch in z.split(BATCH)])

    def sampler(
        self, name: str | None = None, *, codes: Codes | None = None, label: int | None = None, **options: Any
    ) -> Sampler:
        """Return a sampler fitted on the model's codes, with the options that the file records for it.

        Args:
            name: in `SAMPLERS`; None for the one with the best score of the file's run.
            codes: to fit on in place of the model's.
            label: of the one class to draw, by a sampler that is fitted on codes.
            **options: replace the recorded ones.

        Raises:
            ValueError: for an unknown name, a wrong option, or a sampler that these codes cannot feed.
        """
        name = name or self.meta.get("best_sampler")
        check_choice("sampler", name, SAMPLERS)
        recorded = self.meta.get("sampler", {}).get(name, {})
        return fit_sampler(str(name), self.codes if codes is None else codes, label=label, **{**recorded, **options})

    def splits(self) -> Splits:
        """Load the data set that the model was trained on.

        Raises:
            ValueError: if the data found here differ from those of the training.
            FileNotFoundError: if they are not here.
        """
        options = dict(self.meta["data"])
        name = options.pop("name")
        splits = DATASETS[name](**options)
        if splits.digest != self.meta["digest"]:  # another version of the data would give wrong splits in silence
            raise ValueError(
                f"the data set {name!r} found here is not the one that the model was trained on: "
                f"digest {splits.digest}, expected {self.meta['digest']}"
            )
        return splits


def save_model(
    path: Path | str,
    model: nn.Module,
    codes: Codes,
    *,
    name: str,
    options: dict[str, Any],
    **meta: Any,
) -> Path:
    """Write a model file, atomically: `model`, built by `build_model(name, image_shape, **options)`.

    Or, where `name` is a kind of model from elsewhere, by `build_adopted(name, options)`.

    `codes` (n, d) are those of its training set. `**meta` is JSON for the header: `image_shape` is
    required; samplers, data and scores are optional.
    """
    # copies, since a network may use a weight twice, and safetensors takes no tensors that share memory
    tensors = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
    tensors |= {name: value for name, field in CODES.items() if (value := getattr(codes, field)) is not None}
    tensors |= {f"codes.extras.{key}": value for key, value in codes.extras.items()}
    return save(path, tensors, {"kind": "model", "model": name, "options": options, **meta})


def load_model(path: Path | str, device: torch.device | str = "cpu") -> SavedModel:
    """Read a model file and build its model on `device`, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of another kind, of another architecture than its header names, or holds values
            that are not finite.
    """
    tensors, meta = load(path)
    check_kind(path, meta, "model")
    _check_header(path, meta, tensors)
    check_finite(path, tensors)
    try:
        model = _build(meta)
    except (ValueError, TypeError, LookupError, RuntimeError, AttributeError) as error:  # of options of another model
        raise ValueError(f"{path} does not describe a model: {' '.join(str(error).split())[:200]}") from error
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    restore_weights(path, lambda: model.load_state_dict(weights))
    extras = {k.removeprefix("codes.extras."): v for k, v in tensors.items() if k.startswith("codes.extras.")}
    codes = Codes(extras=extras, **{field: tensors[name] for name, field in CODES.items() if name in tensors})
    return SavedModel(model.to(device).eval(), codes, meta)


def _build(meta: dict[str, Any]) -> nn.Module:
    if meta["model"] in KINDS:
        return build_adopted(meta["model"], meta["options"])
    return build_model(meta["model"], tuple(meta["image_shape"]), **meta["options"])


def _check_header(path: Path | str, meta: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    where = f"the header of {path}"
    check_fields(where, meta, HEADER)
    shape, options = meta["image_shape"], meta["options"]
    if not 3 <= len(shape) <= 4 or not all(type(size) is int and 1 <= size <= 100_000 for size in shape):
        raise ValueError(f"{where} must hold `image_shape` of three or four sizes, got {str(shape)[:100]}")
    check_fields(f"`sampler` in {where}", meta.get("sampler") or {}, dict.fromkeys(meta.get("sampler") or {}, dict))
    mu = tensors.get("codes.mu")
    if mu is None or mu.ndim != 2 or not mu.is_floating_point():
        raise ValueError(f"{path} holds no codes `codes.mu` (n, d)")
    # before a model is built: a number that is too large would fill the memory
    if options.get("latent_dim", mu.shape[1]) != mu.shape[1]:
        raise ValueError(f"{where} names latent_dim {str(options['latent_dim'])[:50]}, its codes have {mu.shape[1]}")
