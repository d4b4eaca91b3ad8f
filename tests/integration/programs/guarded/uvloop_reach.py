"""Use sockets on libuv, which makes them in C: python uvloop_reach.py NAME HOST TCP-PORT HOST UDP-PORT DENIED."""

import asyncio
import errno
import json
import sys

import uvloop

name, host, port, datagrams, datagram_port, denied = sys.argv[1:]


class Exchange(asyncio.DatagramProtocol):
    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, source):
        self.answer.set_result(data.decode())

    def error_received(self, e):
        self.answer.set_exception(e)


async def echo(text):
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode())
    answer = await reader.readexactly(len(text))
    writer.close()
    await writer.wait_closed()
    return answer.decode() == text


async def exchange(connects):
    loop = asyncio.get_running_loop()
    to = (datagrams, int(datagram_port))
    transport, protocol = await loop.create_datagram_endpoint(
        Exchange, **{"remote_addr" if connects else "local_addr": to if connects else ("0.0.0.0", 0)}
    )
    transport.sendto(b"a datagram", None if connects else to)
    try:
        return await asyncio.wait_for(protocol.answer, 10)
    finally:
        transport.close()


async def main():
    found = {
        "loop": type(asyncio.get_running_loop()).__module__,
        "echoes": (await asyncio.gather(*(echo(str(number) * 1000) for number in range(100)))).count(True),
        "datagrams": [await exchange(False), await exchange(True)],
    }
    _, writer = await asyncio.open_connection(name, 80)
    found["peer"] = writer.get_extra_info("peername")[0]
    writer.close()
    try:
        await asyncio.open_connection(denied, 80)
    except OSError as e:
        found["denied"] = errno.errorcode[e.errno]
    print(json.dumps(found))


uvloop.run(main())
