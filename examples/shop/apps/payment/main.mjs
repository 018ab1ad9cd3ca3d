// Payments, in two versions that differ in what they say of themselves.
import { serve } from '../lib/http.mjs';

const version = process.env.VERSION ?? 'v1';
let charges = 0;

serve('payment', async (_request, url, body) => {
  switch (url.pathname) {
    case '/healthz':
      return { json: { ok: true } };
    case '/charge':
      charges += 1;
      return { json: { version, charged: body?.amount ?? 0, number: charges } };
    case '/admin':
      return { json: { version, charges } };
    default:
      return { status: 404, json: { error: `no page ${url.pathname}` } };
  }
});
