"""Certificates of an authority made for one test."""

from pathlib import Path

import trustme


def write(cert: trustme.LeafCert, folder: Path, name: str) -> tuple[str, str]:
    """Paths of the chain and of its key."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in cert.cert_chain_pems))
    key.write_bytes(cert.private_key_pem.bytes())
    return str(chain), str(key)


def write_ca(ca: trustme.CA, folder: Path, name: str = "ca") -> str:
    path = folder / f"{name}.pem"
    path.write_bytes(ca.cert_pem.bytes())
    return str(path)
