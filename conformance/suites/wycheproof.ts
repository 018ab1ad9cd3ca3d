/**
 * Project Wycheproof's vectors of JSON web signatures, keys and encryption against what judges tokens here: the
 * configuration, which refuses key sets, and the proxy, which refuses tokens, also by keys that were fetched. Every vector
 * runs. Few that are good by the vectors are refused here on purpose: each is named below with the reason, and what is
 * the same but for that reason must be good.
 */
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadFiles } from '@weft/config';
import { KeySet } from '../../packages/proxy/src/http/signature.ts';
import { goModule } from '../install.ts';
import { type Suite, Tally } from '../suite.ts';

const MODULE = 'github.com/c2sp/wycheproof';
const VERSION = 'v0.0.0-20260902155932-3fa63dd0344a';
const FILES = { signature: 'json_web_signature', key: 'json_web_key', crypto: 'json_web_crypto' };

/** Good by the vectors, refused here. */
interface Refusal {
  readonly why: string;
  readonly vectors: readonly string[];
  /** What is good here, and is the same but for the reason; undefined: there is no such thing. */
  instead?(keys: readonly Key[], token: string): { keys: readonly Key[]; token: string };
}

const REFUSALS: readonly Refusal[] = [
  {
    why: 'the key says it is for another algorithm than the token has: a key is for one (RFC 8725 3.1)',
    vectors: ['signature 346', 'signature 347', 'signature 350', 'signature 351'],
    instead: (keys, token) => ({ keys: keys.map(({ alg: _, ...key }) => key), token }),
  },
  {
    why: 'signed by a shared secret (HS256, HS384, HS512): whoever may verify such tokens can make them',
    vectors: [
      ...[1, 348, 352, 357, 358, 359, 376, 377].map((id) => `signature ${id}`),
      ...[2, 13, 14, 15].map((id) => `key ${id}`),
      ...[1, 48].map((id) => `crypto ${id}`),
    ],
    instead: (_keys, token) => byKeyPair(token),
  },
  {
    why: 'a "?" is no base64url (RFC 7515 2): were it passed over, one signature would be good for many texts',
    vectors: ['signature 372', 'signature 373'],
    instead: (_keys, token) => byKeyPair(token.replace('?', '')),
  },
  {
    why: 'encrypted (JWE): tokens of requests are signed, the proxy has no key that opens one',
    vectors: ['crypto 50', 'crypto 67'],
  },
];

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  /** Compact, or an object (JSON serialization). */
  readonly jws?: string | object;
  readonly jwe?: string | object;
  readonly result: 'valid' | 'invalid';
}

type Key = Record<string, unknown> & { keys?: Key[] };

interface Group {
  readonly comment: string;
  readonly public?: Key;
  readonly private?: Key;
  readonly tests: readonly Vector[];
}

let pair: { privateKey: KeyObject; publicKey: KeyObject } | undefined;

/** The token's words with the signature of a key pair: in the header "alg" alone is another. */
function byKeyPair(token: string): { keys: readonly Key[]; token: string } {
  pair ??= generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const [header, payload] = token.split('.');
  const said = Buffer.from(header, 'base64url').toString();
  const mine = `${Buffer.from(said.replace(/"HS\d+"/, '"ES256"')).toString('base64url')}.${payload}`;
  const signature = sign('sha256', Buffer.from(mine), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' });
  const { kid } = JSON.parse(said) as { kid?: string };
  const key = { ...(pair.publicKey.export({ format: 'jwk' }) as Key), ...(kid !== undefined && { kid }) };
  return { keys: [key], token: `${mine}.${signature.toString('base64url')}` };
}

/** What a RequestAuthentication with these keys says of a token: undefined where it is good, else why not. */
async function written(keys: string, token: string): Promise<string | undefined> {
  const jwtRules = [{ issuer: 'https://issuer.test', jwks: keys }];
  const metadata = { name: 'a', namespace: 'default' };
  const resource = { apiVersion: 'security.istio.io/v1', kind: 'RequestAuthentication', metadata, spec: { jwtRules } };
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: JSON.stringify(resource) }]);
  const jwks = model?.requestAuthentications[0].rules[0].jwks;
  return jwks === undefined ? (problems[0]?.message ?? 'refused without a word') : fetched(jwks, token);
}

/** What a proxy says of it that has the keys from an address: no configuration looked at them. */
async function fetched(keys: string, token: string): Promise<string | undefined> {
  const said = await new KeySet(keys).verify(token);
  return typeof said === 'string' ? said : undefined;
}

async function mustBe(good: boolean, keys: readonly Key[], token: string, what = ''): Promise<void> {
  const set = JSON.stringify({ keys });
  for (const [way, judge] of Object.entries({ written, fetched })) {
    const refused = await judge(set, token);
    if ((refused === undefined) !== good) throw new Error(`keys ${way}: ${refused ?? 'accepted'}${what}`);
  }
}

async function judge(v: Vector, keys: readonly Key[], refusal: Refusal | undefined): Promise<void> {
  const given = v.jws ?? v.jwe;
  const token = typeof given === 'string' ? given : JSON.stringify(given);
  await mustBe(v.result === 'valid' && !refusal, keys, token);
  if (!refusal) return;
  if (v.result !== 'valid') throw new Error('is not good by the vectors: it needs no reason of ours');
  const other = refusal.instead?.(keys, token);
  if (other) await mustBe(true, other.keys, other.token, ', though the reason is taken away');
}

export const suite: Suite = {
  name: 'wycheproof',
  about: 'signatures and keys of tokens that must be refused, and those that must not (Project Wycheproof)',
  inShortForm: true,
  async install() {
    goModule(MODULE, VERSION);
  },
  async run(ctx) {
    const folder = goModule(MODULE, VERSION);
    const tally = new Tally();
    const refusals = new Map(REFUSALS.flatMap((r) => r.vectors.map((name) => [name, r] as const)));
    for (const [short, file] of Object.entries(FILES)) {
      const text = readFileSync(join(folder, 'testvectors_v1', `${file}_test.json`), 'utf8');
      for (const group of (JSON.parse(text) as { testGroups: Group[] }).testGroups) {
        // An encrypted token comes with the key that opens it: a verifier has its public part.
        const key = (group.public ?? group.private) as Key;
        const keys = key.keys ?? [key];
        for (const vector of group.tests) {
          const name = `${short} ${vector.tcId}`;
          const refusal = refusals.get(name);
          refusals.delete(name);
          const own = vector.jwe === undefined ? keys : keys.map(({ d: _, ...rest }) => rest);
          await tally.check(`${name} (${group.comment}: ${vector.comment})`, () => judge(vector, own, refusal));
        }
      }
    }
    await tally.check('every refusal is of a vector', () => {
      if (refusals.size > 0) throw new Error(`no such vectors: ${[...refusals.keys()].join(', ')}`);
    });
    ctx.log(`${tally.passed + tally.failed} cases`);
    tally.notes = REFUSALS.map(({ why, vectors }) => `refused on purpose, ${vectors.length}: ${why}`);
    return tally;
  },
};
