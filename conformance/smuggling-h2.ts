/** The same over HTTP/2: what HTTP/1 would take for the end of a line, a second request or another length. */
import { flag, frame, frameType, headerBlock } from './raw.ts';
import type { Paths } from './smuggling-h1.ts';

export interface H2Mutation {
  readonly name: string;
  /** The frames of stream 1. */
  build(p: Paths): Buffer[];
}

type Field = [string, string];

const hidden = (p: Paths): string => `GET ${p.denied} HTTP/1.1\r\nHost: app\r\n\r\n`;
const head = (fields: readonly Field[], end: boolean): Buffer =>
  frame(frameType.headers, flag.endHeaders | (end ? flag.endStream : 0), 1, headerBlock(fields));
const data = (text: string, end = true): Buffer =>
  frame(frameType.data, end ? flag.endStream : 0, 1, Buffer.from(text, 'latin1'));
const trailers = (fields: readonly Field[]): Buffer => head(fields, true);

function pseudo(p: Paths, method = 'GET'): Field[] {
  return [
    [':method', method],
    [':scheme', 'http'],
    [':authority', 'app'],
    [':path', p.main],
  ];
}

/** What is put into a name or a value: {H} the hidden request. */
const INJECTED = [
  '\r\n\r\n{H}',
  '\r\n{H}',
  '\n\n{H}',
  '\r\r{H}',
  '\r\nX: y',
  '\nX: y',
  '\rX: y',
  '\r\nTransfer-Encoding: chunked\r\n',
  '\r\nContent-Length: 0\r\n\r\n{H}',
  '\0',
  '\0\r\n\r\n{H}',
  ' HTTP/1.1\r\nHost: app\r\n\r\n{H}',
  ' HTTP/1.1\nHost: app\n\n{H}',
  '\t',
  '\x0b',
  '\x7f',
  '\x85{H}',
  '\u00e5\u00a0\u00bd\u00e4\u00bc\u0085{H}',
];

/** Each field of a request with each of them behind, before and, as a name, inside it. */
function injections(): H2Mutation[] {
  const all: H2Mutation[] = [];
  for (const text of INJECTED) {
    const shown = JSON.stringify(text);
    for (const name of [':method', ':scheme', ':authority', ':path']) {
      const place = (p: Paths, change: (value: string) => string): Buffer[] => {
        const fields = pseudo(p).map(([n, v]): Field => [n, n === name ? change(v) : v]);
        return [head(fields, true)];
      };
      all.push({ name: `h2 ${name} + ${shown}`, build: (p) => place(p, (v) => v + text.replace('{H}', hidden(p))) });
      all.push({ name: `h2 ${shown} + ${name}`, build: (p) => place(p, (v) => text.replace('{H}', hidden(p)) + v) });
    }
    for (const name of ['x-field', 'host', 'cookie', 'content-type', 'te', 'content-length', 'user-agent']) {
      const value = name === 'content-length' ? '0' : name === 'te' ? 'trailers' : 'app';
      all.push({
        name: `h2 ${name}: value + ${shown}`,
        build: (p) => [head([...pseudo(p), [name, value + text.replace('{H}', hidden(p))]], true)],
      });
    }
    all.push({
      name: `h2 name + ${shown}`,
      build: (p) => [head([...pseudo(p), [`x${text.replace('{H}', hidden(p))}`, 'y']], true)],
    });
    all.push({
      name: `h2 trailer value + ${shown}`,
      build: (p) => [
        head(pseudo(p, 'POST'), false),
        data('body', false),
        trailers([['x-t', `y${text.replace('{H}', hidden(p))}`]]),
      ],
    });
    all.push({
      name: `h2 trailer name + ${shown}`,
      build: (p) => [
        head(pseudo(p, 'POST'), false),
        data('body', false),
        trailers([[`x${text.replace('{H}', hidden(p))}`, 'y']]),
      ],
    });
  }
  return all;
}

/** Fields that frame or route in HTTP/1, with a body that is the hidden request. */
const FRAMING: [string, string][] = [
  ['transfer-encoding', 'chunked'],
  ['transfer-encoding', 'identity'],
  ['Transfer-Encoding', 'chunked'],
  ['transfer-encoding ', 'chunked'],
  [' transfer-encoding', 'chunked'],
  ['transfer_encoding', 'chunked'],
  ['transfer-encoding:', 'chunked'],
  ['transfer-encoding: chunked\r\nx', 'y'],
  ['connection', 'transfer-encoding'],
  ['connection', 'content-length'],
  ['connection', 'close'],
  ['connection', 'upgrade'],
  ['upgrade', 'websocket'],
  ['upgrade', 'h2c'],
  ['http2-settings', 'AAMAAABk'],
  ['keep-alive', '1'],
  ['proxy-connection', 'keep-alive'],
  ['te', 'chunked'],
  ['te', 'trailers, chunked'],
  ['te', 'trailers'],
  ['trailer', 'transfer-encoding'],
  ['content-length', '0'],
  ['content-length', '1'],
  ['content-length', '1000'],
  ['content-length', '+5'],
  ['content-length', '-1'],
  ['content-length', '0x5'],
  ['content-length', '5,5'],
  ['content-length', ''],
  ['content-length', ' 5'],
  ['content-length', '5 '],
  ['content-length', '99999999999999999999'],
  ['content_length', '0'],
  ['Content-Length', '0'],
  ['expect', '100-continue'],
  ['expect', 'x'],
  ['host', 'evil'],
  ['host', 'app'],
  ['host', 'APP'],
  ['host', ''],
  ['Host', 'app'],
  ['x-weft-port', '9'],
  ['x-weft-source', 'x'],
  ['x_weft_port', '9'],
  [':path', '/denied'],
  [':method', 'POST'],
  [':authority', 'evil'],
  [':status', '200'],
  [':protocol', 'websocket'],
  [':unknown', 'x'],
  [':', 'x'],
  ['', 'x'],
  [' ', 'x'],
  ['x y', 'z'],
  ['x:y', 'z'],
  ['x', ' y'],
  ['x', 'y '],
  ['x', ''],
  ['X-Upper', 'y'],
  ['x"', 'y'],
  ['x\u00ff', 'y'],
  ['__proto__', 'y'],
];

function framings(): H2Mutation[] {
  const all: H2Mutation[] = [];
  for (const field of FRAMING) {
    const shown = field.map((t) => JSON.stringify(t)).join(': ');
    all.push(
      { name: `h2 ${shown}, body`, build: (p) => [head([...pseudo(p, 'POST'), field], false), data(hidden(p))] },
      {
        name: `h2 ${shown}, chunks`,
        build: (p) => [head([...pseudo(p, 'POST'), field], false), data(`0\r\n\r\n${hidden(p)}`)],
      },
      { name: `h2 ${shown}, no body`, build: (p) => [head([...pseudo(p), field], true)] },
      { name: `h2 ${shown} in front`, build: (p) => [head([field, ...pseudo(p)], true)] },
      {
        name: `h2 ${shown} in trailers`,
        build: (p) => [head(pseudo(p, 'POST'), false), data('body', false), trailers([field])],
      },
    );
  }
  return all;
}

/** Pseudo-headers replaced, left out, or written twice; {M} the path, {D} the forbidden one. */
const PSEUDO: [string, string | undefined][] = [
  [':method', undefined],
  [':method', ''],
  [':method', 'get'],
  [':method', 'GET {D} HTTP/1.1'],
  [':method', 'GET\t{D}'],
  [':method', 'CONNECT'],
  [':method', 'PRI'],
  [':method', 'HEAD'],
  [':method', 'TRACE'],
  [':method', 'GE:T'],
  [':scheme', undefined],
  [':scheme', ''],
  [':scheme', 'https'],
  [':scheme', 'http://evil/?'],
  [':scheme', 'ftp'],
  [':authority', undefined],
  [':authority', ''],
  [':authority', 'user@app'],
  [':authority', 'app/x'],
  [':authority', 'app evil'],
  [':authority', 'app, evil'],
  [':authority', 'app?x'],
  [':authority', 'app#x'],
  [':authority', 'app:80:80'],
  [':authority', 'app:x'],
  [':authority', '[::1'],
  [':authority', 'app\\evil'],
  [':path', undefined],
  [':path', ''],
  [':path', '*'],
  [':path', 'm'],
  [':path', '{M} {D}'],
  [':path', '{M} HTTP/1.1'],
  [':path', 'http://app{D}'],
  [':path', '//app{D}'],
  [':path', '{M}#{D}'],
  [':path', '{M}?{D}'],
  [':path', '{M}\t'],
  [':path', '{M}\u00ff'],
  [':path', '{M}/..{D}'],
  [':path', '{M}/%2e%2e{D}'],
  [':path', '{M}\\..{D}'],
];

function pseudos(): H2Mutation[] {
  const all: H2Mutation[] = [];
  for (const [name, given] of PSEUDO) {
    const value = (p: Paths): string => given!.replaceAll('{M}', p.main).replaceAll('{D}', p.denied);
    const shown = given === undefined ? 'absent' : JSON.stringify(given);
    all.push({
      name: `h2 ${name} ${shown}`,
      build: (p) => {
        const fields = pseudo(p).flatMap(([n, v]): Field[] =>
          n !== name ? [[n, v]] : given === undefined ? [] : [[n, value(p)]],
        );
        return [head(fields, true)];
      },
    });
    if (given === undefined) continue;
    all.push(
      { name: `h2 second ${name} ${shown}`, build: (p) => [head([...pseudo(p), [name, value(p)]], true)] },
      {
        name: `h2 ${name} ${shown} behind a field`,
        build: (p) => [head([...pseudo(p).filter(([n]) => n !== name), ['x', 'y'], [name, value(p)]], true)],
      },
    );
  }
  return all;
}

/** Lengths that DATA does not keep. */
function bodies(): H2Mutation[] {
  const withLength = (p: Paths, length: number, ...rest: Buffer[]): Buffer[] => [
    head([...pseudo(p, 'POST'), ['content-length', String(length)]], false),
    ...rest,
  ];
  return [
    { name: 'h2 length 0, hidden data', build: (p) => withLength(p, 0, data(hidden(p))) },
    { name: 'h2 length 4, hidden data behind', build: (p) => withLength(p, 4, data('body', false), data(hidden(p))) },
    { name: 'h2 length too long', build: (p) => withLength(p, 400, data(hidden(p))) },
    { name: 'h2 length without data', build: (p) => withLength(p, hidden(p).length, data('')) },
    {
      name: 'h2 length in trailers only',
      build: (p) => withLength(p, hidden(p).length, trailers([['x', 'y']])),
    },
    {
      name: 'h2 two lengths',
      build: (p) => [
        head([...pseudo(p, 'POST'), ['content-length', '0'], ['content-length', '37']], false),
        data(hidden(p)),
      ],
    },
    {
      name: 'h2 the same length twice',
      build: (p) => [
        head([...pseudo(p, 'POST'), ['content-length', '4'], ['content-length', '4']], false),
        data('body'),
      ],
    },
    { name: 'h2 GET with a body', build: (p) => [head(pseudo(p), false), data(hidden(p))] },
    { name: 'h2 HEAD with a body', build: (p) => [head(pseudo(p, 'HEAD'), false), data(hidden(p))] },
    {
      name: 'h2 data behind the end',
      build: (p) => [head(pseudo(p, 'POST'), false), data('body'), data(hidden(p))],
    },
    {
      name: 'h2 websocket by extended CONNECT',
      build: (p) => {
        const fields: Field[] = [[':method', 'CONNECT'], [':protocol', 'websocket'], ...pseudo(p).slice(1)];
        return [head(fields, false), data(hidden(p))];
      },
    },
    {
      name: 'h2 protocol with a line end',
      build: (p) => {
        const fields: Field[] = [[':method', 'CONNECT'], [':protocol', `x\r\n\r\n${hidden(p)}`], ...pseudo(p).slice(1)];
        return [head(fields, false), data(hidden(p))];
      },
    },
  ];
}

export function h2Mutations(): H2Mutation[] {
  return [...injections(), ...framings(), ...pseudos(), ...bodies()];
}
