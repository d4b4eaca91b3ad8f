"""OpenLDAP's slapd as the directory of the world: one small tree, plain and over TLS, with a password to bind."""

from __future__ import annotations

from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server, run

BASE = "dc=outgate,dc=test"
ADMIN, PASSWORD = f"cn=admin,{BASE}", "directory"
#: uid → common name of the people in it.
PEOPLE = {"ada": "Ada Lovelace", "grace": "Grace Hopper", "karen": "Karen Jones"}

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
database mdb
maxsize 4194304
directory {folder}/data
suffix "{base}"
rootdn "{admin}"
rootpw {password}
access to * by * read
"""


def start(
    namespace: Namespace, folder: Path, addresses: tuple[str, ...], ports: tuple[int, int], certificate: Path, key: Path
) -> Server:
    """Fill the directory and serve it on these addresses.

    :param ports: the plain one and the one for TLS.
    """
    (folder / "data").mkdir()
    config, tree = folder / "slapd.conf", folder / "tree.ldif"
    config.write_text(
        _CONFIG.format(folder=folder, certificate=certificate, key=key, base=BASE, admin=ADMIN, password=PASSWORD)
    )
    entries = [f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: outgate\no: The test world\n"]
    entries += [
        f"dn: uid={uid},{BASE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {name}\nsn: {name.split()[-1]}\n"
        for uid, name in PEOPLE.items()
    ]
    tree.write_text("\n".join(entries))
    run(namespace, ["slapadd", "-f", str(config), "-l", str(tree)], {})
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    plain, secure = ports
    urls = " ".join(f"ldap://{host}:{plain}/ ldaps://{host}:{secure}/" for host in hosts)
    # -d keeps it in the foreground (slapd(8)); 0 has it say nothing more than it would otherwise.
    return Server("slapd", namespace, folder, ["slapd", "-f", str(config), "-h", urls, "-d", "0"])
