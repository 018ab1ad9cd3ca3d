/**
 * Messages over which two parsers could disagree, made from rules of our own. Each hides a request for `denied` (which
 * the policy forbids) where a body, a header or rubbish should be; the suite sends a request for `canary` behind it.
 */

export interface Paths {
  readonly main: string;
  readonly denied: string;
  readonly canary: string;
}

export interface Mutation {
  readonly name: string;
  /** The bytes, latin1, without the canary. */
  build(p: Paths): string;
}

const hidden = (p: Paths): string => `GET ${p.denied} HTTP/1.1\r\nHost: app\r\n\r\n`;
const chunk = (data: string): string => `${data.length.toString(16)}\r\n${data}\r\n`;
const post = (p: Paths, lines: string, body: string): string =>
  `POST ${p.main} HTTP/1.1\r\nHost: app\r\n${lines}\r\n\r\n${body}`;

/** Bytes that parsers skip, fold or end a line at. */
const ODD = [
  ...Array.from({ length: 33 }, (_, i) => i),
  ...[0x22, 0x27, 0x2c, 0x2f, 0x3a, 0x3b, 0x3d, 0x5c, 0x5f, 0x7f, 0x80, 0x85, 0xa0, 0xad, 0xff],
];
const named = (byte: number): string => `0x${byte.toString(16).padStart(2, '0')}`;

/** The same wrong framing fields with the three bodies that tell who believed which of them. */
function threeBodies(name: string, te: string): Mutation[] {
  return [
    {
      name: `${name}, length longer`,
      build: (p) => {
        const body = `0\r\n\r\n${hidden(p)}`;
        return post(p, `Content-Length: ${body.length}\r\n${te}`, body);
      },
    },
    {
      name: `${name}, length shorter`,
      build: (p) => {
        const first = `${hidden(p).length.toString(16)}\r\n`;
        return post(p, `${te}\r\nContent-Length: ${first.length}`, `${chunk(hidden(p))}0\r\n\r\n`);
      },
    },
    { name: `${name}, alone`, build: (p) => post(p, te, `${chunk(hidden(p))}0\r\n\r\n`) },
  ];
}

const TRANSFER_ENCODINGS = [
  'Transfer-Encoding: chunked',
  'TRANSFER-ENCODING: CHUNKED',
  'transfer-encoding: cHuNkEd',
  'Transfer-Encoding : chunked',
  'Transfer-Encoding\t: chunked',
  ' Transfer-Encoding: chunked',
  '\tTransfer-Encoding: chunked',
  'Transfer-Encoding:chunked',
  'Transfer-Encoding:\tchunked\t',
  'Transfer-Encoding:\r\n chunked',
  'Transfer-Encoding:\r\n\tchunked',
  'Transfer-Encoding:\n chunked',
  'Transfer-Encoding: chunked\r\n ,identity',
  'Transfer-Encoding: chunked, identity',
  'Transfer-Encoding: identity, chunked',
  'Transfer-Encoding: identity',
  'Transfer-Encoding: chunked, chunked',
  'Transfer-Encoding: gzip, chunked',
  'Transfer-Encoding: chunked, gzip',
  'Transfer-Encoding: gzip',
  'Transfer-Encoding: x-chunked',
  'Transfer-Encoding: xchunked',
  'Transfer-Encoding: chunkedx',
  'Transfer-Encoding: chunk',
  'Transfer-Encoding: chunked;q=1',
  'Transfer-Encoding: chunked ; a=b',
  'Transfer-Encoding: "chunked"',
  "Transfer-Encoding: 'chunked'",
  'Transfer-Encoding: chunked,',
  'Transfer-Encoding: ,chunked',
  'Transfer-Encoding: , chunked ,',
  'Transfer-Encoding: (comment) chunked',
  'Transfer-Encoding:',
  'Transfer-Encoding: ',
  'Transfer-Encoding',
  'Transfer-Encoding=chunked',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
  'Transfer-Encoding: identity\r\nTransfer-Encoding: chunked',
  'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
  'Transfer-Encoding: x\r\ntransfer-encoding: chunked',
  'Transfer_Encoding: chunked',
  'Transfer Encoding: chunked',
  'TransferEncoding: chunked',
  'Transfer--Encoding: chunked',
  'Transfer-Encoding:: chunked',
  ': chunked\r\nTransfer-Encoding: chunked',
  'Content-Encoding: chunked',
  'TE: chunked',
  'TE: trailers, chunked',
  'X-Transfer-Encoding: chunked',
  'X: y\nTransfer-Encoding: chunked',
  'X: y\rTransfer-Encoding: chunked',
  'X: y\r\rTransfer-Encoding: chunked',
  'X: y\n\rTransfer-Encoding: chunked',
  'X: y\r\n\x00Transfer-Encoding: chunked',
  'X: y\r\n Transfer-Encoding: chunked',
  'Connection: transfer-encoding\r\nTransfer-Encoding: chunked',
  'Connection: content-length\r\nTransfer-Encoding: chunked',
  'Connection: close, content-length',
  'Upgrade: chunked\r\nConnection: upgrade\r\nTransfer-Encoding: chunked',
  '__proto__: x\r\nTransfer-Encoding: chunked',
];

/** One framing field, possibly wrong, as a line of a head. */
export interface FramingLine {
  readonly name: string;
  readonly line: string;
}

/** Transfer-Encoding as it may be misread, for requests and responses. */
export function transferEncodingLines(): FramingLine[] {
  const all = TRANSFER_ENCODINGS.map((line) => ({ name: `TE ${JSON.stringify(line)}`, line }));
  for (const byte of ODD) {
    const c = String.fromCharCode(byte);
    const places: [string, string][] = [
      ['before the name', `${c}Transfer-Encoding: chunked`],
      ['inside the name', `Transfer-${c}Encoding: chunked`],
      ['before the colon', `Transfer-Encoding${c}: chunked`],
      ['before the value', `Transfer-Encoding: ${c}chunked`],
      ['inside the value', `Transfer-Encoding: chun${c}ked`],
      ['behind the value', `Transfer-Encoding: chunked${c}`],
    ];
    for (const [place, line] of places) all.push({ name: `TE ${named(byte)} ${place}`, line });
  }
  return all;
}

/** Content-Length fields; {N} is the length of the body, which is the hidden request. */
const LENGTHS = [
  'Content-Length: {N}',
  'Content-Length: 0',
  'Content-Length: +{N}',
  'Content-Length: -{N}',
  'Content-Length: -1',
  'Content-Length: 0{N}',
  'Content-Length: 00000000000000000000{N}',
  'Content-Length: 0x{N}',
  'Content-Length: {N}.0',
  'Content-Length: {N}e0',
  'Content-Length: {N},{N}',
  'Content-Length: {N}, {N}',
  'Content-Length: {N}, 0',
  'Content-Length: 0, {N}',
  'Content-Length: {N} {N}',
  'Content-Length: 0 {N}',
  'Content-Length: {N};',
  'Content-Length: "{N}"',
  'Content-Length: 1_0',
  'Content-Length:',
  'Content-Length: ',
  'Content-Length',
  'Content-Length: abc',
  'Content-Length: NaN',
  'Content-Length: Infinity',
  'Content-Length: 9007199254740993',
  'Content-Length: 4294967296',
  'Content-Length: 18446744073709551616',
  'Content-Length: 18446744073709551615',
  'Content-Length: 99999999999999999999999999',
  'Content-Length : {N}',
  'Content-Length\t: {N}',
  ' Content-Length: {N}',
  'Content-Length:\r\n {N}',
  'Content-Length:\n {N}',
  'Content-Length: {N}\r\nContent-Length: {N}',
  'Content-Length: {N}\r\nContent-Length: 0',
  'Content-Length: 0\r\nContent-Length: {N}',
  'Content-Length: {N}\r\ncontent-length: 0',
  'Content-Length: 0\r\nContent_Length: {N}',
  'Content_Length: {N}',
  'Content-Length: {N}\r\nContent_Length: 0',
  'Content Length: {N}',
  'Content-Length;: {N}',
  'X: y\nContent-Length: {N}',
  'X: y\rContent-Length: {N}',
  'X: y\r\n Content-Length: {N}',
  'X-Content-Length: {N}',
  'Connection: content-length\r\nContent-Length: {N}',
  'Connection: close, Content-Length\r\nContent-Length: {N}',
  'Connection: x-y\r\nX-Y: 1\r\nContent-Length: {N}',
  'Expect: 100-continue\r\nContent-Length: {N}',
  'Expect: 100-Continue, x\r\nContent-Length: {N}',
  'Expect: x\r\nContent-Length: {N}',
  'Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: {N}',
  ' Expect: 100-continue\r\nContent-Length: {N}',
];

/** Content-Length likewise; `{N}` stands for the true length. */
export function lengthLines(): FramingLine[] {
  const all = LENGTHS.map((line) => ({ name: `CL ${JSON.stringify(line)}`, line }));
  for (const byte of ODD) {
    const c = String.fromCharCode(byte);
    all.push(
      { name: `CL ${named(byte)} before the name`, line: `${c}Content-Length: {N}` },
      { name: `CL ${named(byte)} before the colon`, line: `Content-Length${c}: {N}` },
      { name: `CL ${named(byte)} before the value`, line: `Content-Length: ${c}{N}` },
      { name: `CL ${named(byte)} behind the value`, line: `Content-Length: {N}${c}` },
    );
  }
  return all;
}

function lengths(): Mutation[] {
  return lengthLines().flatMap(({ name, line }) => {
    const lineFor = (p: Paths): string => line.replaceAll('{N}', `${hidden(p).length}`);
    return [
      { name: `POST ${name}`, build: (p: Paths) => post(p, lineFor(p), hidden(p)) },
      {
        name: `GET ${name}`,
        build: (p: Paths) => `GET ${p.main} HTTP/1.1\r\nHost: app\r\n${lineFor(p)}\r\n\r\n${hidden(p)}`,
      },
    ];
  });
}

/** Chunked bodies: {N} is the size of the data in hexadecimal, {D} the data (the hidden request). */
const CHUNKED = [
  '{N}\r\n{D}\r\n0\r\n\r\n',
  '0{N}\r\n{D}\r\n0\r\n\r\n',
  '00000000000000000{N}\r\n{D}\r\n0\r\n\r\n',
  '0x{N}\r\n{D}\r\n0\r\n\r\n',
  '+{N}\r\n{D}\r\n0\r\n\r\n',
  '-{N}\r\n{D}\r\n0\r\n\r\n',
  ' {N}\r\n{D}\r\n0\r\n\r\n',
  '{N} \r\n{D}\r\n0\r\n\r\n',
  '{N}\t\r\n{D}\r\n0\r\n\r\n',
  '{N}_0\r\n{D}\r\n0\r\n\r\n',
  '1000000000000000{N}\r\n{D}\r\n0\r\n\r\n',
  '10000000000000000{N}\r\n{D}\r\n0\r\n\r\n',
  'FFFFFFFFFFFFFFFF\r\n{D}\r\n0\r\n\r\n',
  '7FFFFFFFFFFFFFFF\r\n{D}\r\n0\r\n\r\n',
  '-1\r\n{D}\r\n0\r\n\r\n',
  '\r\n{D}\r\n0\r\n\r\n',
  ';\r\n{D}\r\n0\r\n\r\n',
  'g\r\n{D}\r\n0\r\n\r\n',
  '{N}\n{D}\n0\n\n',
  '{N}\n{D}\r\n0\r\n\r\n',
  '{N}\r\n{D}\n0\r\n\r\n',
  '{N}\r{D}\r0\r\r',
  '{N}\r\r\n{D}\r\n0\r\n\r\n',
  '{N}\r\n{D}0\r\n\r\n',
  '{N}\r\n{D}XX0\r\n\r\n',
  '{N}\r\n{D}\r\r\n0\r\n\r\n',
  '{N}\r\n{D}\n\r0\r\n\r\n',
  '{N}\r\n{D}\r\n\r\n0\r\n\r\n',
  '{N};a\r\n{D}\r\n0\r\n\r\n',
  '{N};a=b\r\n{D}\r\n0\r\n\r\n',
  '{N};a="b c"\r\n{D}\r\n0\r\n\r\n',
  '{N};a="\r\n{D}\r\n0\r\n\r\n"\r\n',
  '{N};a=\n{D}\r\n0\r\n\r\n',
  '{N};a=b\rX\r\n{D}\r\n0\r\n\r\n',
  '{N};\x00\r\n{D}\r\n0\r\n\r\n',
  '{N} ;a\r\n{D}\r\n0\r\n\r\n',
  '{N},{N}\r\n{D}\r\n0\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\n',
  '{N}\r\n{D}\r\n0\n\r\n',
  '{N}\r\n{D}\r\n0\r\n\n',
  '{N}\r\n{D}\r\n0\n\n',
  '{N}\r\n{D}\r\n0\r\r\n\r\n',
  '{N}\r\n{D}\r\n00\r\n\r\n',
  '{N}\r\n{D}\r\n000000000000000000\r\n\r\n',
  '{N}\r\n{D}\r\n-0\r\n\r\n',
  '{N}\r\n{D}\r\n0x0\r\n\r\n',
  '{N}\r\n{D}\r\n0 \r\n\r\n',
  '{N}\r\n{D}\r\n0;x=y\r\n\r\n',
  '{N}\r\n{D}\r\n0;x\n\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\n\r\r\n',
  '{N}\r\n{D}\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX: y\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX: y\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX : y\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\n X: y\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX: y\r\n z\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\n: y\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX: \x00\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nContent-Length: 5\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nTransfer-Encoding: identity\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nHost: evil\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nConnection: close\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nContent-Length: x\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX-Weft-Port: 1\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX-Forwarded-Client-Cert: x\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nAuthorization: x\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nGET /denied HTTP/1.1\r\n\r\n',
  '{N}\r\n{D}\r\n0\r\nX: y\r\n{D}',
  '0\r\n\r\n{D}',
  '0\r\nX: {D}\r\n\r\n',
  '0\n\n{D}',
  '0{D}',
  '{D}0\r\n\r\n',
  '0\r\n\r\n0\r\n\r\n{D}',
];

/** A chunked body with `data` in it. */
export interface ChunkedBody {
  readonly name: string;
  body(data: string): string;
}

export function chunkedBodies(): ChunkedBody[] {
  const bodies = CHUNKED.map((text) => ({ name: `chunked ${JSON.stringify(text)}`, text }));
  for (const byte of ODD) {
    const c = String.fromCharCode(byte);
    bodies.push(
      { name: `chunked, ${named(byte)} before the size`, text: `${c}{N}\r\n{D}\r\n0\r\n\r\n` },
      { name: `chunked, ${named(byte)} behind the size`, text: `{N}${c}\r\n{D}\r\n0\r\n\r\n` },
      { name: `chunked, ${named(byte)} behind the data`, text: `{N}\r\n{D}${c}\r\n0\r\n\r\n` },
      { name: `chunked, ${named(byte)} in the extension`, text: `{N};a${c}b\r\n{D}\r\n0\r\n\r\n` },
      { name: `chunked, ${named(byte)} behind the last size`, text: `{N}\r\n{D}\r\n0${c}\r\n\r\n` },
      { name: `chunked, ${named(byte)} in a trailer's name`, text: `{N}\r\n{D}\r\n0\r\nX${c}Y: z\r\n\r\n` },
    );
  }
  return bodies.map(({ name, text }) => ({
    name,
    body: (data) => text.replaceAll('{N}', data.length.toString(16)).replaceAll('{D}', data),
  }));
}

function chunkings(): Mutation[] {
  return chunkedBodies().map(({ name, body }) => ({
    name,
    build: (p) => post(p, 'Transfer-Encoding: chunked', body(hidden(p))),
  }));
}

/** Heads as a whole: {M} the path, {H} the hidden request. */
const HEADS = [
  'GET {M} HTTP/1.1\nHost: app\n\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\n\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\n\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\n\r\n{H}',
  'GET {M} HTTP/1.1\rHost: app\r\r{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\r{H}',
  'GET {M} HTTP/1.1\r\n\r\nHost: app\r\n\r\n',
  '\r\nGET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  '\r\n\r\nGET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  '\nGET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  '\rGET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  ' GET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  '\x00GET {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET  {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M}  HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M} HTTP/1.1 \r\nHost: app\r\n\r\n',
  'GET\t{M}\tHTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M}\x0bHTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M} x HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M} HTTP/1.1 HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M}\r\nHost: app\r\n\r\n',
  'GET {M} HTTP/0.9\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.0\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n{H}',
  'GET {M} HTTP/1.0\r\n\r\n{H}',
  'POST {M} HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}',
  'POST {M} HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}',
  'POST {M} HTTP/1.0\r\nHost: app\r\nConnection: keep-alive\r\n\r\n{H}',
  'GET {M} HTTP/1.2\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/2.0\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.10\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/01.1\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1,1\r\nHost: app\r\n\r\n{H}',
  'GET {M} http/1.1\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTPS/1.1\r\nHost: app\r\n\r\n{H}',
  'GET {M} ICAP/1.1\r\nHost: app\r\n\r\n{H}',
  'get {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'G\x00T {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET: {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  '{M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nHost: evil\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nhost: app\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app, evil\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app evil\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\x00evil\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: user@app\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app/x\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost:\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost : app\r\n\r\n',
  'GET {M} HTTP/1.1\r\n Host: app\r\n\r\n',
  'GET {M} HTTP/1.1\r\n\r\n',
  'GET http://app{M} HTTP/1.1\r\nHost: evil\r\n\r\n',
  'GET http://app\r\nX: {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET http://app:8080{M} HTTP/1.1\r\nHost: app\r\nHost: evil\r\n\r\n',
  'HEAD {M} HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello',
  'HEAD {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'DELETE {M} HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello',
  'OPTIONS * HTTP/1.1\r\nHost: app\r\nX-Id: {M}\r\n\r\n',
  'TRACE {M} HTTP/1.1\r\nHost: app\r\n\r\n{H}',
  'TRACE {M} HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello',
  'CONNECT app:8080 HTTP/1.1\r\nHost: app\r\n\r\n{H}',
  'CONNECT app:8080 HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello{H}',
  'CONNECT {M} HTTP/1.1\r\nHost: app\r\n\r\n{H}',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{H}',
  'PRI {M} HTTP/1.1\r\nHost: app\r\n\r\n',
  'POST {M} HTTP/1.1\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: H2C, websocket\r\nConnection: upgrade\r\nHTTP2-Settings: AAMAAABk\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: websocket, h2c\r\nConnection: upgrade\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: h2\r\nConnection: upgrade\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: HTTP/2.0\r\nConnection: upgrade\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: TLS/1.0\r\nConnection: upgrade\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 999\r\n\r\n{H}',
  'POST {M} HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello{H}',
  'POST {M} HTTP/1.1\r\nHost: app\r\nUpgrade: h2c\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nConnection: host\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nConnection: \x00\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nConnection: "close"\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nProxy-Connection: keep-alive\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nKeep-Alive: 300\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nno colon\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\n:\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\n: x\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\n:path: /x\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\n:method: POST\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX\r\n : y\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: y\r\n \r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: y\r\n\t\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: y\r\n \r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\n X: y\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\n\x00: y\r\nHost: app\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: a\x00b\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: a\rb\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: a\nb: c\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX: \r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX-Weft-Port: 9\r\nX-Weft-Source: x\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX_Weft_Port: 9\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nX-HTTP-Method-Override: DELETE\r\n\r\n{H}',
  'GET {M} HTTP/1.1\r\nHost: app\r\nTE: trailers\r\nTrailer: Content-Length\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nTrailer: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n',
  'GET {M} HTTP/1.1\r\nHost: app\r\nRange: bytes=0-0\r\nContent-Range: bytes 0-0/1\r\n\r\n{H}',
  'GET {M}?{H} HTTP/1.1\r\nHost: app\r\n\r\n',
  'GET {M}#{H} HTTP/1.1\r\nHost: app\r\n\r\n',
];

function heads(): Mutation[] {
  const all = HEADS.map((text) => ({ name: `head ${JSON.stringify(text)}`, text }));
  for (const byte of ODD) {
    const c = String.fromCharCode(byte);
    all.push(
      { name: `head, ${named(byte)} behind the method`, text: `GET${c} {M} HTTP/1.1\r\nHost: app\r\n\r\n{H}` },
      { name: `head, ${named(byte)} behind the target`, text: `GET {M}${c} HTTP/1.1\r\nHost: app\r\n\r\n{H}` },
      { name: `head, ${named(byte)} behind the version`, text: `GET {M} HTTP/1.1${c}\r\nHost: app\r\n\r\n{H}` },
      { name: `head, ${named(byte)} behind the host`, text: `GET {M} HTTP/1.1\r\nHost: app${c}\r\n\r\n{H}` },
      { name: `head, ${named(byte)} inside a name`, text: `GET {M} HTTP/1.1\r\nHost: app\r\nX${c}Y: z\r\n\r\n{H}` },
      {
        name: `head, ${named(byte)} at the end of a line`,
        text: `GET {M} HTTP/1.1\r\nHost: app\r\nX: y${c}\r\n\r\n{H}`,
      },
      { name: `head, ${named(byte)} for the line's end`, text: `GET {M} HTTP/1.1\r\nHost: app${c}X: y\r\n\r\n{H}` },
      { name: `head, ${named(byte)} in the empty line`, text: `GET {M} HTTP/1.1\r\nHost: app\r\n${c}\r\n{H}` },
    );
  }
  return all.map(({ name, text }) => ({
    name,
    build: (p) => text.replaceAll('{M}', p.main).replaceAll('{H}', hidden(p)),
  }));
}

export function h1Mutations(): Mutation[] {
  const encodings = transferEncodingLines().flatMap(({ name, line }) => threeBodies(name, line));
  return [...encodings, ...lengths(), ...chunkings(), ...heads()];
}
