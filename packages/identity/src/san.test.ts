/** The names that are read from a certificate's bytes are those that the whole certificate says. */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { seededRandom } from '@weft/base';
import { uriNames } from './san.ts';
import { spiffeIdFromCertificate } from './spiffe.ts';
import { type CryptoKeyPair, crypto, EC_P256, x509 } from './x509.ts';

const keys = (await crypto.subtle.generateKey(EC_P256, true, ['sign', 'verify'])) as CryptoKeyPair;
const ID = 'spiffe://cluster.local/ns/shop/sa/cart';

type Names = ConstructorParameters<typeof x509.SubjectAlternativeNameExtension>[0];

async function certificate(...sans: Names[]): Promise<Uint8Array> {
  const made = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: '01',
      name: [{ CN: ['x, URI:spiffe://cluster.local/ns/shop/sa/forged'] }],
      notBefore: new Date(0),
      notAfter: new Date(1e12),
      keys,
      signingAlgorithm: EC_P256,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        ...sans.map((names, i) => new x509.SubjectAlternativeNameExtension(names, i === 0)),
      ],
    },
    crypto,
  );
  return new Uint8Array(made.rawData);
}

test('exactly one URI name of exactly one extension counts', async () => {
  const table: [Names[], { extensions: number; uris: string[] }][] = [
    [[[{ type: 'url', value: ID }]], { extensions: 1, uris: [ID] }],
    [[], { extensions: 0, uris: [] }],
    [
      [
        [
          { type: 'dns', value: 'a.example, URI:spiffe://cluster.local/ns/shop/sa/forged' },
          { type: 'email', value: ID },
          { type: 'url', value: ID },
          { type: 'ip', value: '10.0.0.1' },
        ],
      ],
      { extensions: 1, uris: [ID] },
    ],
    [
      [
        [
          { type: 'url', value: ID },
          { type: 'url', value: `${ID}2` },
        ],
      ],
      { extensions: 1, uris: [ID, `${ID}2`] },
    ],
    [[[{ type: 'url', value: ID }], [{ type: 'url', value: `${ID}2` }]], { extensions: 2, uris: [ID, `${ID}2`] }],
  ];
  for (const [sans, expected] of table) {
    const der = await certificate(...sans);
    assert.deepEqual(uriNames(der), expected);
    const good = expected.extensions === 1 && expected.uris.length === 1;
    assert.equal('spiffeId' in spiffeIdFromCertificate(der), good);
  }
});

test('a changed certificate says what the whole of it says, or is refused', async (t) => {
  const der = await certificate([
    { type: 'dns', value: 'cart' },
    { type: 'url', value: ID },
  ]);
  const seed = Number(process.env.SEED ?? 20_261_122);
  t.diagnostic(`SEED=${seed}`);
  const random = seededRandom(seed);
  const pick = (n: number): number => Math.floor(random.next() * n);
  let read = 0;
  for (let i = 0; i < 3000; i++) {
    let changed = Uint8Array.from(der);
    const kind = pick(3);
    for (let k = pick(3); k >= 0; k--) changed[pick(changed.length)] = pick(256);
    if (kind === 1) changed = changed.subarray(0, pick(changed.length));
    if (kind === 2) changed = Uint8Array.from([...changed, pick(256)]);
    let found: ReturnType<typeof uriNames>;
    try {
      found = uriNames(changed);
    } catch (error) {
      assert.ok(error instanceof RangeError, String(error));
      continue;
    }
    // What has another number of names is refused, whatever a more lenient reader finds in it.
    if (found.extensions !== 1 || found.uris.length !== 1) continue;
    let sans: number;
    let uris: string[];
    try {
      new X509Certificate(changed);
      const whole = new x509.X509Certificate(changed as unknown as ArrayBuffer);
      sans = whole.extensions.filter((e) => e.type === '2.5.29.17').length;
      const san = whole.getExtension(x509.SubjectAlternativeNameExtension);
      uris = san ? san.names.items.filter((n) => n.type === 'url').map((n) => n.value) : [];
    } catch {
      continue; // The TLS library would not have taken it.
    }
    read++;
    assert.deepEqual(
      [sans, uris],
      [1, found.uris],
      `change ${i} of seed ${seed}: ${Buffer.from(changed).toString('hex')}`,
    );
  }
  assert.ok(read > 300, `${read} were read by both`);
});
