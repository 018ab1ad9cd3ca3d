// The same service as main.py, for machines without Python.
import { serve } from '../lib/http.mjs';

serve('user', async (_request, url) => {
  if (url.pathname === '/healthz') return { json: { ok: true } };
  if (url.pathname.startsWith('/users/')) return { json: { id: url.pathname.slice(7), name: 'Ada' } };
  return { status: 404, json: { error: `no page ${url.pathname}` } };
});
