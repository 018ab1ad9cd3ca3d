// The shop's front door: pages made of what other services answer.
import { call, inherited, serve } from '../lib/http.mjs';
import { recommend } from '../recommend/client.mjs';

async function page(request) {
  const headers = inherited(request);
  const [catalog, cart, user] = await Promise.all([
    call('catalog', 'GET', '/products', headers),
    call('cart', 'GET', '/cart', headers),
    call('user', 'GET', '/users/1', headers),
  ]);
  const failed = [catalog, cart, user].find((r) => r.status !== 200);
  return { status: failed ? 502 : 200, json: { catalog: catalog.json, cart: cart.json, user: user.json } };
}

serve('frontend', async (request, url) => {
  const headers = inherited(request);
  switch (url.pathname) {
    case '/healthz':
      return { json: { ok: true } };
    case '/':
      return page(request);
    case '/checkout': {
      const answer = await call('cart', 'POST', '/checkout', headers, { user: 1 });
      return { status: answer.status, json: answer.json };
    }
    case '/admin/payment': {
      const answer = await call('payment', 'GET', '/admin', headers);
      return { status: answer.status, json: answer.json };
    }
    case '/recommend':
      return { json: await recommend(url.searchParams.get('sku') ?? 'tea', headers) };
    default:
      return { status: 404, json: { error: `no page ${url.pathname}` } };
  }
});
