"""Named things and their cards: methods, encoders, worlds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from deconf.errors import SettingsError, did_you_mean, listing


class Registry:
    """Names mapped to a class or function and a card that describes it.

    Parameters
    ----------
    kind : str
        What is registered, as error messages should call it: ``"method"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, tuple[Any, Any]] = {}

    def register(self, name: str, card: Any) -> Callable[[Any], Any]:
        """Return a decorator that enters a class or function under ``name``."""

        def enter(thing: Any) -> Any:
            if name in self._entries:
                raise SettingsError(f"two {self.kind}s are called {name!r}: rename one.")
            self._entries[name] = (thing, card)
            thing.registered_name = name
            return thing

        return enter

    def names(self) -> list[str]:
        """Return the registered names, in the order of registration."""
        return list(self._entries)

    def card(self, name: str) -> Any:
        """Return the card of ``name``."""
        return self._entry(name)[1]

    def __getitem__(self, name: str) -> Any:
        return self._entry(name)[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _entry(self, name: str) -> tuple[Any, Any]:
        if name not in self._entries:
            raise SettingsError(
                f"no {self.kind} is called {name!r}.{did_you_mean(name, self._entries)} "
                f"Known: {listing(self._entries, 40)}."
            )
        return self._entries[name]
