"""Ask a name server with dnspython over UDP and TCP: python dns_ask.py SERVER NAME."""

import sys

import dns.message
import dns.query
import dns.resolver

server, name = sys.argv[1:]
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers, resolver.lifetime = [server], 10
for tcp in (False, True):
    for kind in ("A", "AAAA"):
        print(*sorted(map(str, resolver.resolve(name, kind, tcp=tcp))))
question = dns.message.make_query(name, "A")
print(dns.query.udp(question, server, timeout=10).rcode(), dns.query.tcp(question, server, timeout=10).rcode())
