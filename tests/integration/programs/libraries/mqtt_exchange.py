"""Hear what one publishes with paho-mqtt, plain and over TLS: python mqtt_exchange.py HOST USER PASSWORD [--threaded].

Threaded, the library waits in a thread of its own (``loop_start``), else where it is called (``loop_forever``).
"""

import queue
import sys

import paho.mqtt.client as mqtt

host, user, password = sys.argv[1:4]
threaded = "--threaded" in sys.argv


def subscribe(client, heard, flags, reason, properties):
    print(reason)
    client.subscribe("rooms/+/temperature", qos=1)


def publish(client, heard, mid, codes, properties):
    print(codes[0])
    for room, size in (("kitchen", 5), ("cellar", 200_000)):
        client.publish(f"rooms/{room}/temperature", b"x" * size, qos=1)


def hear(client, heard, message):
    heard.put((message.topic, len(message.payload)))
    if heard.qsize() == 2:
        client.disconnect()


for port in (1883, 8883):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, userdata=queue.Queue())
    client.username_pw_set(user, password)
    if port == 8883:
        client.tls_set()
    client.on_connect, client.on_subscribe, client.on_message = subscribe, publish, hear
    client.connect(host, port)
    if threaded:
        client.loop_start()
        first, second = (client.user_data_get().get(timeout=30) for _ in range(2))
        client.loop_stop()
    else:
        client.loop_forever()
        first, second = (client.user_data_get().get_nowait() for _ in range(2))
    print(sorted((first, second)))
