"""Several hosts together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from farsock import _inventory
from farsock._host import Host


class Lab(Mapping[str, Host]):
    """The hosts of an inventory, by name: `Lab("lab.yaml")["lab-a"]`. Closing it closes them."""

    def __init__(self, inventory: str | os.PathLike[str] | Mapping[str, Host]) -> None:
        if isinstance(inventory, Mapping):
            self._hosts = dict(inventory)
        else:
            self._hosts = {name: Host(name=name, **entry.arguments()) for name, entry in _inventory.load(inventory).items()}

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def close(self) -> None:
        """Close all hosts."""
        for host in self._hosts.values():
            host.close()

    async def aclose(self) -> None:
        """`close`, for programs with an event loop."""
        for host in self._hosts.values():
            await host.aclose()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Lab:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
