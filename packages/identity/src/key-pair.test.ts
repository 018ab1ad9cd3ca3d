import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { judgeKeyPair } from './key-pair.ts';

test('certificates for the edge: names, and what cannot be served', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'weft-pair-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const make = (stem: string, san: string, ...key: string[]) => {
    const at = (end: string) => join(dir, `${stem}.${end}`);
    const args = ['req', '-x509', '-newkey', ...key, '-subj', `/CN=${stem}`, '-addext', `subjectAltName=${san}`];
    execFileSync('openssl', [...args, '-keyout', at('key'), '-out', at('crt')], { stdio: 'pipe' });
    return { certificate: readFileSync(at('crt'), 'utf8'), key: readFileSync(at('key'), 'utf8') };
  };
  const ec = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
  const good = make('good', 'DNS:a.test,DNS:*.b.test,IP:192.0.2.7', ...ec, '-nodes');
  assert.deepEqual(judgeKeyPair(good.certificate, good.key), { names: ['a.test', '*.b.test', '192.0.2.7'] });
  const other = make('other', 'DNS:a.test', ...ec, '-nodes');
  const locked = make('locked', 'DNS:a.test', ...ec, '-passout', 'pass:secret');
  const weak = make('weak', 'DNS:a.test', 'rsa:1024', '-nodes');
  const wrong: [string, string, RegExp][] = [
    [good.certificate, other.key, /not that of the certificate/],
    [other.certificate + good.certificate, good.key, /not that of the certificate/],
    ['-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n', good.key, /certificate cannot be read/],
    [good.certificate, '-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n', /private key cannot be read/],
    [locked.certificate, locked.key, /may not be encrypted/],
    [weak.certificate, weak.key, /key too small/],
  ];
  for (const [certificate, key, message] of wrong) {
    const judged = judgeKeyPair(certificate, key);
    assert.ok('error' in judged && message.test(judged.error), JSON.stringify(judged));
    for (const line of key.split('\n').slice(1, -2)) assert.ok(!judged.error.includes(line));
  }
});
