"""The shop's users."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from service import serve  # noqa: E402


def route(_method, path):
    if path == "/healthz":
        return 200, {"ok": True}
    if path.startswith("/users/"):
        return 200, {"id": path.removeprefix("/users/"), "name": "Ada"}
    return 404, {"error": f"no page {path}"}


serve("user", route)
