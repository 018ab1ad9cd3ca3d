import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger, VirtualClock } from '@weft/base';
import { KEY_SET_LIMITS, KeySets, publicKeys, type StoredKeys } from './key-sets.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));
const set = (...kids: string[]): string =>
  JSON.stringify({ keys: kids.map((kid) => ({ kty: 'OKP', crv: 'Ed25519', x: 'AA', kid })) });
const uri = 'https://issuer.test/keys';
const source = { name: uri, url: uri, discover: false, issuer: 'https://issuer.test', timeoutMs: 5000 };
const kidsOf = (text: string | undefined): string[] =>
  text === undefined ? [] : (JSON.parse(text) as { keys: { kid: string }[] }).keys.map((k) => k.kid);

function scene(stored = new Map<string, StoredKeys>(), clock = new VirtualClock()) {
  const asked: string[] = [];
  let changes = 0;
  const answers = new Map<string, string>([[uri, set('a')]]);
  const keys = new KeySets({
    ...{ clock, logger: silentLogger, stored },
    fetch: async (url) => {
      asked.push(url);
      const answer = answers.get(url);
      if (answer === undefined) throw new Error('down');
      return answer;
    },
    changed: () => void changes++,
  });
  const advance = async (ms: number): Promise<void> => {
    clock.advance(ms);
    for (let i = 0; i < 4; i++) await turn();
  };
  return { keys, asked, answers, advance, clock, stored, changes: () => changes };
}

test('keys are kept, renewed, and fetched anew for a key that is not among them, but not as often as somebody likes', async () => {
  const { keys, asked, answers, advance, changes } = scene();
  keys.want([source]);
  await advance(0);
  assert.deepEqual([kidsOf(keys.current.get(uri)), asked.length, changes()], [['a'], 1, 1]);
  await advance(KEY_SET_LIMITS.refreshMs - 1);
  assert.equal(asked.length, 1);
  await advance(1);
  assert.deepEqual([asked.length, changes()], [2, 1], 'the same keys are no change');
  answers.set(uri, set('a', 'b'));
  await advance(KEY_SET_LIMITS.leastMs);
  keys.missing(uri);
  await advance(0);
  assert.deepEqual([kidsOf(keys.current.get(uri)), changes()], [['a', 'b'], 2]);
  const before = asked.length;
  for (let i = 0; i < 100; i++) {
    keys.missing(uri);
    await advance(50);
  }
  assert.ok(asked.length - before <= 1, `${asked.length - before} fetches in 5 s`);
  await advance(KEY_SET_LIMITS.leastMs);
  assert.equal(asked.length - before, 1, 'what was missed is fetched later');
  assert.ok(keys.counters.limited > 50);
  keys.missing('https://10.0.0.1/never-configured');
  await advance(KEY_SET_LIMITS.leastMs);
  assert.ok(
    asked.every((url) => url === uri),
    'only what is configured is asked',
  );
  answers.set(uri, set('b'));
  keys.missing(uri);
  await advance(KEY_SET_LIMITS.leastMs);
  assert.deepEqual(kidsOf(keys.current.get(uri)), ['b'], 'a key that the issuer took back is gone');
});

test('an issuer that cannot be asked: none at first, those of before for a day, then none; it is asked again ever more slowly', async () => {
  const { keys, asked, answers, advance, changes, stored, clock } = scene();
  answers.delete(uri);
  keys.want([source]);
  await advance(0);
  assert.equal(keys.current.size, 0, 'no keys are made up');
  for (let i = 0; i < 600; i++) await advance(1000);
  assert.ok(asked.length >= 10 && asked.length <= 25, `${asked.length} fetches in 10 min`);
  answers.set(uri, set('a'));
  await advance(60_000);
  assert.deepEqual(kidsOf(keys.current.get(uri)), ['a']);
  for (const bad of [undefined, 'no json', '{}', '{"keys":[]}', set(), '{"keys":[{"kty":"oct","k":"AA"}]}']) {
    if (bad === undefined) answers.delete(uri);
    else answers.set(uri, bad);
    await advance(KEY_SET_LIMITS.refreshMs);
    assert.deepEqual(kidsOf(keys.current.get(uri)), ['a'], String(bad));
  }
  // A restart meanwhile.
  const again = scene(stored, clock);
  again.answers.delete(uri);
  again.keys.want([source]);
  await again.advance(0);
  assert.deepEqual(kidsOf(again.keys.current.get(uri)), ['a']);
  again.keys.stop();
  const now = changes();
  for (let h = 0; h < 25; h++) await advance(3_600_000);
  assert.equal(keys.current.size, 0);
  assert.equal(changes(), now + 1);
  keys.want([]);
  const before = asked.length;
  await advance(3_600_000);
  assert.equal(asked.length, before);
});

test("an issuer's own configuration says where its keys are, if it speaks for itself and keeps to TLS", async () => {
  const { keys, answers, advance, clock } = scene();
  const issuer = 'https://issuer.test';
  const url = `${issuer}/.well-known/openid-configuration`;
  keys.want([{ name: `issuer ${issuer}`, url, discover: true, issuer, timeoutMs: 5000 }]);
  const found = async (document: object): Promise<string[]> => {
    answers.set(url, JSON.stringify(document));
    await advance(KEY_SET_LIMITS.refreshMs);
    return kidsOf(keys.current.get(`issuer ${issuer}`));
  };
  assert.deepEqual(await found({ issuer: 'https://other.test', jwks_uri: uri }), []);
  assert.deepEqual(await found({ issuer }), []);
  assert.deepEqual(await found({ issuer, jwks_uri: 'http://issuer.test/keys' }), []);
  assert.deepEqual(await found({ issuer, jwks_uri: uri }), ['a']);
  assert.ok(clock.now() > 0);
});

test('of a key set only public keys for signatures are kept; a secret in it is refused', () => {
  const n = Buffer.alloc(256, 255).toString('base64url');
  const rsa = { kty: 'RSA', n, e: 'AQAB', kid: '1', x5u: 'http://10.0.0.1/', x5c: ['x'] };
  const kept = publicKeys(
    JSON.stringify({ keys: [rsa, { ...rsa, use: 'enc', kid: '2' }, { kty: 'oct', k: 'AA' }, null] }),
  );
  assert.deepEqual(JSON.parse(kept), { keys: [{ kty: 'RSA', kid: '1', n, e: 'AQAB' }] });
  assert.throws(() => publicKeys(JSON.stringify({ keys: [{ ...rsa, d: 'AA' }] })), /private/);
  assert.throws(() => publicKeys(JSON.stringify({ keys: Array(101).fill(rsa) })), /100 keys/);
});
