"""NumPy's npy and npz files to a Table."""

import zipfile
import zlib

import numpy as np

from onebound.data.options import Options
from onebound.data.source import Source
from onebound.data.table import Table, check_names, listing, numeric_column
from onebound.errors import InputError, did_you_mean


def read_npy(source: Source, options: Options) -> Table:
    """Read a NumPy array of numbers, (N,) or (N, D)."""
    try:
        with source.open_anywhere() as stream:
            array = np.load(stream, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise unreadable(source.name, error) from error
    return _array_table(array, options, source.name)


def read_npz(source: Source, options: Options) -> Table:
    """Read an archive of one array, of columns (N,) with names, or the one array that was asked for: FILE.npz:NAME."""
    try:
        with source.open_anywhere() as stream, np.load(stream, allow_pickle=False) as archive:
            if options.array is None and len(archive.files) > 1:
                return _columns_table({name: archive[name] for name in archive.files}, options, source.name)
            name = _member(archive.files, options.array, source.name)
            return _array_table(archive[name], options, f"{source.name}:{name}" if options.array else source.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise unreadable(source.name, error) from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(source.name, error) from error


def unreadable(path: str, error: Exception) -> InputError:
    """What to say about an array file that NumPy does not load."""
    objects = "Object arrays" in str(error)
    what = "holds Python objects, which may run code when read" if objects else "is damaged or cut short"
    return InputError(f"{path}: {what}; save the numbers again with numpy.save.")


def refuse_array(dtype: np.dtype, shape: tuple[int, ...], path: str) -> None:
    """InputError for an array that is no table of real numbers."""
    if dtype.kind not in "biuf":
        raise InputError(f"{path}: an npy file must hold real numbers, got an array of {dtype}.")
    if len(shape) not in (1, 2):
        text = _shape(shape) or "a single number"
        raise InputError(f"{path}: an array must be (N,) or (N, D), got {len(shape)} dimensions ({text}). Reshape it.")
    if 0 in shape:
        raise InputError(f"{path}: the array is empty, its shape is {shape}.")


def array_names(shape: tuple[int, ...]) -> list[str]:
    """The names of an array's columns: c0, c1, …"""
    return [f"c{d}" for d in range(shape[1] if len(shape) == 2 else 1)]


def _array_table(array: np.ndarray, options: Options, path: str) -> Table:
    refuse_array(array.dtype, array.shape, path)
    values = np.asarray(array, dtype=np.float64).reshape(len(array), -1)  # (N, D)
    names = array_names(array.shape)
    chosen = check_names(names if options.columns is None else options.columns, names, path)
    place = {name: d for d, name in enumerate(names)}
    return Table(tuple(numeric_column(name, values[:, place[name]].copy()) for name in chosen), path)


def _columns_table(arrays: dict[str, np.ndarray], options: Options, path: str) -> Table:
    """Arrays (N,) of one length are the columns of a table; anything else is a choice that only the user can make."""
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        held = listing(f"{name} ({_shape(array.shape)})" for name, array in arrays.items())
        raise InputError(f"{path}: holds {held}; name one: {path}:{next(iter(arrays))}.")
    names = tuple(arrays)
    chosen = check_names(names if options.columns is None else options.columns, names, path)
    for name in chosen:
        refuse_array(arrays[name].dtype, arrays[name].shape, f"{path}:{name}")
    return Table(tuple(numeric_column(name, np.array(arrays[name], dtype=np.float64)) for name in chosen), path)


def _member(names: list[str], wanted: str | None, path: str) -> str:
    if not names:
        raise InputError(f"{path}: holds no array (npz is what numpy.savez writes).")
    if wanted is not None and wanted not in names:
        raise InputError(
            f"{path}: holds no array {wanted!r}.{did_you_mean(wanted, names) or f' It has {listing(names)}.'}"
        )
    return wanted or names[0]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
