// The same service as main.go, for machines without Go.
import { serve } from '../lib/http.mjs';

const STOCK = new Map([
  ['tea', 120],
  ['cup', 33],
  ['pot', 5],
]);

serve('inventory', async (_request, url) => {
  if (url.pathname === '/healthz') return { json: { ok: true } };
  const sku = url.pathname.startsWith('/stock/') ? url.pathname.slice(7) : '';
  const count = STOCK.get(sku);
  return count === undefined ? { status: 404, json: { error: `no article ${sku}` } } : { json: { sku, count } };
});
