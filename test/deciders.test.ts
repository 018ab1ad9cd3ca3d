/** Who decides beside the mesh: an external authorizer that is a service of it, and an issuer whose keys are fetched. */
import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { peers, request, TestMesh } from './harness.ts';

const policies = (issuer: string): string => `
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
      - name: guard
        envoyExtAuthzHttp:
          service: guard.shop.svc.cluster.local
          port: 8080
          timeout: 5s
          pathPrefix: /check
          includeRequestHeadersInCheck: [x-who]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: guard, namespace: shop}
spec: {selector: {matchLabels: {app: guard}}, mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard, namespace: shop}
spec:
  selector: {matchLabels: {app: guard}}
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/payment]}}]
      to: [{operation: {paths: ["/check/*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked, namespace: shop}
spec:
  selector: {matchLabels: {app: payment}}
  action: CUSTOM
  provider: {name: guard}
  rules: [{to: [{operation: {paths: ["/asked*"]}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: people, namespace: shop}
spec:
  selector: {matchLabels: {app: payment}}
  jwtRules: [{issuer: "${issuer}", jwksUri: "${issuer}/keys", outputClaimToHeaders: [{header: x-person, claim: sub}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: people, namespace: shop}
spec:
  selector: {matchLabels: {app: payment}}
  rules:
    - to: [{operation: {notPaths: ["/people*"]}}]
    - to: [{operation: {paths: ["/people*"]}}]
      when: [{key: "request.auth.claims[groups]", values: [staff]}]
`;

function jwt(key: KeyObject, kid: string, claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'ES256', kid })}.${part(claims)}`;
  const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' });
  return `${text}.${signature.toString('base64url')}`;
}

test('an external authorizer is called over the mesh; keys of an issuer are fetched, renewed and outlive it', async (t) => {
  const pairs = new Map(['one', 'two'].map((kid) => [kid, generateKeyPairSync('ec', { namedCurve: 'P-256' })]));
  let served = ['one'];
  let down = false;
  const idp = createServer((_request, response) => {
    if (down) response.destroy();
    else
      response.end(
        JSON.stringify({
          keys: served.map((kid) => ({ ...pairs.get(kid)!.publicKey.export({ format: 'jwk' }), kid })),
        }),
      );
  });
  idp.listen(0, '127.0.0.1');
  await once(idp, 'listening');
  t.after(() => idp.close());
  const issuer = `http://127.0.0.1:${(idp.address() as { port: number }).port}`;

  const mesh = new TestMesh('explicit');
  t.after(() => mesh.cleanUp());
  mesh.write('services.yaml', peers({ client: { v1: 1 }, payment: { v1: 1 }, guard: { v1: 1 } }));
  mesh.write('policies.yaml', policies(issuer));
  mesh.start(['--jwks-allow', '127.0.0.0/8']);
  await mesh.ready();
  const { address } = mesh.row('client');
  const call = async (path: string, headers = {}, body?: string): Promise<{ key: string; text: string }> => {
    const url = `http://payment.shop:8080${path}`;
    return (await request(address, 8080, '/run', { url, headers, body })).json.sample;
  };
  const bearer = (kid: string, claims: object): object => ({
    authorization: `Bearer ${jwt(pairs.get(kid)!.privateKey, kid, { iss: issuer, sub: 'ann', ...claims })}`,
  });

  // The guard's own policy lets in payment's identity alone, so that an answer has come over the mesh.
  await mesh.until('the policies hold', 60_000, async () => (await call('/asked?status=403')).key === '403');
  assert.equal((await call('/asked/x')).key, '200');
  const denied = await call('/asked?status=401', { 'x-who': 'ann', 'x-other': 'o' });
  assert.equal(denied.key, '401');
  const told = JSON.parse(denied.text) as { name: string; path: string; headers: Record<string, string> };
  assert.deepEqual([told.name, told.path], ['guard', '/check/asked?status=401']);
  assert.deepEqual([told.headers['x-who'], told.headers['x-other']], ['ann', undefined]);
  assert.match(told.headers['x-forwarded-client-cert'], /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/payment/);
  assert.equal((await call('/free')).key, '200');
  assert.notEqual((await mesh.ask('client', '/run', { url: 'http://guard.shop:8080/check/x' })).json.sample.key, '200');

  // Tokens.
  const staff = { groups: ['staff', 'x'] };
  assert.equal((await call('/people')).key, '403');
  // The control plane fetches them while the mesh starts; until then tokens are refused.
  await mesh.until(
    'the keys are there',
    60_000,
    async () => (await call('/people', bearer('one', staff))).key === '200',
  );
  const person = await call('/people', { ...bearer('one', staff), 'x-person': 'root' });
  assert.equal(person.key, '200', person.text);
  assert.equal(JSON.parse(person.text).headers['x-person'], 'ann');
  assert.equal((await call('/people', bearer('one', { groups: ['x'] }))).key, '403');
  assert.equal((await call('/people', bearer('two', staff))).key, '401');
  served = ['two'];
  await mesh.until(
    'the new key is known',
    60_000,
    async () => (await call('/people', bearer('two', staff))).key === '200',
  );
  assert.equal((await call('/people', bearer('one', staff))).key, '401', 'a key that was taken back');
  // The issuer is gone: its keys stay good.
  down = true;
  mesh.write('more.yaml', 'apiVersion: v1\nkind: Namespace\nmetadata: {name: more}\n');
  await mesh.until('another epoch', 60_000, () => mesh.weft('proxy-status').includes(' 2 '));
  assert.equal((await call('/people', bearer('two', staff))).key, '200');
});
