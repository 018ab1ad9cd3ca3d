/**
 * Responses over which two parsers could disagree. Each hides a second response (`X-Evil`), which must never become the
 * answer to another request.
 */
import { chunkedBodies, lengthLines, transferEncodingLines } from './smuggling-h1.ts';

export interface ResponseMutation {
  readonly name: string;
  /** latin1. */
  readonly bytes: string;
}

const EVIL = 'HTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil';

const response = (lines: string, body: string): string => `HTTP/1.1 200 OK\r\n${lines}\r\n\r\n${body}`;

function framings(): ResponseMutation[] {
  const all: ResponseMutation[] = [];
  for (const { name, line } of lengthLines()) {
    all.push({ name, bytes: response(line.replaceAll('{N}', '4'), `body${EVIL}`) });
  }
  for (const { name, line } of transferEncodingLines()) {
    all.push({ name: `${name}, alone`, bytes: response(line, `4\r\nbody\r\n0\r\n\r\n${EVIL}`) });
    all.push({
      name: `${name}, and a length`,
      bytes: response(`${line}\r\nContent-Length: 14`, `4\r\nbody\r\n0\r\n\r\n${EVIL}`),
    });
    all.push({
      name: `${name}, and a longer length`,
      bytes: response(`Content-Length: ${EVIL.length + 5}\r\n${line}`, `0\r\n\r\n${EVIL}`),
    });
  }
  for (const { name, body } of chunkedBodies()) {
    all.push({ name, bytes: response('Transfer-Encoding: chunked', body(EVIL)) });
    all.push({ name: `${name}, more behind`, bytes: response('Transfer-Encoding: chunked', body('data') + EVIL) });
  }
  return all;
}

/** {E} the hidden response. */
const WHOLE = [
  '{E}{E}',
  'HTTP/1.1 200 OK\r\n\r\n{E}',
  'HTTP/1.1 204 No Content\r\n\r\n{E}',
  'HTTP/1.1 204 No Content\r\nContent-Length: 60\r\n\r\n{E}',
  'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{E}',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n{E}',
  'HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{E}',
  'HTTP/1.1 205 Reset Content\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n{E}',
  'HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n{E}',
  'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n{E}',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 100 Continue\r\nContent-Length: 60\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{E}',
  'HTTP/1.1 101 Switching Protocols\r\n\r\n{E}',
  'HTTP/1.1 199 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 +200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1\t200\tOK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/2 200\r\nContent-Length: 0\r\n\r\n{E}',
  'http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'ICY 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  '\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  '\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  ' HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  '\0HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n{E}',
  'rubbish\r\n{E}',
  'rubbish\r\n\r\n{E}',
  'HTTP/1.1 200 OK\nContent-Length: 0\n\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\n\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n{E}',
  'HTTP/1.1 200 OK\r\nContent-Length: 0\r\r{E}',
  'HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nX: a\nX-Evil: 1\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\n: empty\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\n:status: 201\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nX y: z\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 4\r\n\r\nbody{E}',
  'HTTP/1.1 200 OK\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 60\r\n\r\n{E}',
  'HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n{E}',
  'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n{E}',
];

export function responseMutations(): ResponseMutation[] {
  const whole = WHOLE.map((text) => ({
    name: `response ${JSON.stringify(text)}`,
    bytes: text.replaceAll('{E}', EVIL),
  }));
  return [...framings(), ...whole];
}
