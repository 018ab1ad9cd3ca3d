"""Reads a job a line (JSON), plays it, prints a result a line."""
import json
import sys
import time

import clients
import servers
from frames import Peer


def tell(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


for line in sys.stdin:
    job = json.loads(line)
    Peer.patience = 5 if job["ends"] else 1
    started = time.monotonic()
    try:
        if job["case"] in clients.CASES:
            result = clients.CASES[job["case"]](job)
            if isinstance(result, Peer):
                peer = result
                result = {
                    "ended": peer.ended,
                    "goaway": peer.goaway,
                    "resets": peer.resets,
                    "frames": peer.frames_sent,
                    "bytes": peer.bytes_sent,
                }
                peer.close()
        else:
            result = servers.serve(job, lambda: tell({"ready": True}))
    except Exception as error:  # the judge is told; the next case has a connection of its own
        result = {"error": f"{type(error).__name__}: {error}"}
    result["seconds"] = round(time.monotonic() - started, 3)
    tell(result)
