"""Make the certificates of a fleet: its authority's, requests of gates, and what is issued for them (RFC 5280).

Every key is an EC one on P-256. What a gate asks for is its public key alone: name, time and purposes are the
authority's to say.
"""

from __future__ import annotations

import datetime
import os
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outgate.core.fleet import names, terms

_HASH = hashes.SHA256()


class Certificate(NamedTuple):
    """What a certificate says.

    :ivar name: of the gate; "" for the authority's.
    :ivar begins: Unix seconds; so is ``ends``.
    :ivar fingerprint: SHA-256, in hexadecimal.
    """

    name: str
    begins: float
    ends: float
    fingerprint: str


def begin(now: float) -> tuple[bytes, bytes]:
    """Return key and certificate of a new authority, each as PEM.

    :param now: Unix seconds.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"outgate fleet {os.urandom(4).hex()}")])
    made = (
        _builder(subject, subject, key.public_key(), now, terms.AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _HASH)
    )
    return _pem_of(key), made.public_bytes(serialization.Encoding.PEM)


def request() -> tuple[bytes, bytes]:
    """Return a new key, and a request for a certificate of it, each as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, _HASH)
    return _pem_of(key), asked.public_bytes(serialization.Encoding.PEM)


def issue(key: bytes, certificate: bytes, asked: bytes, name: str, now: float, lasts: float = terms.GATE) -> bytes:
    """Return a certificate for a gate, as PEM.

    :param key: the authority's; so is the certificate.
    :param asked: the gate's request, of which nothing counts but the key.
    :param lasts: seconds.
    :raises ValueError: that is no request of somebody who has the key.
    """
    authority = x509.load_pem_x509_certificate(certificate)
    signer = serialization.load_pem_private_key(key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    wanted = x509.load_pem_x509_csr(asked)
    public = wanted.public_key()
    try:
        is_holder = wanted.is_signature_valid
    except InvalidSignature:
        is_holder = False
    if not is_holder or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("this is no request for a certificate")
    host = names.host_of(name)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = (
        _builder(x509.Name([]), authority.subject, public, now, lasts)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, _HASH)
    )
    return made.public_bytes(serialization.Encoding.PEM)


def read(certificate: bytes) -> Certificate:
    """Return what a certificate says.

    :param certificate: as PEM; keys may stand before it.
    :raises ValueError: there is none.
    """
    found = x509.load_pem_x509_certificate(certificate)
    try:
        said = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        name = names.name_of(said.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        name = ""
    begins, ends = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
    return Certificate(name, begins, ends, found.fingerprint(_HASH).hex())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, now: float, lasts: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - terms.SKEW))
        .not_valid_after(_time(now + lasts))
    )


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
