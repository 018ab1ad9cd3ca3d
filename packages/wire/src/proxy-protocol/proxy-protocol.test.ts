import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PROXY_HEADER_BYTES, type ProxyAddresses, proxyHeader, readProxyHeader } from './index.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const SIGNATURE = '0d0a0d0a000d0a515549540a';
const v2 = (rest: string): Buffer => Buffer.from(SIGNATURE + rest.replaceAll(' ', ''), 'hex');
const read = (text: string): ReturnType<typeof readProxyHeader> => readProxyHeader(Buffer.from(text, 'latin1'));

test('version 1: both families, unknown, and everything that is not exactly right', () => {
  assert.deepEqual(read('PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET /'), {
    size: 45,
    version: 1,
    addresses: { source: '192.0.2.1', sourcePort: 56324, destination: '198.51.100.7', destinationPort: 443 },
  });
  const six = read('PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 1 65535\r\n');
  assert.ok(typeof six === 'object' && six.addresses?.source === '2001:db8::1');
  assert.deepEqual(read('PROXY UNKNOWN\r\nx'), { size: 15, version: 1, addresses: undefined });
  assert.deepEqual(read('PROXY UNKNOWN ffff::1 whatever\r\n'), { size: 32, version: 1, addresses: undefined });
  for (const more of ['', 'P', 'PROXY', 'PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r'])
    assert.equal(read(more), 'more');
  const bad = [
    'GET / HTTP/1.1\r\n\r\n',
    'PROXX',
    'PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n',
    'PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n',
    'PROXY TCP4 192.0.2.01 198.51.100.7 56324 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n',
    'PROXY TCP4 192.0.2.1 198.51.100.7 1 0443\r\n',
    'PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n',
    'PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n',
    'PROXY TCP6 2001:db8:::1 2001:db8::2 1 2\r\n',
    'PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n',
    'PROXY UNKNOWNX\r\n',
    'PROXY tcp4 192.0.2.1 198.51.100.7 1 2\r\n',
    `PROXY UNKNOWN ${'x'.repeat(100)}\r\n`,
  ];
  for (const text of bad) assert.equal(read(text), 'bad', text);
});

test('version 2: families, LOCAL, TLVs, and lengths that do not fit', () => {
  const four = 'c0000201 c6336407 dc04 01bb';
  assert.deepEqual(readProxyHeader(v2(`21 11 000c ${four} 474554`)), {
    size: 28,
    version: 2,
    addresses: { source: '192.0.2.1', sourcePort: 56324, destination: '198.51.100.7', destinationPort: 443 },
  });
  const tlv = readProxyHeader(v2(`21 11 0013 ${four} 01 0001 68 04 0000`));
  assert.ok(typeof tlv === 'object' && tlv.size === 35 && tlv.addresses?.destinationPort === 443);
  const sixes = '20010db8000000000000000000000001 00000000000000000000ffffc0000201';
  const six = readProxyHeader(v2(`21 21 0024 ${sixes} 0001 0002`));
  assert.ok(typeof six === 'object');
  assert.deepEqual([six.addresses?.source, six.addresses?.destination], ['2001:db8:0:0:0:0:0:1', '192.0.2.1']);
  // LOCAL, with and without addresses; UDP; Unix sockets; unspecified: the connection's own addresses hold.
  for (const rest of [
    '20 00 0000',
    `20 11 000c ${four}`,
    '20 11 0003 010203',
    `21 12 000c ${four}`,
    '21 00 0002 ffff',
  ]) {
    const header = readProxyHeader(v2(rest));
    assert.ok(typeof header === 'object' && header.addresses === undefined, rest);
  }
  const bad = [
    '11 11 000c',
    '22 11 000c',
    '21 41 000c',
    '21 13 000c',
    '21 11 1001',
    '21 11 000b c0000201 c6336407 dc04 01',
    '21 21 000c c0000201 c6336407 dc04 01bb',
    `21 11 000e ${four} 0100`,
    `21 11 0010 ${four} 01 0002 68`,
  ];
  for (const rest of bad) assert.equal(readProxyHeader(v2(rest)), 'bad', rest);
  assert.equal(readProxyHeader(Buffer.from('0d0a0d0b', 'hex')), 'bad');
  assert.equal(readProxyHeader(v2('21 11 000c c0')), 'more');
});

const v4 = fc.ipV4();
const v6 = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { minLength: 8, maxLength: 8 })
  .map((g) => [0x2001, ...g.slice(1)].map((n) => n.toString(16)).join(':'));
const port = fc.integer({ min: 0, max: 65_535 });
const ends = (ip: fc.Arbitrary<string>): fc.Arbitrary<ProxyAddresses> =>
  fc.record({ source: ip, sourcePort: port, destination: ip, destinationPort: port });

test('what is written is read again, whatever follows and however it comes', () => {
  fc.assert(
    fc.property(fc.oneof(ends(v4), ends(v6)), fc.constantFrom(1, 2), fc.uint8Array(), (addresses, version, rest) => {
      const header = proxyHeader(version as 1 | 2, addresses);
      assert.ok(header.length <= PROXY_HEADER_BYTES);
      for (let i = 0; i < header.length; i++) assert.equal(readProxyHeader(header.subarray(0, i)), 'more');
      const read = readProxyHeader(Buffer.concat([header, rest]));
      assert.deepEqual(read, { size: header.length, version, addresses: { ...addresses } });
    }),
  );
});

test('bytes of any kind never throw, and enough of them are judged', () => {
  const any = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array().map((b) => Buffer.concat([v2('21'), b])),
  );
  fc.assert(
    fc.property(any, (bytes) => {
      const judged = readProxyHeader(Buffer.from(bytes));
      if (typeof judged === 'object') assert.ok(judged.size <= bytes.length);
      const full = Buffer.concat([bytes, Buffer.alloc(PROXY_HEADER_BYTES)]);
      assert.notEqual(readProxyHeader(full), 'more');
    }),
  );
});

test('without two addresses of one family nothing is claimed', () => {
  const mixed = { source: '192.0.2.1', sourcePort: 1, destination: '2001:db8::1', destinationPort: 2 };
  for (const addresses of [undefined, mixed, { ...mixed, source: 'nonsense' }]) {
    assert.equal(proxyHeader(1, addresses).toString(), 'PROXY UNKNOWN\r\n');
    assert.deepEqual(readProxyHeader(proxyHeader(2, addresses)), { size: 16, version: 2, addresses: undefined });
  }
});
