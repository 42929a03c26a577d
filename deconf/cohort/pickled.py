"""Text from a pickled array of strings, without running what a pickle may ask for.

``np.savez(path, emb=z, image=table["image"])`` saves a pandas text column as a *pickled* object
array, and reading a pickle as usual can run any code.  Yet without the names the embeddings
could not be joined to their rows.  So the pickle is walked with inert stand-ins for the three
names of numpy that such an array needs; strings are all that comes out, and any other name in
the stream is refused before anything is called.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from deconf.errors import ReadError


class _Inert:
    """Stands in for a numpy object: takes any arguments, does nothing, keeps its state."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[object, ...] = ()

    def __setstate__(self, state: tuple[object, ...]) -> None:
        self.state = state


class _OnlyText(pickle.Unpickler):
    """An unpickler that knows no class and no function but the stand-in."""

    def find_class(self, module: str, name: str) -> type[_Inert]:
        numpy_array = {"_reconstruct", "ndarray", "dtype"}
        if module.split(".")[0] == "numpy" and name in numpy_array:
            return _Inert
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def texts_of_pickled_array(file: Any, name: str) -> np.ndarray:
    """Return a pickled array of strings, read from behind its .npy header.

    Raises
    ------
    ReadError
        Anything but strings is in it.
    """
    refused = (
        f"{name!r} holds pickled objects other than plain text, which could run any code when "
        "read, and is refused (allow_pickle=False). Save the names as text: "
        "np.savez(path, emb=z, image=table['image'].to_numpy(dtype=str))."
    )
    try:
        array = _OnlyText(file).load()
    except (pickle.UnpicklingError, AttributeError, TypeError, IndexError, MemoryError) as error:
        raise ReadError(refused) from error
    values = array.state[4] if isinstance(array, _Inert) and len(array.state) == 5 else None
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ReadError(refused)
    return np.array(values, dtype=object)
