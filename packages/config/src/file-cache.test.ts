import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { FileCache } from './file-cache.ts';
import { loadFiles } from './load.ts';
import type { SourceFile } from './source.ts';

const service = (name: string, extra = '') =>
  `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}, namespace: shop${extra}}\nspec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}\n`;
const rule = (host: string, errors = 5) =>
  `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: ${host}, namespace: shop}\nspec: {host: ${host}, trafficPolicy: {outlierDetection: {consecutive5xxErrors: ${errors}}}}\n`;
const processes = {
  path: 'processes.yaml',
  text: ['a', 'b', 'c', 'gw']
    .map(
      (app) =>
        `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${app}, namespace: shop, labels: {app: ${app}}}\nspec: {${app === 'gw' ? 'gateway: {}' : 'command: ["true"], ports: [{name: http, port: 80}]'}}\n`,
    )
    .join('---\n'),
};
const gateway = `apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  selector: {app: gw}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: ["*"]
    tls: {mode: SIMPLE, serverCertificate: cert.pem, privateKey: key.pem}
`;
const pem = (what: string, body: string) => `-----BEGIN ${what}-----\n${body}\n-----END ${what}-----\n`;

test('what did not change is the same object in the next model, and what did is not', () => {
  const cache = new FileCache();
  const files = [
    { path: 'a.yaml', text: `${service('a')}---\n${rule('a')}` },
    { path: 'b.yaml', text: service('b') },
    processes,
  ];
  const first = loadFiles(files, { cache }).model!;
  const second = loadFiles([files[0], { path: 'b.yaml', text: `\n${service('b')}` }, processes], { cache }).model!;
  assert.equal(first.services[0], second.services[0]);
  assert.equal(first.destinationRules[0], second.destinationRules[0]);
  assert.equal(first.positions.get('Service/shop/a'), second.positions.get('Service/shop/a'));
  assert.deepEqual([first.services[1].source.line, second.services[1].source.line], [1, 2]);
  const other = loadFiles(files, { cache, domain: 'other.local' }).model!;
  assert.equal(other.domain, 'other.local');
  assert.notEqual(other.services[0], first.services[0], 'made with other settings');
});

test('after any edits the result is that of a reading without a cache', () => {
  const seed = 20_261_121;
  const random = seededRandom(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
  const texts: Record<string, string[]> = {
    'a.yaml': [
      service('a'),
      `${service('a')}---\n${rule('a')}`,
      `\n${service('a')}---\n${rule('a', 7)}`,
      'kind: [',
      '# a',
    ],
    'b.yaml': [
      service('b'),
      rule('b'),
      service('b', ', labels: {x: y}'),
      'a: 1\n',
      `${service('c')}---\n${service('c')}`,
    ],
    'c.yaml': [service('c'), rule('nowhere'), rule('c'), `# nothing\n`, `${rule('c')}---\n${service('a')}`],
    'gw.yaml': [gateway, `# moved\n${gateway}`, ''],
    'cert.pem': [pem('CERTIFICATE', 'one'), pem('CERTIFICATE', 'two'), 'none'],
    'key.pem': [pem('PRIVATE KEY', 'one'), ''],
  };
  const cache = new FileCache();
  const judgeKeyPair = (certificate: string) => ({ names: certificate.includes('two') ? ['two.example'] : [] });
  const now = new Map<string, string>();
  let models = 0;
  for (let i = 0; i < 400; i++) {
    const edited = pick(Object.keys(texts));
    if (random.next() < 0.1) now.delete(edited);
    else now.set(edited, pick(texts[edited]!));
    const files: SourceFile[] = [processes, ...[...now].map(([path, text]) => ({ path, text }))];
    if (random.next() < 0.3) files.reverse();
    const got = loadFiles(files, { cache, judgeKeyPair });
    const wanted = loadFiles(files, { judgeKeyPair });
    assert.deepEqual(got, wanted, `seed ${seed}, step ${i}`);
    if (got.model) models++;
  }
  assert.ok(models > 20 && models < 390, `${models} models in 400 steps`);
});
