/** IPv6 beside IPv4, and what a workload gives away of itself to its network: real processes in network namespaces. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { meshOf, needsRoot, peers, type TestMesh } from './harness.ts';

const noIpv6 = needsRoot || (existsSync('/proc/net/if_inet6') ? false : 'this machine has no IPv6');

/** The services of the harness, with families and with applications that listen at one of their addresses alone. */
function services(): string {
  return peers({ client: { v1: 1 }, dual: { v1: 1 }, six: { v1: 1 } })
    .replace(
      'name: dual\n  namespace: shop\nspec:\n  selector',
      'name: dual\n  namespace: shop\nspec:\n  ipFamilyPolicy: RequireDualStack\n  selector',
    )
    .replace(
      'name: six\n  namespace: shop\nspec:\n  selector',
      'name: six\n  namespace: shop\nspec:\n  ipFamilies: [IPv6]\n  selector',
    )
    .replace(
      'value: six\n    - name: VERSION',
      "value: six\n    - name: ONLY_FAMILY\n      value: '6'\n    - name: VERSION",
    );
}

interface Answer {
  statuses: Record<string, number>;
  sample: { text: string };
}

async function call(mesh: TestMesh, url: string, family?: 4 | 6): Promise<Answer> {
  return (await mesh.ask('client', '/run', { url, family })).json as Answer;
}

test('a service of IPv6 alone and one of both families are called over mutual TLS', { skip: noIpv6 }, async (t) => {
  const mesh = await meshOf(t, 'transparent', {}, { 'services.yaml': services() });
  for (const [url, family] of [
    ['http://six:8080/a', undefined],
    ['http://six:8080/a', 6],
    ['http://dual:8080/a', 4],
    ['http://dual:8080/a', 6],
    [`http://[${mesh.row('dual').address6}]:8080/a`, undefined],
  ] as const) {
    const said = await call(mesh, url, family);
    assert.deepEqual(said.statuses, { 200: 1 }, `${url} ${family}: ${JSON.stringify(said)}`);
    const { headers } = JSON.parse(said.sample.text);
    assert.match(
      String(headers['x-forwarded-client-cert']),
      /URI=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/client/,
      url,
    );
  }
  // A name has the addresses of its families, and no others.
  for (const [url, family] of [
    ['http://six:8080/a', 4],
    ['http://client:8080/a', 6],
  ] as const) {
    assert.equal((await call(mesh, url, family)).statuses['200'], undefined, `${url} over IPv${family}`);
  }
});
