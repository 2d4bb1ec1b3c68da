"""Verifies a vendor's certificate and returns the key with which it signs."""

from __future__ import annotations

import re
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import certifi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

CHAIN_MAX = 8  # certificates in one response
KEY_BITS_MIN, KEY_BITS_MAX = 2_048, 8_192
CACHED_MAX = 64
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
RECHECK_S = 3_600  # how long a check is valid; the certificate's own validity is checked each time


class Signer(NamedTuple):
    """A verified certificate's key and validity (seconds since 1970)."""

    key: RSAPublicKey
    begin: float
    end: float


def signer(pem: bytes, domain: str, roots: str, at: float) -> Signer | None:
    """Return the signer of the first certificate of a PEM file, if it belongs to the domain and its
    chain ends in one of the roots (PEM; empty: the browsers' authorities). The expensive part is
    done once per certificate and hour.
    """
    candidate = _checked(pem, domain, roots, int(at // RECHECK_S))
    return candidate if candidate is not None and candidate.begin <= at <= candidate.end else None


@lru_cache(maxsize=CACHED_MAX)
def _checked(pem: bytes, domain: str, roots: str, hour: int) -> Signer | None:
    """Check the chain at a time within the hour. The caller checks whether the certificate itself
    is valid now.
    """
    try:
        leaf, *others = x509.load_pem_x509_certificates(pem)
        if len(others) >= CHAIN_MAX or not _belongs_to(leaf, domain):
            return None
        key, begin, end = leaf.public_key(), leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if not isinstance(key, RSAPublicKey) or not KEY_BITS_MIN <= key.key_size <= KEY_BITS_MAX:
            return None
        now = min(max(datetime.fromtimestamp((hour + 0.5) * RECHECK_S, UTC), begin), end)
        _verify_chain(leaf, others, roots, now)
    except (ValueError, VerificationError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return None
    return Signer(key, begin.timestamp(), end.timestamp())


def _belongs_to(leaf: x509.Certificate, domain: str) -> bool:
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return len(names) == 1 and str(names[0].value).lower().endswith("." + domain)


def _verify_chain(
    leaf: x509.Certificate, others: list[x509.Certificate], roots: str, now: datetime
) -> None:
    """Verify the chain as browsers do, except for the leaf's purpose: it signs callbacks and no
    connection.
    """
    policies = ExtensionPolicy.webpki_defaults_ca(), ExtensionPolicy.permit_all()
    builder = PolicyBuilder().store(trust_store(roots)).time(now)
    builder = builder.extension_policies(ca_policy=policies[0], ee_policy=policies[1])
    builder.build_client_verifier().verify(leaf, others)


@lru_cache(maxsize=8)
def trust_store(roots: str) -> Store:
    """Return the roots. Raises ValueError when one of them is not a certificate. Those of the
    browsers that cannot be read are left out.
    """
    return Store(x509.load_pem_x509_certificates(roots.encode()) if roots else _authorities())


def _authorities() -> list[x509.Certificate]:
    certificates = list[x509.Certificate]()
    with warnings.catch_warnings():
        # a few of the browsers' roots are older than today's rules
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for pem in PEM.findall(Path(certifi.where()).read_bytes()):
            with suppress(ValueError):
                certificates.append(x509.load_pem_x509_certificate(pem))
    return certificates
