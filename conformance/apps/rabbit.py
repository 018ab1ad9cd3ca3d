"""Publishes and consumes through RabbitMQ. argv: host, messages, bytes of each, seconds of silence between two rounds."""
import hashlib
import sys
import time

import pika

host, count, size, silence = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
link = pika.BlockingConnection(pika.ConnectionParameters(host, heartbeat=0, connection_attempts=20, retry_delay=1))
channel = link.channel()
channel.queue_declare("work")
for round in range(2):
    sent, got = hashlib.sha256(), hashlib.sha256()
    for i in range(count):
        body = bytes([i % 251]) * size
        sent.update(body)
        channel.basic_publish("", "work", body)
    left = count
    for method, _, body in channel.consume("work", auto_ack=True, inactivity_timeout=30):
        if method is None:
            sys.exit("messages are missing: %d of %d came" % (count - left, count))
        got.update(body)
        left -= 1
        if left == 0:
            break
    channel.cancel()
    if sent.digest() != got.digest():
        sys.exit("other messages came than were sent")
    if round == 0:
        time.sleep(silence)
link.close()
print("ok")
