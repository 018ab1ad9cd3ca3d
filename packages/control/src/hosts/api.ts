/**
 * What hosts ask on 15012, by their certificate: the same calls that a supervisor makes on the local API, of their own
 * instances alone.
 *
 *     GET    /v1/host                        → what to run, and where other machines are
 *     PUT    /v1/host                        {entrance: {host, port}, capture} → {}
 *     PUT    /v1/instances/{name}[?wait=ms]  → {settled}
 *     DELETE /v1/instances/{name}[?wait=ms]  → {settled}
 *     POST   /v1/drain/{name}[?wait=ms]      → {settled}
 *     POST   /v1/tokens                      {instance} → {token, identity, rootPem, trustDomain}
 *     GET    /v1/root                        → {rootPem, trustDomain}
 *
 * HTTP/2 with JSON. Errors: {code, message} with 400, 401, 403, 404 or 500.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { type Logger, WeftError } from '@weft/base';
import type { Tokens } from '../ca/tokens.ts';
import type { MeshTrust } from '../ca/trust.ts';
import type { Mesh } from '../mesh.ts';
import { NEEDED, type Peer } from '../peer.ts';
import type { Pusher } from '../push/pusher.ts';
import type { Hosts } from './registry.ts';

export const HOST_PREFIX = '/v1/';
const MAX_BODY_BYTES = 64 * 1024;
const MAX_WAIT_MS = 30_000;
const STREAM_MS = 40_000;

export interface HostApiOptions {
  hosts: Hosts;
  mesh: Mesh;
  pusher: Pusher;
  tokens: Tokens;
  trust: MeshTrust;
  logger: Logger;
}

export type HostHandler = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, peer: Peer | undefined) => void;

export function hostApi(o: HostApiOptions): HostHandler {
  return (stream, headers, peer) => {
    stream.on('error', () => {});
    if (stream.destroyed) return;
    stream.setTimeout(STREAM_MS, () => stream.destroy());
    const answer = (status: number, body: unknown): void => {
      if (stream.destroyed || stream.headersSent) return;
      stream.respond({ ':status': status, 'content-type': 'application/json' });
      stream.end(JSON.stringify(body));
    };
    if (!peer?.spiffeId) {
      // Before a byte of the message is looked at.
      answer(401, {
        code: 'control/unauthenticated',
        message: `${NEEDED}: ${peer?.reason ?? 'the connection is closed'}`,
      });
      return;
    }
    const host = o.hosts.of(peer);
    if (host === undefined) {
      o.hosts.counters.refused++;
      o.logger.warn({ peer: peer.spiffeId, serial: peer.serial }, 'somebody who is no host asked for what hosts may');
      answer(403, { code: 'control/no-host', message: `${peer.spiffeId} is no host of this mesh by this certificate` });
      return;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) {
        answer(400, { code: 'control/bad-request', message: `the body has more than ${MAX_BODY_BYTES} bytes` });
        stream.close();
      } else chunks.push(chunk);
    });
    stream.on('end', () => {
      if (bytes > MAX_BODY_BYTES) return;
      handle(o, host, peer.signers, headers, Buffer.concat(chunks).toString('utf8')).then(
        (body) => answer(200, body),
        (error) => {
          if (error instanceof WeftError) answer(400, { code: error.code, message: error.message });
          else {
            o.logger.error({ error: String(error), host }, 'a call of a host failed');
            answer(500, {
              code: 'control/internal',
              message: 'the call failed; the log of the control plane says why',
            });
          }
        },
      );
    });
  };
}

async function handle(
  o: HostApiOptions,
  host: string,
  signers: readonly string[],
  headers: IncomingHttpHeaders,
  text: string,
): Promise<unknown> {
  const { hosts, mesh } = o;
  const url = new URL(headers[':path'] ?? '/', 'http://host');
  const [, , what, encoded, ...rest] = url.pathname.split('/');
  const name = encoded === undefined ? '' : decode(encoded);
  const missing = new WeftError(
    'control/not-found',
    `${headers[':method']} ${url.pathname} is nothing that a host may ask`,
  );
  if (rest.length > 0) throw missing;
  hosts.seen(host, signers);
  const settled = async (fallbackMs: number): Promise<{ settled: boolean }> => {
    const wait = Number(url.searchParams.get('wait') ?? fallbackMs);
    if (!(wait >= 0 && wait <= MAX_WAIT_MS))
      throw new WeftError('control/bad-request', `wait must be 0 to ${MAX_WAIT_MS} milliseconds`);
    return { settled: wait === 0 ? false : await o.pusher.settled(wait) };
  };
  switch (`${headers[':method']} ${what}${name ? '/*' : ''}`) {
    case 'GET host':
      return hosts.facts(host);
    case 'PUT host':
      hosts.announce(host, objectOf(text));
      return {};
    case 'PUT instances/*':
      hosts.put(host, name, objectOf(text));
      return settled(0);
    case 'DELETE instances/*':
      mesh.deleteInstance(hosts.own(host, name).name);
      return settled(0);
    case 'POST drain/*':
      mesh.putInstance({ ...hosts.own(host, name), draining: true });
      return settled(1000);
    case 'POST tokens': {
      const { instance } = objectOf(text);
      const identity = mesh.identityOf(hosts.own(host, String(instance)));
      const { rootPem } = o.trust.current;
      return { token: o.tokens.create(String(instance), identity), identity, rootPem, trustDomain: mesh.trustDomain };
    }
    case 'GET root':
      return { rootPem: o.trust.current.rootPem, trustDomain: mesh.trustDomain };
    default:
      throw missing;
  }
}

function objectOf(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // As what is no object.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new WeftError('control/bad-request', 'the body must be a JSON object');
  return value as Record<string, unknown>;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new WeftError('control/bad-request', 'the name is no name: its percent escapes are broken');
  }
}
