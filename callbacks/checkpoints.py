"""Checkpoints that are on the disk whole, or not at all.

A checkpoint is written beside its place (`.NAME.part` in the same folder, whatever TMPDIR is), brought to the disk, read back, compared
and loaded once, and only then given its name. Its SHA-256 is in NAME.sha256 before that (`sha256sum -c` reads it), so that no kill leaves
a checkpoint without one. While a checkpoint takes the place of another of its name, that file holds both digests, and either is right.
"""

import errno
import fcntl
import hashlib
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins import CheckpointIO

LAST = "last.ckpt"
STEP = re.compile(r"step-(\d+)\.ckpt")
REMEDY = "remove it and `practicum resume` goes on from the one before, or take another run"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)      # what file systems without locks say


def save(checkpoint: Mapping[str, Any], folder: Path, step: int, keep: int = 2) -> Path:
    """Writes folder/step-00000120.ckpt, lets folder/last.ckpt point to it, and then removes all but the newest `keep`.

    What stands ahead of `step` is removed too: it is of a line of training that was given up. Raises ValueError for a checkpoint that could
    not be loaded again, and OSError (a full disk, a disk that does not keep what is written); the former checkpoints are as they were then.
    """
    assert keep >= 1, keep
    path = folder / f"step-{step:08d}.ckpt"
    _write(checkpoint, path)
    with _said_of(path):
        _point_last(path)
        _sync_folder(folder)      # or a loss of power could keep the removals and not the checkpoint
        numbered = _numbered(folder)
        ahead = [other for other in numbered if _step(other) > step]
        older = [other for other in numbered if _step(other) < step]
        for other in [*ahead, *older[keep - 1:]]:
            other.unlink(missing_ok=True)
            _digest_file(other).unlink(missing_ok=True)      # second: a checkpoint without a digest would count as damaged
        if ahead:
            _sync_folder(folder)
    return path


def newest_valid(folder: Path) -> Path | None:
    """The newest checkpoint of a folder whose digest is right, or None; whatever is passed over is named in a line on stderr.

    A last.ckpt alone, as older runs have it, counts if it loads.
    """
    found, last = _numbered(folder), folder / LAST
    if last.is_symlink() and not last.exists():
        print(f"{last}: {os.readlink(last)} is not there any more; passed over", file=sys.stderr)
    elif last.is_file() and not any(last.samefile(path) for path in found):
        found.append(last)
    for path in found:
        trouble = _trouble(path)
        if trouble is None:
            return path
        print(f"{path}: {trouble}; passed over", file=sys.stderr)
    return None


def load(path: Path) -> dict[str, Any]:
    """The checkpoint of a file, on the CPU, tensors and plain values only; its digest is verified, or without one its checksums.

    Raises ValueError, in one line that names the file and the remedy, for one that is damaged, cut short or holds code.
    """
    if not path.is_file():
        raise ValueError(f"{path}: there is no such checkpoint; train the run first, or take another one")
    with open(path, "rb") as file:
        if trouble := _damage(path, file):
            raise ValueError(f"{path}: {trouble}; {REMEDY}")
        file.seek(0)
        try:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{path}: holds {_unloadable(error)}; it is refused: take a checkpoint that practicum has written") from error
        except OSError:
            raise
        except Exception as error:      # whatever odd bytes make of torch
            raise ValueError(f"{path}: damaged ({type(error).__name__} while loading); {REMEDY}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a checkpoint; take one that practicum has written")
    return checkpoint


def sweep_up(folder: Path) -> None:
    """Removes what killed processes have left in a folder: half-written files, each named in a line, and digests without a checkpoint."""
    for part in folder.glob(".*.part"):
        if part.is_symlink():
            part.unlink(missing_ok=True)
        else:
            with _nobody_writes(part) as free:
                if free:
                    print(f"{part}: half-written by a process that was killed; removed", file=sys.stderr)
    alone = [digest for digest in folder.glob("*.ckpt.sha256") if not digest.with_suffix("").exists()]
    for digest in alone:
        path = digest.with_suffix("")
        with _nobody_writes(_part(path)) as free:      # else another process is about to give the checkpoint its name
            if free and not path.exists():
                digest.unlink(missing_ok=True)


class DurableCheckpointIO(CheckpointIO):
    """Lightning's own saving and loading, by the functions above; for `Trainer(plugins=[DurableCheckpointIO()])`.

    With `storage_options={"keep": 2}` a file named step-00000120.ckpt is saved as `save` does: last.ckpt points to it, older ones go.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if storage_options is None:
            _write(checkpoint, Path(path))
        else:
            save(checkpoint, Path(path).parent, _step(Path(path)), **storage_options)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load(Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)
        _digest_file(Path(path)).unlink(missing_ok=True)


def room_for(folder: Path, num_bytes: int) -> None:
    """Raises ValueError where three checkpoints of `num_bytes` each (two kept, one being written), those in `folder` included, do not fit
    on its disk."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    free, held = shutil.disk_usage(there).free, sum(path.stat().st_size for path in _numbered(folder))
    if 3 * num_bytes > free + held:
        raise ValueError(f"{folder}: three checkpoints of {_size(num_bytes)} do not fit ({_size(free)} free);"
                         " make room there, or choose a folder of a larger disk with --out")


def _write(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Puts a checkpoint and its digest under its name; a crash leaves the former one of that name, or the new one."""
    part = _part(path)
    with _said_of(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(part) as file:
            hashed: Any = _Hashed(file)
            torch.save(dict(checkpoint), hashed)
            digest = hashed.hexdigest()
            _sync_file(file)
            _verify(part, digest, path)
            former = _digests(path) if path.exists() and _digest_file(path).exists() else []
            _write_digests(path, [digest, *former])
            _sync_folder(path.parent)      # a checkpoint must not reach the disk before its digest
            os.replace(part, path)
            _sync_folder(path.parent)
            if former:
                _write_digests(path, [digest])


def _verify(part: Path, digest: str, path: Path) -> None:
    """Reads back what was written, from the disk where the system lets us, and loads it without copying its tensors."""
    with open(part, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise OSError(errno.EIO, "the disk does not give back what was written")
    try:
        torch.load(str(part), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path}: this checkpoint could not be loaded again, as it holds {_unloadable(error)};"
                         " let the callback or model that it is of keep tensors and plain values in its state") from error


def _unloadable(error: pickle.UnpicklingError) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    return f"{code[1]}, which is code" if code else "more than tensors and plain values"


def _damage(path: Path, file: BufferedReader) -> str | None:
    """What shows that a file's bytes are not those that were written: its digest or, without one, its checksums; or None."""
    if _digest_file(path).exists():
        right = hashlib.file_digest(file, "sha256").hexdigest() in _digests(path)
        return None if right else f"damaged or cut short (its SHA-256 is not that in {_digest_file(path).name})"
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()      # torch does not look at these checksums
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        return "damaged, cut short or not a checkpoint"
    return None if damaged is None else f"damaged ({damaged} is not what was written)"


def _trouble(path: Path) -> str | None:
    """Why training cannot go on from a checkpoint, or None."""
    try:
        if path.name != LAST and not _digest_file(path).exists():
            return f"its digest ({_digest_file(path).name}) is not there"
        with open(path, "rb") as file:
            if trouble := _damage(path, file):
                return trouble
        if not _digest_file(path).exists():
            load(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


class _Hashed:
    """Passes on what is written and hashes it; an error is kept until the end, for torch cannot say it: it says its own instead."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                self.file.write(content)
                self.sha256.update(content)
            except BaseException as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        pass

    def hexdigest(self) -> str:
        if self.error is not None:
            raise self.error
        return self.sha256.hexdigest()


@contextmanager
def _beside(part: Path) -> Iterator[BinaryIO]:
    """An empty file that is no more under this name at the end; locked, and the system lets go of the lock when its holder dies."""
    while True:
        with open(part, "ab") as file:      # not "wb", which would empty what another process is writing
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            if not _is_at(file, part):
                continue      # another process has given it its name, or swept it up, while this one waited
            try:
                file.truncate(0)
                yield file
            finally:
                if _is_at(file, part):
                    part.unlink()
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(path))


@contextmanager
def _nobody_writes(part: Path) -> Iterator[bool]:
    """Holds the lock of `part` if it is free, and says so; removes `part` then."""
    with open(part, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:      # held, or a file system without locks
            yield False
            return
        try:
            yield True
        finally:
            part.unlink(missing_ok=True)


def _write_digests(path: Path, digests: list[str]) -> None:
    digest_file = _digest_file(path)
    with _beside(_part(digest_file)) as file:
        file.write("".join(f"{digest}  {path.name}\n" for digest in digests).encode())
        _sync_file(file)
        os.replace(_part(digest_file), digest_file)


def _digests(path: Path) -> list[str]:
    """The SHA-256 sums of which one is that of `path`; none where its digest file is damaged."""
    lines = _digest_file(path).read_text(errors="replace").splitlines()
    return [line.split()[0] for line in lines if re.match(r"[0-9a-f]{64}\s", line)]


def _digest_file(path: Path) -> Path:
    path = path.resolve()      # last.ckpt has the digest of what it points to
    return path.with_name(f"{path.name}.sha256")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _point_last(path: Path) -> None:
    """Lets last.ckpt be a symlink to `path`, or the same file by a hard link, or a copy, as far as the file system can."""
    last = path.with_name(LAST)
    beside = path.with_name(f".{LAST}-{os.getpid()}.part")
    try:
        try:
            beside.symlink_to(path.name)
        except OSError as error:
            if error.errno in FULL:
                raise
            _link_or_copy(path, last, beside)
        else:
            os.replace(beside, last)
            last.with_name(f"{LAST}.sha256").unlink(missing_ok=True)      # of a file that was there before
    finally:
        beside.unlink(missing_ok=True)


def _link_or_copy(path: Path, last: Path, beside: Path) -> None:
    former = _digests(last) if last.exists() and _digest_file(last).exists() else []
    _write_digests(last, [*_digests(path), *former])
    _sync_folder(last.parent)
    try:
        os.link(path, beside)
        os.replace(beside, last)
    except OSError:
        with open(path, "rb") as source, _beside(_part(last)) as file:
            shutil.copyfileobj(source, file)
            _sync_file(file)
            os.replace(_part(last), last)
    _sync_folder(last.parent)
    _write_digests(last, _digests(path))


def _numbered(folder: Path) -> list[Path]:
    """step-*.ckpt of a folder, newest first."""
    return sorted((path for path in folder.glob("step-*.ckpt") if STEP.fullmatch(path.name)), key=_step, reverse=True)


def _step(path: Path) -> int:
    match = STEP.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def _sync_file(file: BinaryIO) -> None:
    """Brings the bytes of a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """An OSError becomes one that names the checkpoint and the remedy."""
    try:
        yield
    except OSError as error:
        remedy = "make room there" if error.errno in FULL else "look after that disk, or take another one"
        raise OSError(error.errno, f"{error.strerror} while saving; what was saved before is whole: {remedy}, then `practicum resume`",
                      str(path)) from error


def _size(num_bytes: int) -> str:
    power = min(4, (len(str(num_bytes)) - 1) // 3)
    return f"{num_bytes / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
