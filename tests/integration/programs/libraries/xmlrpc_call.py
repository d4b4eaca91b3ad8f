"""Call procedures with xmlrpc.client: python xmlrpc_call.py HOST PORT."""

import sys
import xmlrpc.client

with xmlrpc.client.ServerProxy(f"http://{sys.argv[1]}:{sys.argv[2]}/", allow_none=True) as server:
    print(server.system.listMethods()[:3])
    print(server.add(1, 2, 3), server.echo({"list": [1, None, "ä"]}))
    print(len(server.echo(xmlrpc.client.Binary(b"x" * 500_000)).data))
    try:
        server.fail()
    except xmlrpc.client.Fault as fault:
        print(fault.faultCode, "ZeroDivisionError" in fault.faultString)
    several = xmlrpc.client.MultiCall(server)
    several.add(1, 1)
    several.add(2, 2)
    print(list(several()))
