"""Downloads from a host on this machine: what arrives, what is continued, repeated and refused; never the net."""

import fcntl
import hashlib
import os
import socket

import pytest

from geovae.data import DATASETS, download
from geovae.data.builders import BUILDERS, ORIGINALS
from geovae.data.download import Original, Originals, fetch
from tests.data.host import serve
from tests.data.originals import write_cifar_archive, write_faces_archive, write_mnist, write_svhn

CONTENT = os.urandom(300_000)
PAGE = "http://page.invalid/"


def checksum(content, algorithm="md5"):
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def one(*addresses, content=CONTENT, name="a.bin"):
    return Originals(PAGE, (Original(name, checksum(content), addresses),))


@pytest.fixture(autouse=True)
def without_pauses_and_proxies(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def host():
    with serve() as host:
        host.put("a.bin", CONTENT)
        yield host


@pytest.fixture
def get(host, tmp_path):
    """Fetch a.bin and return its content."""

    def get(originals=None):
        originals = originals or one(f"{host.address}a.bin")
        folder = fetch(originals, tmp_path / "originals", progress=False)
        assert [path.name for path in folder.iterdir()] == [file.name for file in originals.files]
        return (folder / originals.files[0].name).read_bytes()

    return get


def ranges(host):
    return [asked for _, asked in host.requests]


def leave_part(tmp_path, content):
    (tmp_path / "originals").mkdir()
    (tmp_path / "originals/a.bin.part").write_bytes(content)


def test_a_file_arrives_and_is_not_fetched_again(get, host):
    assert get() == CONTENT
    assert get() == CONTENT
    assert ranges(host) == [None]


def test_a_cut_connection_is_continued_where_it_was_cut(get, host):
    host.faults = ["cut", "cut"]
    assert get() == CONTENT
    assert ranges(host) == [None, "bytes=150000-", "bytes=225000-"]


def test_a_later_call_continues(get, host, tmp_path):
    host.faults = ["cut", 404]
    with pytest.raises(FileNotFoundError, match="it answers 404"):
        get()
    assert (tmp_path / "originals/a.bin.part").stat().st_size == 150_000
    assert get() == CONTENT
    assert ranges(host)[2:] == ["bytes=150000-"]


def test_a_connection_that_is_cut_often_goes_on_as_long_as_something_arrives(get, host):
    host.faults = ["cut"] * (2 * download.ATTEMPTS)
    assert get() == CONTENT


def test_a_host_without_ranges_starts_anew(get, host):
    host.faults = ["cut", "whole"]
    assert get() == CONTENT
    assert ranges(host) == [None, "bytes=150000-"]


def test_a_host_that_answers_with_another_range_is_asked_for_the_whole(get, host):
    host.faults = ["cut", "elsewhere"]
    assert get() == CONTENT
    assert ranges(host) == [None, "bytes=150000-", None]


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        (CONTENT, ["bytes=300000-"]),
        (CONTENT + b"more", ["bytes=300004-", None]),
        (b"of another file", ["bytes=15-", None]),
        (b"", [None]),
    ],
)
def test_parts_of_earlier_calls(get, host, tmp_path, part, asked):
    leave_part(tmp_path, part)
    assert get() == CONTENT
    assert ranges(host) == asked


def test_a_wrong_checksum_is_named_with_the_right_one_and_nothing_is_kept(get, host, tmp_path):
    host.put("a.bin", b"something else")
    found, published = checksum(b"something else"), checksum(CONTENT)
    with pytest.raises(FileNotFoundError, match=rf"a.bin: its file has {found}, published is {published}\): fetch"):
        get()
    assert not list((tmp_path / "originals").iterdir())
    assert len(host.requests) == 1


def test_a_download_that_ends_early_and_does_not_say_so(get, host, tmp_path):
    host.faults = ["early"]
    with pytest.raises(FileNotFoundError, match=rf"its file has md5:[0-9a-f]+, published is {checksum(CONTENT)}"):
        get()
    assert not list((tmp_path / "originals").iterdir())


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (503, "it answers 503 Service Unavailable"),
        ("stop", "150000 more expected"),
        ("restart", "150000 more expected"),
    ],
)
def test_a_host_from_which_nothing_more_comes_is_given_up(get, host, tmp_path, fault, reason):
    host.faults = ["cut", *[fault] * 99]
    with pytest.raises(FileNotFoundError, match=reason):
        get()
    assert len(host.requests) == 1 + download.ATTEMPTS
    assert (tmp_path / "originals/a.bin.part").stat().st_size == 150_000


def test_what_passes_is_tried_again(get, host):
    host.faults = [503, 429, 500]
    assert get() == CONTENT


@pytest.mark.parametrize("code", [403, 404, 410])
def test_what_does_not_pass_is_not_tried_again(get, host, code):
    host.faults = [code]
    with pytest.raises(FileNotFoundError, match=rf"{host.address}a.bin: it answers {code} [A-Z]"):
        get()
    assert len(host.requests) == 1


def test_the_second_address_is_tried_after_the_first(get, host):
    assert get(one(f"{host.address}gone/a.bin", f"{host.address}a.bin")) == CONTENT
    assert [path for path, _ in host.requests] == ["/gone/a.bin", "/a.bin"]


def test_a_page_instead_of_the_file(get, host):
    """Google Drive does so when too many people fetch a file."""
    host.faults = ["page"]
    with pytest.raises(FileNotFoundError, match="it answers with a web page instead of the file"):
        get()


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def test_without_a_network_one_sentence_says_what_to_fetch_from_where_and_where_to_put_it(get, host, tmp_path):
    away = f"http://127.0.0.1:{free_port()}/"
    files = (one(f"{host.address}a.bin").files[0], one(f"{away}b.bin", name="b.bin").files[0])
    files += (one(f"{away}c.bin", name="c.bin").files[0],)
    message = (
        rf"`b.bin` cannot be fetched \({away}b.bin: .*Connection refused\): fetch b.bin, c.bin by hand from {PAGE}"
    )
    message += rf" into `{tmp_path}/originals` and try again, or give another folder or a mirror"
    with pytest.raises(FileNotFoundError, match=message) as raised:
        get(Originals(PAGE, files))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_not_known_is_no_traceback_of_pools(get):
    with pytest.raises(FileNotFoundError, match=r"a.bin: Failed to resolve 'host.invalid' \(\["):
        get(one("http://host.invalid/a.bin"))


def test_an_address_that_cannot_be_right_is_not_tried_again(get):
    with pytest.raises(FileNotFoundError, match="cannot be fetched"):
        get(one("http://:80/a.bin"))


def test_a_file_that_lies_there_is_checked(get, tmp_path):
    leave_part(tmp_path, b"")
    (tmp_path / "originals/a.bin").write_bytes(b"mine")
    with pytest.raises(ValueError, match=rf"a.bin` has {checksum(b'mine')}, published is {checksum(CONTENT)}: delete"):
        get()
    assert (tmp_path / "originals/a.bin").read_bytes() == b"mine"


def test_two_processes_do_not_write_one_file(get, tmp_path):
    leave_part(tmp_path, b"")
    with (tmp_path / "originals/a.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FileExistsError, match=r"another process is fetching `.*a.bin`: wait"):
            get()
    assert get() == CONTENT


def test_a_mirror_is_a_folder_or_the_file_itself(get, host):
    host.put("mirror/a.bin", CONTENT)
    away = one("http://host.invalid/a.bin")
    for mirror in ("mirror", "mirror/", "mirror/a.bin", "mirror?key=1"):
        assert [file.addresses for file in away.at(host.address + mirror).files] == [
            (f"{host.address}mirror/a.bin{'?key=1' if 'key' in mirror else ''}",)
        ]
    assert get(away.at(f"{host.address}mirror?key=1")) == CONTENT


def test_the_proxy_of_the_environment_is_used(get, host, monkeypatch):
    monkeypatch.setenv("http_proxy", host.address)
    host.files["http://host.invalid/a.bin"] = CONTENT
    assert get(one("http://host.invalid/a.bin")) == CONTENT
    assert host.requests == [("http://host.invalid/a.bin", None)]


def test_errors_show_no_password(get, host):
    secret = host.address.replace("//", "//me:secret@") + "gone.bin?key=secret"
    with pytest.raises(FileNotFoundError, match=f"{host.address}gone.bin: it answers 404") as raised:
        get(one(secret))
    assert "secret" not in str(raised.value)


def test_a_bar_is_shown_on_the_error_stream_only_when_asked(host, tmp_path, capsys):
    originals = one(f"{host.address}a.bin")
    fetch(originals, tmp_path / "first")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a.bin: 100%" in shown.err
    fetch(originals, tmp_path / "second", progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("source", "expected"), [("folder/a", False), ("http://x", True), ("HTTPS://x/y", True)])
def test_what_is_an_address(source, expected):
    assert download.is_address(source) is expected


def test_addresses_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="`source` must be a path or an address with http or https, got 'ftp://x'"):
        download.is_address("ftp://x")


# -- the originals that are fetched: all that the builders need, and nothing that they do not read

WRITE = {
    "mnist": write_mnist,
    "fashion_mnist": write_mnist,
    "kmnist": write_mnist,
    "cifar": write_cifar_archive,
    "svhn": write_svhn,
    "celeba": write_faces_archive,
}


@pytest.mark.filterwarnings("ignore:.* is not the published file:UserWarning")
@pytest.mark.parametrize("name", ORIGINALS)
def test_what_is_fetched_is_built_and_loaded(name, host, tmp_path, root):
    WRITE[name](tmp_path / "small")
    for path in (tmp_path / "small").iterdir():
        if path.is_file():
            host.put(path.name, path.read_bytes())
    files = [
        Original(file.name, checksum(host.files[f"/{file.name}"]), (host.address + file.name,))
        for file in ORIGINALS[name].files
    ]
    host.faults = ["cut"]
    source = fetch(Originals(PAGE, tuple(files)), tmp_path / "originals", progress=False)
    BUILDERS[name](source, root, progress=False)
    splits = DATASETS[name](root=str(root), **({} if name == "celeba" else {"val_size": 10}))
    assert splits.test is not None


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_published_originals_are_whole(name):
    for file in ORIGINALS[name].files:
        algorithm, _, digits = file.checksum.partition(":")
        assert (algorithm, len(digits)) == ("md5", 32)
        assert file.addresses
        assert all(download.is_address(address) for address in file.addresses)
    assert ORIGINALS[name].page.startswith("http")
