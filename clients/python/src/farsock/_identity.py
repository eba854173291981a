"""The certificate that is shown to agents that ask for one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from farsock._endpoint import read_private

if TYPE_CHECKING:
    from farsock._endpoint import Endpoint

    PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Identity:
    """Where a certificate, its key, and the CA of the agents are, as `farsock pki` makes them."""

    certificate: Path
    key: Path
    ca: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files. Raises OSError, also when others can read the key."""
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), read_private(self.key), self.certificate.read_bytes())


def find(endpoint: Endpoint, has_token: bool, certificate: PathLike | None, key: PathLike | None, ca: PathLike | None) -> Identity | None:
    """Answer whose certificate is shown at an endpoint: the one that is named, or that of FARSOCK_TLS_CERT where no token is.

    None: TLS is not spoken there; by a Unix socket it never is.
    """
    if certificate is None and not has_token:
        certificate = os.environ.get("FARSOCK_TLS_CERT") or None
    if certificate is None or endpoint.is_unix:
        return None
    path = Path(certificate)
    return Identity(
        path,
        Path(key or os.environ.get("FARSOCK_TLS_KEY") or path.with_suffix(".key")),
        Path(ca or os.environ.get("FARSOCK_TLS_CA") or path.with_name("ca.pem")),
    )
