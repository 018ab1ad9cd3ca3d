import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import {
  canonicalAuthority,
  canonicalHead,
  canonicalHostPattern,
  canonicalPath,
  canonicalPattern,
  type EncodedSlash,
  formatAuthority,
} from './canonical.ts';

const paths: [string, string][] = [
  ['/', '/'],
  ['/a/b?c=/../d//e', '/a/b?c=/../d//e'],
  ['/info/../private', '/private'],
  ['/info/%2e%2E/private', '/private'],
  ['/info/.%2e/private?q', '/private?q'],
  ['/a/./b/.', '/a/b/'],
  ['/a/..', '/'],
  ['/../../a', '/a'],
  ['//admin', '/admin'],
  ['/a///b//', '/a/b/'],
  ['/a//../b', '/a/b'],
  ['/a\\..\\b', '/b'],
  ['/%61dmin%7e%2d', '/admin~-'],
  ['/caf%c3%a9', '/caf%C3%A9'],
  ['/%252e%252e/x', '/%252e%252e/x'],
  ['/a/..;/b', '/a/..;/b'],
  ['/a;x=1/b', '/a;x=1/b'],
  ['/%c0%ae%c0%ae/', '/%C0%AE%C0%AE/'],
  ['/...', '/...'],
  ['/a.b/.c', '/a.b/.c'],
  ['/a?b%2f%00', '/a?b%2f%00'],
];

test('paths come out in one form, which is a fixed point', () => {
  for (const [raw, wanted] of paths) {
    assert.equal(canonicalPath(raw), wanted, raw);
    assert.equal(canonicalPath(wanted), wanted, wanted);
  }
});

test('paths that are not taken', () => {
  const codeOf = (raw: string, method?: string): unknown => {
    const result = canonicalPath(raw, 'reject', method);
    return typeof result === 'string' ? result : result.code;
  };
  for (const raw of ['', 'admin', '*', '%2fadmin', 'http://x/']) assert.equal(codeOf(raw), 'path', raw);
  assert.equal(codeOf('*', 'OPTIONS'), '*');
  for (const raw of ['/p#', '/p?a#b']) assert.equal(codeOf(raw), 'fragment', raw);
  for (const raw of ['/a%00', '/\u0000']) assert.equal(codeOf(raw), 'null', raw);
  for (const raw of ['/%', '/%4', '/%zz', '/%%32e']) assert.equal(codeOf(raw), 'escape', raw);
  for (const raw of ['/a%2fb', '/a%5Cb']) assert.equal(codeOf(raw), 'encoded-slash', raw);
  for (const raw of ['/a b', '/a\r\nx: y', '/é', '/\u0120', '/a?\u007f']) assert.equal(codeOf(raw), 'character', raw);
});

test('encoded slashes by policy', () => {
  assert.equal(canonicalPath('/a%2fb%5cc', 'keep'), '/a%2Fb%5Cc');
  assert.equal(canonicalPath('/a%2f..%2fb?q', 'decode'), '/b?q');
  const redirect = canonicalPath('/x%2f%2e%2e%5cb?q', 'redirect');
  assert.ok(typeof redirect !== 'string');
  assert.equal(redirect.status, 307);
  assert.equal(redirect.location, '/b?q');
});

test('random paths: the form is a fixed point, without dot segments or double slashes', () => {
  const seed = 4711;
  console.log(`seed ${seed}`);
  const random = seededRandom(seed);
  const bits = ['/', '.', '..', '%2e', '%2F', '%5c', '\\', 'a', ';', '%25', '%41', '?', '%e9', '//', '/.', '/..'];
  for (let n = 0; n < 20_000; n++) {
    let raw = '/';
    for (let k = random.next() * 10; k > 0; k--) raw += bits[Math.floor(random.next() * bits.length)];
    for (const mode of ['reject', 'keep', 'decode'] as const) {
      const once = canonicalPath(raw, mode);
      if (typeof once !== 'string') continue;
      assert.equal(canonicalPath(once, mode), once, raw);
      assert.doesNotMatch(once.split('?')[0], /\/\/|\\|\/\.{1,2}(\/|$)/, raw);
    }
  }
});

test('patterns get the spelling of canonical paths', () => {
  assert.equal(canonicalPattern('/café a/%7euser/%c3*'), '/caf%C3%A9%20a/~user/%C3*');
});

test('authorities', () => {
  const show = (raw: string): string | undefined => {
    const a = canonicalAuthority(raw);
    return a && formatAuthority(a);
  };
  assert.equal(show('Payment.Shop.:8080'), 'payment.shop:8080');
  assert.equal(show('[2001:DB8::1]:80'), '[2001:db8::1]:80');
  assert.equal(show('10.0.0.1'), '10.0.0.1');
  assert.equal(show('[2001:DB8:0:0::0:01]:80'), '[2001:db8::1]:80');
  assert.equal(show('[::FFFF:a00:1]'), '[::ffff:10.0.0.1]');
  const patterns = ['Secret.COM.', '*.Secret.com', '[2001:DB8:0::1]:080', 'a.com:*'].map(canonicalHostPattern);
  assert.deepEqual(patterns, ['secret.com', '*.secret.com', '[2001:db8::1]:80', 'a.com:*']);
  for (const bad of [
    '',
    'a b',
    'a@b',
    'a:',
    'a:0',
    'a:65536',
    'a:8x',
    '::1',
    'a..b',
    '.',
    'a/b',
    'a\u0000',
    '[::1',
    '[1::2::3]',
    '[10.0.0.1]',
    'a#b',
  ])
    assert.equal(show(bad), undefined, bad);
  const head = [':method', 'GET', ':scheme', 'http', ':authority', 'A.B.:80', ':path', '/x/../y', 'host', 'Z'];
  assert.equal(canonicalHead(head), undefined);
  assert.deepEqual(head.slice(4), [':authority', 'a.b:80', ':path', '/y', 'host', 'Z']);
  assert.equal(
    canonicalHead([':method', 'GET', ':scheme', 'http', ':authority', 'a b', ':path', '/'])?.code,
    'authority',
  );
});

test('a path that was asked for before is judged as it was the first time', () => {
  const ask = (method: string, path: string, encodedSlash: EncodedSlash = 'reject') => {
    const head = [':method', method, ':path', path];
    return canonicalHead(head, encodedSlash)?.code ?? head[3];
  };
  for (let i = 0; i < 2; i++) {
    assert.equal(ask('GET', ''), 'path');
    assert.equal(ask('GET', '/a/../b'), '/b');
    assert.equal(ask('GET', '/a/../b'), '/b');
    assert.equal(ask('GET', '/a%2fb', 'keep'), '/a%2Fb');
    assert.equal(ask('GET', '/a%2fb', 'reject'), 'encoded-slash');
    assert.equal(ask('GET', '/a%2fb', 'decode'), '/a/b');
    assert.equal(ask('OPTIONS', '*'), '*');
    assert.equal(ask('GET', '*'), 'path');
    assert.equal(ask('GET', '/a#b'), 'fragment');
    assert.equal(ask('GET', '/a#b'), 'fragment');
  }
});
