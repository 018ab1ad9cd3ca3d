// The same service as main.py, for machines without Python.
import { serve } from '../lib/http.mjs';

serve('catalog', async (_request, url) => {
  if (url.pathname === '/healthz') return { json: { ok: true } };
  if (url.pathname === '/products')
    return {
      json: [
        { sku: 'tea', price: 4 },
        { sku: 'cup', price: 7 },
        { sku: 'pot', price: 31 },
      ],
    };
  return { status: 404, json: { error: `no page ${url.pathname}` } };
});
