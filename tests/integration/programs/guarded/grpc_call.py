"""Call a server by gRPC, whose core is C++ with sockets and a resolver of its own: python grpc_call.py HOST DENIED."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

host, denied = sys.argv[1:]
with grpc.insecure_channel(f"{host}:50051") as channel:
    once = channel.unary_unary("/outgate.test.Echo/Once")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: once(b"%d" % number, timeout=20), range(200)))
    each = channel.stream_stream("/outgate.test.Echo/Each")
    streamed = list(each(iter([bytes(100_000)] * 10), timeout=20))
with grpc.insecure_channel(f"{denied}:80") as channel:
    try:
        channel.unary_unary("/outgate.test.Echo/Once")(b"", timeout=5)
        refused = "answered"
    except grpc.RpcError as e:
        refused = e.code().name
print(
    json.dumps(
        {
            "answers": answers == [b"%d" % number for number in range(200)],
            "streamed": sum(map(len, streamed)),
            "denied": refused,
        }
    )
)
