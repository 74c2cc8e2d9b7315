"""Checkpoints: killed at every step of a save, power lost, bits flipped, disks full; what loads is what was saved, or nothing does."""

import errno
import fcntl
import hashlib
import itertools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from callbacks import checkpoints
from callbacks.checkpoints import DurableCheckpointIO, load, newest_valid, room_for, save, sweep_up
from tests.callbacks.tiny import TinyData, TinyModel

children = multiprocessing.get_context("fork")      # they have torch already

STEPS = ((os, "fsync"), (os, "replace"), (os, "unlink"), (os, "symlink"), (os, "link"), (fcntl, "flock"), (hashlib, "file_digest"))
OTHER_FILE_SYSTEM = Path("/dev/shm")


def checkpoint(step: int, num: int = 4_000) -> dict:
    """What a run of `step` steps could have: told by its weights, each of which is `step`."""
    return {"state_dict": {"weight": torch.full((num,), float(step)), "bias": torch.full((7,), float(step))}, "global_step": step}


def step_of(loaded: dict) -> int:
    """The step that a loaded checkpoint is of; all of it."""
    step = loaded["global_step"]
    assert all(torch.equal(value, torch.full_like(value, step)) for value in loaded["state_dict"].values())
    return step


def flip(path: Path, bit: int) -> None:
    """Turns one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_is_loaded_and_older_ones_go(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    for step in (10, 20, 30):
        path = save(checkpoint(step), folder, step)
        assert newest_valid(folder) == path == folder / f"step-{step:08d}.ckpt"
        assert step_of(load(path)) == step_of(load(folder / "last.ckpt")) == step
    kept = ["step-00000020.ckpt", "step-00000020.ckpt.sha256", "step-00000030.ckpt", "step-00000030.ckpt.sha256"]
    assert names(folder) == ["last.ckpt", *kept]
    assert os.readlink(folder / "last.ckpt") == "step-00000030.ckpt"      # the folder can be moved
    subprocess.run("sha256sum --check --quiet *.sha256", shell=True, cwd=folder, check=True)
    save(checkpoint(40), folder, 40, keep=1)
    assert names(folder) == ["last.ckpt", "step-00000040.ckpt", "step-00000040.ckpt.sha256"]


def test_what_is_ahead_was_given_up(tmp_path):
    for step in (10, 20, 30):
        save(checkpoint(step), tmp_path, step, keep=3)
    save(checkpoint(20), tmp_path, 20, keep=3)      # a run that went on from 10
    assert newest_valid(tmp_path).name == "step-00000020.ckpt"
    assert [name for name in names(tmp_path) if name.endswith("0.ckpt")] == ["step-00000010.ckpt", "step-00000020.ckpt"]


def test_a_damaged_one_is_named_and_the_one_before_is_used(tmp_path, capsys):
    former, newest = (save(checkpoint(step), tmp_path, step) for step in (10, 20))
    flip(newest, 8 * 5_000)
    assert newest_valid(tmp_path) == former
    assert capsys.readouterr().err == (f"{newest}: damaged or cut short (its SHA-256 is not that in {newest.name}.sha256); passed over\n")
    for path in (newest, tmp_path / "last.ckpt"):
        with pytest.raises(ValueError, match=rf"^{path}: damaged .*; remove it and `practicum resume` goes on [^\n]*$"):
            load(path)
    former.with_name(former.name + ".sha256").unlink()
    assert newest_valid(tmp_path) is None
    assert capsys.readouterr().err.endswith(f"{former}: its digest ({former.name}.sha256) is not there; passed over\n")
    newest.unlink()
    assert newest_valid(tmp_path) is None
    assert "last.ckpt: step-00000020.ckpt is not there any more; passed over\n" in capsys.readouterr().err
    with pytest.raises(ValueError, match="there is no such checkpoint; train the run first"):
        load(tmp_path / "last.ckpt")
    assert newest_valid(tmp_path / "nothing") is None


def test_a_run_of_former_times_has_a_last_checkpoint_alone(tmp_path, capsys):
    last = tmp_path / "last.ckpt"
    torch.save(checkpoint(10), last)
    assert newest_valid(tmp_path) == last
    flip(last, 8 * 5_000)
    assert newest_valid(tmp_path) is None      # torch alone loads it
    assert "damaged" in capsys.readouterr().err
    last.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="damaged, cut short or not a checkpoint; remove it"):
        load(last)
    torch.save([1, 2], last)
    with pytest.raises(ValueError, match="holds a list, not a checkpoint"):
        load(last)
    torch.save({"epoch": Path("x")}, last)
    with pytest.raises(ValueError, match=r"holds pathlib\S+, which is code; it is refused"):
        load(last)
    save(checkpoint(20), tmp_path, 20)
    assert last.is_symlink() and newest_valid(tmp_path).name == "step-00000020.ckpt"


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path):
    former = save(checkpoint(10), tmp_path, 10)
    with pytest.raises(ValueError, match=r"step-00000020.ckpt: .* could not be loaded again, as it holds pathlib\S+, which is code"):
        save(checkpoint(20) | {"callbacks": {"mine": Path("x")}}, tmp_path, 20)
    assert newest_valid(tmp_path) == former and len(names(tmp_path)) == 3


@pytest.mark.parametrize("refused", [("symlink",), ("symlink", "link")])
def test_where_links_are_refused_last_is_the_same_bytes(tmp_path, monkeypatch, refused):
    def refuse(*arguments, **more):
        raise OSError(errno.EPERM, "Operation not permitted")

    for name in refused:
        monkeypatch.setattr(os, name, refuse)
    for step in (10, 20, 20, 30):
        save(checkpoint(step), tmp_path, step)
        assert step_of(load(tmp_path / "last.ckpt")) == step
    last = tmp_path / "last.ckpt"
    assert not last.is_symlink() and last.samefile(tmp_path / "step-00000030.ckpt") == (refused == ("symlink",))
    subprocess.run("sha256sum --check --quiet *.sha256", shell=True, cwd=tmp_path, check=True)
    flip(last, 8 * 5_000)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged"):
        load(last)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert step_of(load(save(checkpoint(10), tmp_path, 10))) == 10
    (tmp_path / ".step-00000020.ckpt.part").write_bytes(b"half")
    sweep_up(tmp_path)
    assert ".step-00000020.ckpt.part" in names(tmp_path)      # nobody can say whether its process lives


def test_room_for_three(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9 - 3_000, 3_000))
    room_for(tmp_path / "not" / "there", 1_000)
    with pytest.raises(ValueError, match=r"not/there: three checkpoints of 1 kB do not fit \(3 kB free\); make room there"):
        room_for(tmp_path / "not" / "there", 1_001)


def test_lightnings_own_saving(tmp_path):
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, plugins=[DurableCheckpointIO()])
    trainer.fit(model := TinyModel(), datamodule=TinyData())
    path = tmp_path / "folder" / "mine.ckpt"
    trainer.save_checkpoint(path)
    trainer.save_checkpoint(path)      # in the place of the former
    assert names(path.parent) == ["mine.ckpt", "mine.ckpt.sha256"]
    assert torch.equal(load(path)["state_dict"]["network.weight"], model.network.weight)
    trainer.fit(TinyModel(), datamodule=TinyData(), ckpt_path=path)
    flip(path, 8 * 1_500)
    with pytest.raises(ValueError, match=r"mine\.ckpt: damaged"):
        trainer.fit(TinyModel(), datamodule=TinyData(), ckpt_path=path)
    trainer.strategy.remove_checkpoint(path)
    assert names(path.parent) == []
    trainer.save_checkpoint(tmp_path / "kept" / "step-00000010.ckpt", storage_options={"keep": 1})
    assert names(tmp_path / "kept") == ["last.ckpt", "step-00000010.ckpt", "step-00000010.ckpt.sha256"]


# Kills ------------------------------------------------------------------------------------------------------------------


def watched(happens, setattr=setattr) -> None:
    """Lets `happens(number, what)` hear of every step of a save in this process, before it and after it."""
    numbers = itertools.count()

    def wrapped(function, what):
        def call(*arguments, **more):
            happens(next(numbers), f"before {what}")
            result = function(*arguments, **more)
            happens(next(numbers), f"after {what}")
            return result
        return call

    for module, name in STEPS:
        setattr(module, name, wrapped(getattr(module, name), name))

    class Watched:
        def __init__(self, file) -> None:
            self.file = file

        def write(self, content) -> None:
            if len(content) < 4_096:      # torch writes many small pieces
                self.file.write(content)
                return
            happens(next(numbers), "before write")
            self.file.write(content[:len(content) // 2])
            self.file.flush()
            happens(next(numbers), "in the middle of write")
            self.file.write(content[len(content) // 2:])
            self.file.flush()
            happens(next(numbers), "after write")

    hashed = checkpoints._Hashed
    setattr(checkpoints, "_Hashed", lambda file: hashed(Watched(file)))


def saves(folder: Path, step: int, without: tuple[str, ...], temporary: Path, die_at: int | None, said) -> None:
    """In a child: saves, and is killed at the moment of number `die_at`."""
    settle(temporary)
    for name in without:
        setattr(os, name, refuse)
    moments = []

    def happens(number: int, what: str) -> None:
        moments.append(what)
        if number == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    watched(happens)
    save(checkpoint(step), folder, step)
    said.put(moments)


def settle(temporary: Path) -> None:
    """In a child: the system's temporary files are elsewhere; no threads, which a fork does not have."""
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    torch.set_num_threads(1)


def refuse(*arguments, **more):
    raise OSError(errno.EPERM, "Operation not permitted")


def moments_of(folder: Path, step: int, without: tuple[str, ...], temporary: Path) -> list[str]:
    """What happens in a save that nobody kills."""
    said = children.SimpleQueue()
    process = children.Process(target=saves, args=(folder, step, without, temporary, None, said))
    process.start()
    process.join()
    assert process.exitcode == 0
    return said.get()


SCENES = {      # what is in the folder before, the step saved, what the file system refuses
    "first": ((), 10, ()),
    "third": ((10, 20), 30, ()),
    "again": ((10, 20), 20, ()),
    "going back": ((10, 20, 30), 20, ()),
    "no symlinks": ((10, 20), 30, ("symlink",)),
    "no links": ((10, 20), 30, ("symlink", "link")),
}


def killed_at_every_moment(folder: Path, temporary: Path, scene: str, stride: int = 1) -> int:
    """Kills a save at each of its moments, or every `stride`th; what is valid then is the former or the new one."""
    before, step, without = SCENES[scene]
    start, place, kills = folder / "start", folder / "place", 0
    start.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in without:
            patch.setattr(os, name, refuse)
        for former in before:
            save(checkpoint(former, 3_000), start, former, keep=3)      # not the bytes that take their place

    def begin() -> Path:
        shutil.rmtree(place, ignore_errors=True)
        return shutil.copytree(start, place, symlinks=True)

    moments = moments_of(begin(), step, without, temporary)
    renamed = max(number for number, what in enumerate(moments) if what == "after replace")
    for number, what in list(enumerate(moments))[::stride]:
        process = children.Process(target=saves, args=(begin(), step, without, temporary, number, None))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, (scene, number, what, process.exitcode)
        kills += 1
        found = newest_valid(place)
        if before or number >= renamed:
            assert found is not None, (scene, number, what, names(place))
        if found is not None:
            assert step_of(load(found)) in {step, *before[-1:]}, (scene, number, what)
        if number >= renamed:      # last.ckpt is renamed last
            assert step_of(load(place / "last.ckpt")) == step
            assert found.name == f"step-{step:08d}.ckpt" or scene == "going back"
        if before:
            assert step_of(load(place / "last.ckpt")) in {step, *before}      # those who read the run meanwhile find one too
        sweep_up(place)
        left = names(place)
        assert not [name for name in left if name.endswith(".part")], (scene, number, what, left)
        assert all(name.removesuffix(".sha256") in left for name in left), (scene, number, what, left)
        with pytest.MonkeyPatch.context() as patch:
            for name in without:
                patch.setattr(os, name, refuse)
            assert newest_valid(place) == found and step_of(load(save(checkpoint(40), place, 40))) == 40
        assert newest_valid(place).name == "step-00000040.ckpt"
    assert not list(temporary.iterdir())
    return kills


@pytest.fixture
def elsewhere(tmp_path):
    """A folder for TMPDIR: on another file system than tmp_path, where there is one."""
    with tempfile.TemporaryDirectory(dir=OTHER_FILE_SYSTEM if OTHER_FILE_SYSTEM.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.parametrize("scene", ["third", "again"])
def test_killed_at_moments_of_a_save(tmp_path, elsewhere, scene):
    assert killed_at_every_moment(tmp_path, elsewhere, scene, stride=4) >= 8


@pytest.mark.soak
def test_killed_at_every_moment_of_every_kind_of_save(tmp_path, elsewhere):
    (here := tmp_path / "tmp").mkdir()
    kills = {}
    for temporary, kind in ((here, "the same"), (elsewhere, "another")):
        for scene in SCENES:
            (folder := tmp_path / f"{kind}-{scene}").mkdir()
            kills[kind] = kills.get(kind, 0) + killed_at_every_moment(folder, temporary, scene)
    print(f"\n{sum(kills.values())} kills at each moment of a save ({kills['the same']} with TMPDIR on the same file system,"
          f" {kills['another']} on another): 0 left no valid checkpoint")


def goes_on_saving(folder: Path, temporary: Path, num: int, until: int | None = None) -> None:
    """In a child: sweeps up, goes on from the newest valid checkpoint, and saves every step."""
    settle(temporary)
    sweep_up(folder)
    found = newest_valid(folder)
    step = step_of(load(found)) if found else 0
    while until is None or step < until:
        step += 1
        save(checkpoint(step, num), folder, step)


def killed_at_random(folder: Path, temporary: Path, num_kills: int, num: int) -> tuple[int, int]:
    """Kills a process that saves without pause, at random times; returns the steps reached, and how many kills left something half-done."""
    rng, reached, halves = random.Random(0), 0, 0
    folder.mkdir()
    save(checkpoint(0, num), folder, 0)
    for _ in range(num_kills):
        process = children.Process(target=goes_on_saving, args=(folder, temporary, num))
        process.start()
        began = time.monotonic()
        while newest_valid(folder).name == f"step-{reached:08d}.ckpt" and time.monotonic() - began < 30:
            time.sleep(0.002)      # until it is under way
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        halves += any(name.endswith(".part") for name in names(folder))
        now = step_of(load(newest_valid(folder)))
        assert now > reached
        assert step_of(load(folder / "last.ckpt")) in (now, now - 1)
        reached = now
    return reached, halves


def test_killed_at_random_times(tmp_path, elsewhere):
    reached, _ = killed_at_random(tmp_path / "checkpoints", elsewhere, 5, 100_000)
    assert reached >= 5


@pytest.mark.soak
def test_killed_a_hundred_times_at_random(tmp_path, elsewhere):
    (here := tmp_path / "tmp").mkdir()
    halves = 0
    for temporary, kind in ((here, "same"), (elsewhere, "other")):
        halves += killed_at_random(tmp_path / kind, temporary, 50, 1_000_000)[1]
    print(f"\n100 kills at random times while saving (half of them with TMPDIR on another file system), {halves} of them inside a save:"
          " 0 left no valid checkpoint, 0 lost a step")


def stops(folder: Path, step: int, moment: str) -> None:
    """In a child: pauses in the middle of a save, the first time that it comes to `moment`, until it is told to go on."""
    settle(folder)
    came = []

    def happens(number: int, what: str) -> None:
        if what == moment and not came:
            came.append(what)
            os.kill(os.getpid(), signal.SIGSTOP)

    watched(happens)
    checkpoints._write(checkpoint(step), folder / f"step-{step:08d}.ckpt")


@pytest.mark.parametrize("moment", ["after write", "after file_digest", "before replace"])
def test_what_a_living_process_writes_is_not_swept_up(tmp_path, moment):
    process = children.Process(target=stops, args=(tmp_path, 10, moment))
    process.start()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.005)
    before = names(tmp_path)
    sweep_up(tmp_path)
    after = names(tmp_path)
    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert after == before and before
    assert process.exitcode == 0 and step_of(load(newest_valid(tmp_path))) == 10


def test_two_processes_on_one_folder_wait_for_each_other(tmp_path):
    pair = [children.Process(target=goes_on_saving, args=(tmp_path, tmp_path, 50_000, 15)) for _ in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    assert [process.exitcode for process in pair] == [0, 0]
    assert step_of(load(newest_valid(tmp_path))) == 15


# Loss of power ----------------------------------------------------------------------------------------------------------


class Disk:
    """What the disk holds when the power fails: bytes that were synced, and names as of the last sync of the folder, with any of the
    changes since then, or none of them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, look) -> None:
        self.folder, self.look = folder, look
        self.bytes: dict[int, bytes] = {}      # by inode
        self.names: dict[str, int | str] = {}      # the inode, or what the symlink points to
        self.changes: list[tuple[str, int | str | None]] = []
        self.kept: list[int] = []      # so that no inode is used twice
        fsync, replace, unlink = os.fsync, os.replace, os.unlink

        def sync(descriptor: int) -> None:
            fsync(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                self.names, self.changes = self.after(self.changes), []
            else:
                self.kept.append(os.dup(descriptor))
                self.bytes[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            look(self)

        def rename(source, target) -> None:
            self.changes.append((Path(target).name, os.readlink(source) if os.path.islink(source) else os.stat(source).st_ino))
            replace(source, target)
            look(self)

        def remove(path, **more) -> None:
            unlink(path, **more)
            self.changes.append((Path(path).name, None))
            look(self)

        for name, function in (("fsync", sync), ("replace", rename), ("unlink", remove)):
            patch.setattr(os, name, function)

    def after(self, changes) -> dict[str, int | str]:
        found = self.names | dict(changes)
        return {name: what for name, what in found.items() if what is not None}

    def states(self):
        """Each folder that could be found when the power is back."""
        for num in range(len(self.changes) + 1):
            for changes in itertools.combinations(self.changes, num):
                yield self.after(changes)

    def close(self) -> None:
        for descriptor in self.kept:
            os.close(descriptor)


def power_fails_at_every_moment(folder: Path, found: Path, steps: list[int]) -> int:
    """Saves `steps`; whenever the power fails, the newest valid checkpoint is the one before or the new one; returns the states seen."""
    num, allowed, unlink, looking = 0, {None}, os.unlink, False

    def look(disk: Disk) -> None:
        nonlocal num, looking
        for state in [] if looking else list(disk.states()):
            num += 1
            for name in names(found):
                unlink(found / name)
            for name, what in state.items():
                if isinstance(what, str):
                    (found / name).symlink_to(what)
                else:
                    (found / name).write_bytes(disk.bytes.get(what, b""))
            valid = newest_valid(found)
            step = step_of(load(valid)) if valid else None
            assert step in allowed, (step, allowed, state)
            if (found / "last.ckpt").is_symlink():
                assert (found / "last.ckpt").exists(), (state, "a link to what was removed")

    folder.mkdir()
    found.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(folder, patch, look)
        for number, step in enumerate(steps):
            allowed.add(step)
            save(checkpoint(step, 4_000 + number), folder, step)
            allowed = {step}
            look(disk)
        disk.close()
    return num


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads what a process has open, from /proc")
def test_whenever_the_power_fails_the_newest_checkpoint_is_whole(tmp_path, capsys):
    assert power_fails_at_every_moment(tmp_path / "folder", tmp_path / "found", [10, 20, 30, 30, 20]) > 50


# Damage -----------------------------------------------------------------------------------------------------------------


def damaged_in_many_ways(folder: Path, num_flips: int, num_cuts: int, num_pages: int) -> dict[str, int]:
    """Damages a checkpoint with a digest, and one without, and a digest; returns how many of each load as something else: none may."""
    rng, silent = random.Random(0), {"with a digest": 0, "without": 0, "of the digest": 0}
    torch.manual_seed(0)
    content = {"state_dict": {"weight": torch.randn(20_000)}, "global_step": 10, "callbacks": {"EMA": {"num_updates": 9}}}
    path = save(content, folder, 10)
    digest, bare = path.with_name(path.name + ".sha256"), folder / "bare.ckpt"
    good, size = path.read_bytes(), path.stat().st_size

    def damages(size: int):
        for _ in range(num_flips):
            bit = rng.randrange(8 * size)
            yield lambda file, bit=bit: flip(file, bit)
        for _ in range(num_cuts):
            length = rng.randrange(size)
            yield lambda file, length=length: os.truncate(file, length)
        for _ in range(num_pages):
            place = rng.randrange(-(-size // 4096)) * 4096
            yield lambda file, place=place: file.write_bytes(file.read_bytes()[:place] + bytes(4096) + file.read_bytes()[place + 4096:])

    def same(file: Path) -> bool:
        """Whether it loads as what was saved; one that does not load is as good."""
        try:
            loaded = load(file)
        except ValueError as error:
            assert str(error).startswith(f"{file}: ") and "\n" not in str(error)
            return True
        return loaded.keys() == content.keys() and torch.equal(loaded["state_dict"]["weight"], content["state_dict"]["weight"]) \
            and loaded["callbacks"] == content["callbacks"] and loaded["global_step"] == 10

    for number, damage in enumerate(damages(size)):
        path.write_bytes(good)
        damage(path)
        silent["with a digest"] += path.read_bytes() != good and newest_valid(folder) is not None
        with pytest.raises(ValueError, match=r"step-00000010.ckpt: damaged or cut short"):
            load(path)
        bare.write_bytes(good)
        damage(bare)
        silent["without"] += not same(bare)
        if number < num_flips:
            assert bare.read_bytes() != good
    path.write_bytes(good)
    written = digest.read_bytes()
    for damage in damages(len(written)):
        digest.write_bytes(written)
        damage(digest)
        silent["of the digest"] += not same(path)
    return silent


def test_no_damaged_checkpoint_loads_silently(tmp_path, capsys):
    assert set(damaged_in_many_ways(tmp_path, 50, 20, 10).values()) == {0}


@pytest.mark.soak
def test_no_damaged_checkpoint_of_many_loads_silently(tmp_path, capsys):
    silent = damaged_in_many_ways(tmp_path, 500, 200, 100)
    with capsys.disabled():
        print("\n500 bit flips, 200 truncations, 100 zeroed pages, each in a checkpoint with a digest, in one without, and in a digest:"
              f" {sum(silent.values())} loaded as anything but what was saved")
    assert set(silent.values()) == {0}


# Disks that are full or broken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_an_error_at_any_moment_of_a_save_is_one_line_and_the_former_checkpoint_is_valid(tmp_path, code):
    for number in itertools.count():
        shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
        folder = tmp_path / "checkpoints"
        for step in (10, 20):
            save(checkpoint(step), folder, step)

        came = []

        def happens(now: int, what: str, number: int = number, came: list = came) -> None:
            if now == number:
                came.append(what)
                if not what.startswith("after"):
                    raise OSError(code, os.strerror(code))

        with pytest.MonkeyPatch.context() as patch:
            watched(happens, patch.setattr)
            try:
                save(checkpoint(30), folder, 30)
            except OSError as error:
                assert error.errno == code and error.filename == str(folder / "step-00000030.ckpt")
                remedy = "make room there" if code == errno.ENOSPC else "look after that disk, or take another one"
                assert error.strerror.startswith(f"{os.strerror(code)} while saving; what was saved before is whole: {remedy}, then")
        found = newest_valid(folder)
        assert step_of(load(found)) in (20, 30) and step_of(load(folder / "last.ckpt")) in (20, 30)
        assert "flock" in "".join(came) or not [name for name in names(folder) if name.endswith(".part")]
        sweep_up(folder)
        assert step_of(load(save(checkpoint(40), folder, 40))) == 40
        if not came:
            break
    assert number > 20


def test_a_disk_that_is_full_after_any_number_of_bytes(tmp_path):
    former = save(checkpoint(10), tmp_path, 10)
    size, (soft, hard) = former.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 1, 50, 4_096, size // 2, size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match=r"File too large while saving; .* make room there, then `practicum resume`") as raised:
                save(checkpoint(20), tmp_path, 20)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert raised.value.filename.endswith("step-00000020.ckpt")
        assert newest_valid(tmp_path) == former and len(names(tmp_path)) == 3, limit


def test_a_disk_that_does_not_give_back_what_was_written(tmp_path, monkeypatch):
    former, fsync = save(checkpoint(10), tmp_path, 10), os.fsync

    def lie(descriptor: int) -> None:
        fsync(descriptor)
        if (part := tmp_path / ".step-00000020.ckpt.part").exists():
            flip(part, 8 * 3_000)

    monkeypatch.setattr(os, "fsync", lie)
    with pytest.raises(OSError, match=r"does not give back what was written while saving; .* look after that disk"):
        save(checkpoint(20), tmp_path, 20)
    assert newest_valid(tmp_path) == former and len(names(tmp_path)) == 3
