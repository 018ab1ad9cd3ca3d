/**
 * Project Wycheproof's vectors of JSON web signatures and keys against what judges tokens here: the configuration, which
 * refuses key sets, and the proxy, which refuses tokens. Tokens by shared secrets are refused here whatever they say: of
 * such vectors a good one is not run, and a bad one must be refused as any.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadFiles } from '@weft/config';
import { KeySet } from '../../packages/proxy/src/http/signature.ts';
import { goModule } from '../install.ts';
import { type Suite, Tally } from '../suite.ts';

const MODULE = 'github.com/c2sp/wycheproof';
const VERSION = 'v0.0.0-20260902155932-3fa63dd0344a';
/**
 * Good by the vectors, though the key says it is for another algorithm than the token has (in two, one that there is not).
 * A key is for one algorithm (RFC 8725 3.1): refused here, and good once the key does not say that.
 */
const KEY_OF_ANOTHER_ALGORITHM = ['rfc7520: Figure20', 'rfc7520: Figure27', 'rfc7520WithKeyOps: Figure20'].concat(
  'rfc7520WithKeyOps: Figure27',
);

const FILES = ['json_web_signature', 'json_web_key', 'json_web_crypto'];

interface Vector {
  tcId: number;
  comment: string;
  /** Compact, or an object (JSON serialization). */
  jws?: string | object;
  result: 'valid' | 'invalid' | 'acceptable';
}

type Key = Record<string, unknown> & { keys?: Key[] };

interface Group {
  comment: string;
  public?: Key;
  private?: Key;
  tests: Vector[];
}

/** What a RequestAuthentication with these keys says of a token. */
async function accepts(keys: string, token: string): Promise<boolean> {
  const jwtRules = [{ issuer: 'https://issuer.test', jwks: keys }];
  const metadata = { name: 'a', namespace: 'default' };
  const resource = { apiVersion: 'security.istio.io/v1', kind: 'RequestAuthentication', metadata, spec: { jwtRules } };
  const { model } = loadFiles([{ path: 'a.yaml', text: JSON.stringify(resource) }]);
  const jwks = model?.requestAuthentications[0].rules[0].jwks;
  return jwks !== undefined && typeof (await new KeySet(jwks).verify(token)) !== 'string';
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
    let secrets = 0;
    let encrypted = 0;
    for (const file of FILES) {
      const text = readFileSync(join(folder, 'testvectors_v1', `${file}_test.json`), 'utf8');
      for (const group of (JSON.parse(text) as { testGroups: Group[] }).testGroups) {
        const given = (group.public ?? group.private) as Key;
        const keys = given.keys ?? [given];
        for (const { tcId, comment, jws, result } of group.tests) {
          if (jws === undefined) {
            encrypted++;
            continue;
          }
          if (result === 'valid' && keys.every((k) => k.kty === 'oct')) {
            secrets++;
            continue;
          }
          const token = typeof jws === 'string' ? jws : JSON.stringify(jws);
          await tally.check(`${file} ${tcId} (${group.comment}: ${comment})`, async () => {
            let accepted = await accepts(JSON.stringify({ keys }), token);
            if (KEY_OF_ANOTHER_ALGORITHM.includes(`${group.comment}: ${comment}`)) {
              if (accepted) throw new Error('accepted, though its key is for another algorithm');
              accepted = await accepts(JSON.stringify({ keys: keys.map(({ alg: _, ...key }) => key) }), token);
            }
            if (accepted !== (result === 'valid')) throw new Error(accepted ? 'accepted' : 'refused');
          });
        }
      }
    }
    ctx.log(`${tally.passed + tally.failed} vectors`);
    tally.skipped = secrets + encrypted;
    tally.notes = [
      `${KEY_OF_ANOTHER_ALGORITHM.length} good tokens of another algorithm than their key's are refused with it (RFC 8725 3.1), good without`,
      `${secrets} good tokens by shared secrets were not run: such tokens are refused here`,
      `${encrypted} vectors are of encryption, which tokens of requests have none of`,
    ];
    return tally;
  },
};
