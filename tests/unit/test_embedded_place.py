from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from corpusmill.embedded import lock
from corpusmill.embedded.place import Sockets, file_system_of, make_sockets, prepare, remove_sockets
from corpusmill.errors import SettingsError
from corpusmill.settings import Settings


def test_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "a" / "home"
    prepare(Settings(home=home))
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_a_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(SettingsError, match="set CORPUSMILL_HOME to a folder on a local disk"):
        prepare(Settings(home=tmp_path / "home"))


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    # The one thing that a test cannot have is an NFS server: the table of mounts is the system's answer to that.
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    with pytest.raises(SettingsError, match=f"network file system \\({kind}\\)"):
        prepare(Settings(home=tmp_path / "home"))


def test_the_file_system_of_this_test_is_known(tmp_path: Path) -> None:
    assert file_system_of(tmp_path) not in ("unknown", "nfs")


def test_sockets_lie_in_a_short_folder_of_their_owner_even_where_tmpdir_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    sockets = make_sockets()
    assert len(str(sockets.control)) <= 103
    assert sockets.folder.stat().st_mode & 0o777 == 0o700
    assert list(long.iterdir()) == []
    remove_sockets(sockets.folder)
    assert not sockets.folder.exists()


def test_only_folders_that_look_like_ours_are_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "cm-link").symlink_to(tmp_path / "precious")
    remove_sockets(tmp_path / "precious")
    remove_sockets(tmp_path / "cm-link")
    remove_sockets(tmp_path / "cm-gone")
    assert (tmp_path / "precious").is_dir()
    assert Sockets(tmp_path).valkey.parent == tmp_path


def test_one_lock_has_one_holder_and_its_note_outlives_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not lock.is_held(path)
    first = lock.take(path, within_s=0)
    assert first is not None
    first.write(lock.Note(1, "/somewhere"))
    assert lock.is_held(path)
    assert lock.take(path, within_s=0.05) is None
    first.release()
    assert not lock.is_held(path)
    second = lock.take(path, within_s=0)
    assert second is not None
    assert second.left_behind == lock.Note(1, "/somewhere") == lock.read(path)
    second.write(None)
    second.release()
    assert lock.read(path) is None
