import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { decoded, HpackDecoder } from './hpack-decoder.ts';
import { blockBytes, HpackEncoder, listBytes } from './hpack-encoder.ts';
import { huffmanDecode, huffmanLength, huffmanWrite } from './huffman.ts';

// The same inputs each time, but for who asks for others (SEED=…).
fc.configureGlobal({ seed: Number(process.env.SEED ?? 20_261_122) });

const limits = { headerBytes: 60 * 1024, headerFieldBytes: 16 * 1024, headerCount: 100 };

/** The fields of a block that must be right. */
function fieldsOf(decoder: HpackDecoder, buf: Buffer, end = buf.length): string[] {
  const fields: string[] = [];
  assert.equal(decoder.decode(buf, 0, end, fields), decoded.ok);
  return fields;
}

test('Huffman: every latin1 string comes back', () => {
  const bytes = fc.string({ unit: fc.integer({ min: 1, max: 255 }).map((c) => String.fromCharCode(c)), maxLength: 60 });
  fc.assert(
    fc.property(bytes, (raw) => {
      const text = raw.replace(/[\r\n]/g, 'x');
      const buf = Buffer.alloc(text.length * 4 + 1);
      const end = huffmanWrite(text, buf, 0);
      assert.equal(end, huffmanLength(text));
      const out = Buffer.alloc(end * 2 + 1);
      const length = huffmanDecode(buf, 0, end, out);
      assert.equal(out.toString('latin1', 0, length), text);
    }),
    { numRuns: 2000 },
  );
});

test('RFC 7541 C.4 and C.6: request and response blocks with Huffman coding', () => {
  const decoder = new HpackDecoder(limits);
  const read = (hex: string): string[] => fieldsOf(decoder, Buffer.from(hex, 'hex'));
  const base = [':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'www.example.com'];
  assert.deepEqual(read('828684418cf1e3c2e5f23a6ba0ab90f4ff'), base);
  assert.deepEqual(read('828684be5886a8eb10649cbf'), [...base, 'cache-control', 'no-cache']);
  assert.deepEqual(read('828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf'), [
    ...[':method', 'GET', ':scheme', 'https', ':path', '/index.html', ':authority', 'www.example.com'],
    ...['custom-key', 'custom-value'],
  ]);
});

test('encoder and decoder stay in step over many blocks and table sizes', () => {
  const name = fc.constantFrom(':path', 'accept', 'x-a', 'x-b', 'x-request-id', 'cookie', 'x-long', 'content-type');
  const value = fc.oneof(
    fc.constantFrom('1', 'two', 'x'.repeat(900), 'y'.repeat(3000)),
    fc.stringMatching(/^[!-~]{0,30}$/),
  );
  const block = fc.record({
    resize: fc.option(fc.constantFrom([0], [64], [4096], [0, 4096], [100, 50, 2000]), { nil: undefined }),
    fields: fc.array(fc.tuple(name, value), { maxLength: 12 }),
  });
  fc.assert(
    fc.property(fc.array(block, { maxLength: 40 }), (blocks) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder(limits);
      for (const { resize, fields } of blocks) {
        for (const size of resize ?? []) encoder.resize(size);
        const flat = fields.flat();
        const buf = Buffer.alloc(blockBytes(listBytes(flat)));
        const end = encoder.encode(flat, buf, 0);
        assert.ok(end <= buf.length);
        assert.deepEqual(fieldsOf(decoder, buf, end), flat);
      }
    }),
    { numRuns: 500 },
  );
});

test('secrets are never indexed, repeated fields take one byte, ids do not fill the table', () => {
  const encoder = new HpackEncoder();
  const buf = Buffer.alloc(4096);
  const size = (fields: string[]): number => encoder.encode(fields, buf, 0);
  encoder.encode(['authorization', 'secret'], buf, 0);
  assert.equal(buf[0] & 0xf0, 0x10);
  size(['x-thing', 'value']);
  assert.equal(size(['x-thing', 'value']), 1);
  for (let i = 0; i < 1000; i++) size(['x-request-id', `id-${i}`, ':path', `/p/${i}`, 'content-length', `${i}`]);
  assert.equal(size(['x-thing', 'value']), 1);
});

test('a head never carries CR, LF or NUL out, whatever is in it', () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder(limits);
  const fields = ['x-a', 'a\r\nb\0\u010ac'];
  const buf = Buffer.alloc(blockBytes(listBytes(fields)));
  assert.deepEqual(fieldsOf(decoder, buf, encoder.encode(fields, buf, 0)), ['x-a', 'a??b??c']);
});

test('random bytes never throw', () => {
  const decoder = new HpackDecoder(limits);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const code = decoder.decode(Buffer.from(bytes), 0, bytes.length, []);
      assert.ok(code >= 0 && code <= 3);
    }),
    { numRuns: 5000 },
  );
});

test('limits: too large keeps the table in step, four times too large stops', () => {
  const decoder = new HpackDecoder(limits);
  const insert = Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, 0x62)]);
  const read = (block: Buffer): number => decoder.decode(block, 0, block.length, []);
  assert.equal(read(insert), decoded.ok);
  assert.equal(read(Buffer.alloc(20, 0xbe)), decoded.tooLarge);
  assert.equal(read(Buffer.alloc(100_000, 0xbe)), decoded.abusive);
  assert.equal(read(Buffer.from([0xbe])), decoded.ok);
  assert.equal(read(Buffer.from([0x3f, 0xe2, 0x1f])), decoded.broken, 'table above 4096');
});
