"""Streamed arrays equal those that NumPy loads; damaged, foreign and dangerous files are refused by name."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geovae.data import npz


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3, st.sampled_from([1, 3])),
    dtype=st.sampled_from(["u1", "i2", ">i4", "i8", "f2", "f4", ">f8"]),
    fortran=st.booleans(),
    compressed=st.booleans(),
    chunk=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_streaming_equals_loading_at_once(tmp_path, monkeypatch, shape, dtype, fortran, compressed, chunk, seed):
    monkeypatch.setattr(npz, "CHUNK", chunk)
    values = np.random.default_rng(seed).integers(0, 256, shape)
    values.flat[0] = 200
    stored = np.asarray(values.astype(dtype), order="F" if fortran else "C")
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", x_train=stored)
    images = npz.read_images(tmp_path / "a.npz")
    assert images.dtype == torch.uint8
    assert images.is_contiguous()
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), values)
    assert np.array_equal(npz.read_array(tmp_path / "a.npz", "x_train"), stored)


def test_floats_between_two_levels_take_the_nearest(tmp_path):
    levels = np.array([0.4, 0.6, 9.51, 254.7], np.float32).reshape(1, 2, 2, 1)
    np.savez(tmp_path / "a.npz", x_train=levels)
    assert npz.read_images(tmp_path / "a.npz").flatten().tolist() == [0, 1, 10, 255]


def test_gray_images_need_no_channel_axis(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.full((2, 32, 32), 9, np.uint8))
    assert npz.read_images(tmp_path / "a.npz", image_shape=(1, 32, 32)).shape == (2, 1, 32, 32)


BYTES = np.full((4, 32, 32, 1), 9, np.uint8)
WITH_NAN = BYTES.astype(np.float32)
WITH_NAN[2, 3, 4] = np.nan


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (BYTES[..., 0, :], r"must have shape \(n, 32, 32, 1\), got \(4, 32, 1\)"),
        (BYTES.repeat(3, 3), r"must have shape \(n, 32, 32, 1\), got \(4, 32, 32, 3\)"),
        (BYTES[:, :28, :28], r"must have shape \(n, 32, 32, 1\), got \(4, 28, 28, 1\)"),
        (BYTES[:0], r"is empty: its shape is \(0, 32, 32, 1\)"),
        (
            BYTES / 255,
            r"must hold values from 0 to 255, but none is above 0.0352941: it looks like .* \[0, 1\]; multiply",
        ),
        (BYTES > 3, "must hold numbers from 0 to 255, got bool"),
        (BYTES.astype(str), "must hold numbers from 0 to 255, got <U"),
        (BYTES.astype(complex), "must hold numbers from 0 to 255, got complex128"),
        (BYTES.astype(np.int16) - 20, "must hold values from 0 to 255, got -11 to -11"),
        (BYTES.astype(np.int64) * 100, "must hold values from 0 to 255, got 900 to 900"),
        (BYTES * np.float32(np.inf), "must hold values from 0 to 255, got inf to inf"),
        (WITH_NAN, "holds NaN"),
        (BYTES.astype(object), "is an array of Python objects, which is never unpickled"),
    ],
)
def test_images_that_do_not_fit(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", x_train=array)
    with pytest.raises(ValueError, match=f"`x_train` of `{tmp_path}/a.npz` {message}"):
        npz.read_images(tmp_path / "a.npz", image_shape=(1, 32, 32))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.arange(5), r"must hold one label for each of the 4 images, got shape \(5,\)"),
        (np.eye(4, 10), r"must hold one label for each of the 4 images, got shape \(4, 10\)"),
        (np.array(["a", "b", "c", "d"]), "must hold numbers, got <U1"),
        (np.array([0, 1, 2, 2.5]), "must hold whole numbers, got values such as 2.5"),
        (np.array([0, 1, 2, np.nan]), "must hold whole numbers, got values such as nan"),
        (np.array([0, 1, 2, 10]), "must hold labels from 0 to 9, got 0 to 10"),
        (np.array([-1, 1, 2, 3]), "must hold labels from 0 to 9, got -1 to 3"),
        (np.array([1, 2, 3, None]), "is an array of Python objects"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, array, message):
    np.savez(tmp_path / "a.npz", y_train=array)
    with pytest.raises(ValueError, match=f"`y_train` of `{tmp_path}/a.npz` {message}"):
        npz.read_labels(tmp_path / "a.npz", "y_train", 4, (0, 9))


@pytest.mark.parametrize("labels", [np.arange(4), np.arange(4.0)[:, None], np.arange(4, dtype=np.uint8)])
def test_labels_in_the_forms_that_are_about(tmp_path, labels):
    np.savez(tmp_path / "a.npz", y_train=labels)
    assert npz.read_labels(tmp_path / "a.npz", "y_train", 4, (0, 9)).tolist() == [0, 1, 2, 3]


def test_a_missing_key_is_named_beside_those_found(tmp_path):
    np.savez(tmp_path / "a.npz", images=BYTES, labels=np.arange(4))
    with pytest.raises(ValueError, match="has no array `x_train`; it holds: images, labels"):
        npz.read_images(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [0, 10, 2000, -30])
def test_a_truncated_archive(tmp_path, keep):
    np.savez(tmp_path / "a.npz", x_train=BYTES)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"a.npz` is not a sound npz archive \(truncated"):
        npz.read_images(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_bit(tmp_path, save):
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), dtype=np.uint8)
    save(tmp_path / "a.npz", x_train=noise)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[1500] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="is not a sound npz archive"):
        npz.read_images(tmp_path / "a.npz")


def test_a_header_that_promises_more_than_there_is(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**12, 32, 32, 1)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", header.getvalue() + bytes(1024))
    with pytest.raises(ValueError, match=r"holds 1024 bytes, its shape .* needs 1024000000000000: truncated"):
        npz.read_images(tmp_path / "a.npz")


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        header(b"(((("),
        header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (True, 4)}") + bytes(4),
        header(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 4)}"),
    ],
)
def test_an_entry_that_is_not_an_array(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x_train.npy", content)
    with pytest.raises(ValueError, match=r"`x_train` of .* is not a sound npy array"):
        npz.read_images(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    np.savez(tmp_path / "a.npz", x_train=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="never unpickled"):
        npz.read_images(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="not a sound npz archive"):
        npz.read_images(tmp_path / "b.npz")
    assert not (tmp_path / "executed").exists()
