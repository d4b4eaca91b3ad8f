"""Bind, search and change with ldap3, plain, StartTLS and TLS: python ldap_search.py HOST BASE USER PASSWORD."""

import ssl
import sys

import ldap3

host, base, user, password = sys.argv[1:]
secure = ldap3.Tls(validate=ssl.CERT_REQUIRED, ca_certs_file=ssl.get_default_verify_paths().cafile)
for way in (ldap3.AUTO_BIND_NO_TLS, ldap3.AUTO_BIND_TLS_BEFORE_BIND, "ldaps"):
    tls = way == "ldaps"
    server = ldap3.Server(host, 636 if tls else 389, use_ssl=tls, tls=secure, connect_timeout=10)
    bind = ldap3.AUTO_BIND_NO_TLS if tls else way
    with ldap3.Connection(server, user, password, auto_bind=bind, receive_timeout=30) as directory:
        directory.search(base, "(objectClass=inetOrgPerson)", attributes=["cn"])
        print(way, directory.tls_started or tls, sorted(entry.cn.value for entry in directory.entries))
        dn = f"uid=new,{base}"
        print(directory.add(dn, "inetOrgPerson", {"cn": "Somebody New", "sn": "New"}), directory.delete(dn))
