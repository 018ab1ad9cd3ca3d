"""The catalog: what the shop sells."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from service import serve  # noqa: E402

PRODUCTS = [{"sku": "tea", "price": 4}, {"sku": "cup", "price": 7}, {"sku": "pot", "price": 31}]


def route(_method, path):
    if path == "/healthz":
        return 200, {"ok": True}
    if path == "/products":
        return 200, PRODUCTS
    return 404, {"error": f"no page {path}"}


serve("catalog", route)
