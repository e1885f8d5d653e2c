"""Batches of images on a device: the whole set lives there, or passes through pinned memory chunk by chunk.

A chunk is many batches in the order of the epoch. The host gathers it while the device works on the chunk before, since
copies from pinned memory are asynchronous. Streamed and resident sets give the same batches.
"""

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from geovae.devices import free_memory

CHUNK_BYTES = 2**28  # few copies, and little memory beside the set
SHARE = 0.5  # of the memory left to this process; a larger set is streamed: networks and gradients need the rest


class Batches:
    """Batches on `device` of a set of images (n, c, h, w).

    Args:
        images: uint8 or float, in the host's memory or on the device.
        device: where the batches are needed.
        batch_size: images in a batch; the last one may be smaller.
        stream: whether to keep the set on the host; None: if it needs more than half of the free memory of the device.
            On a CPU it has no effect.
    """

    def __init__(self, images: Tensor, device: torch.device, batch_size: int, stream: bool | None = None) -> None:
        if stream is None:
            stream = images.device != device and not fits(images, device)
        self.streamed = stream and device.type == "cuda"
        self.images = images if self.streamed else images.to(device)
        self.device, self.batch_size = device, batch_size

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def shuffled(self, generator: Generator) -> Iterator[Tensor]:
        """Yield every image once, in an order drawn from `generator`, which is on the device."""
        order = torch.randperm(len(self), generator=generator, device=self.device)
        if self.streamed:
            yield from stream_batches(self.images, order, self.batch_size, self.device)
        else:
            for batch in order.split(self.batch_size):
                yield self.images[batch]

    def in_order(self) -> Iterator[Tensor]:
        """Yield the images as they stand."""
        for batch in self.images.split(self.batch_size):
            yield batch.to(self.device, non_blocking=True)


def fits(images: Tensor, device: torch.device) -> bool:
    """Return whether the images leave enough of the device's memory free."""
    if device.type != "cuda":
        return True
    return images.numel() * images.element_size() <= SHARE * free_memory(device)


def stream_batches(
    images: Tensor, order: Tensor, batch_size: int, device: torch.device, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Tensor]:
    """Yield `images[batch]` on `device` for the batches of `order` (n,), copied in chunks of whole batches."""
    bytes_each = images[0].numel() * images.element_size()
    rows = max(chunk_bytes // (bytes_each * batch_size), 1) * batch_size
    for chosen in order.to(images.device).split(rows):
        shape = (len(chosen), *images.shape[1:])
        # Pinned memory is recycled by torch only after the copies out of it have ended.
        host = torch.empty(shape, dtype=images.dtype, pin_memory=device.type == "cuda")
        torch.index_select(images, 0, chosen, out=host)
        yield from host.to(device, non_blocking=True).split(batch_size)
