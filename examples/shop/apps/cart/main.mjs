// Carts and checkout: three stock checks (one after the other, or together with CART_PARALLEL=1), a payment, a ledger line.

import { addToLedger } from '../ledger/client.mjs';
import { call, inherited, serve } from '../lib/http.mjs';

const ITEMS = ['tea', 'cup', 'pot'];

async function stock(headers) {
  const check = (sku) => call('inventory', 'GET', `/stock/${sku}`, headers);
  if (process.env.CART_PARALLEL === '1') return Promise.all(ITEMS.map(check));
  const answers = [];
  for (const sku of ITEMS) answers.push(await check(sku));
  return answers;
}

async function checkout(request) {
  const headers = inherited(request);
  const answers = await stock(headers);
  const missing = answers.find((a) => a.status !== 200);
  if (missing) return { status: missing.status, json: { error: 'inventory', answer: missing.json } };
  const payment = await call('payment', 'POST', '/charge', headers, { amount: 42 });
  if (payment.status !== 200) return { status: payment.status, json: { error: 'payment', answer: payment.json } };
  const line = await addToLedger('sale 42');
  return { json: { stock: answers.map((a) => a.json), payment: payment.json, ledger: line } };
}

serve('cart', async (request, url) => {
  if (url.pathname === '/healthz') return { json: { ok: true } };
  if (url.pathname === '/cart') return { json: { items: ITEMS } };
  if (url.pathname === '/checkout') return checkout(request);
  if (url.pathname === '/try-admin') {
    const answer = await call('payment', 'GET', '/admin', inherited(request));
    return { status: answer.status, json: answer.json };
  }
  return { status: 404, json: { error: `no page ${url.pathname}` } };
});
