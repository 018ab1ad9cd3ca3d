/** A SPIFFE Workload API that gives the control plane a CA's certificate and key: an intermediate of somebody else's root. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { connect } from 'node:net';
import { ConnectError, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { systemClock, WeftError } from '@weft/base';
import { issuerFromMemory } from '@weft/identity';
import { SpiffeWorkloadAPI, type X509SVID } from '@weft/plan';
import type { ExternalConfig } from './config.ts';
import type { Ask } from './issuer.ts';

const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 256 * 1024;

const failed = (why: string, cause?: unknown) =>
  new WeftError('control/external-ca', `the Workload API gives no CA: ${why}`, { cause });

/** Asks for each certificate anew, so that the key is in no file, and the one that holds now. */
export function askWorkloadApi({ address }: ExternalConfig, root: X509Certificate): Ask {
  const path = decodeURIComponent(address.pathname);
  return async (csrPem, spiffeId, ttlMs) => {
    const { x509Svid, x509SvidKey } = await firstSvid(path);
    let chainPem: string;
    let keyPem: string;
    try {
      const chain = certificatesOf(x509Svid);
      if (!chain[0]?.ca)
        throw failed(
          'its certificate may not sign others (CA:FALSE); the registration of the control plane must allow it',
        );
      chainPem = chain.map((c) => c.toString()).join('');
      const key = createPrivateKey({ key: Buffer.from(x509SvidKey), format: 'der', type: 'pkcs8' });
      keyPem = String(key.export({ type: 'pkcs8', format: 'pem' }));
    } catch (cause) {
      throw cause instanceof WeftError ? cause : failed('its certificate or key cannot be read', cause);
    }
    const issuer = await issuerFromMemory({ chainPem, keyPem, root }, 'the Workload API').catch((cause: Error) => {
      throw failed(cause.message, cause);
    });
    if (systemClock.wall() >= issuer.notAfterMs) throw failed('its certificate has ended');
    return (await issuer.sign(csrPem, spiffeId, ttlMs, systemClock)).chainPem;
  };
}

async function firstSvid(path: string): Promise<X509SVID> {
  const baseUrl = 'http://localhost';
  const sessionManager = new Http2SessionManager(baseUrl, undefined, { createConnection: () => connect(path) });
  const transport = createGrpcTransport({ baseUrl, sessionManager, readMaxBytes: MAX_ANSWER_BYTES });
  const client = createClient(SpiffeWorkloadAPI, transport);
  try {
    const options = { headers: { 'workload.spiffe.io': 'true' }, timeoutMs: TIMEOUT_MS };
    for await (const { svids } of client.fetchX509SVID({}, options)) {
      if (svids[0]) return svids[0];
      break;
    }
  } catch (cause) {
    throw failed(ConnectError.from(cause).message.slice(0, 500), cause);
  } finally {
    sessionManager.abort();
  }
  throw failed('it has no identity for the control plane');
}

/** Certificates in DER, one after the other. Throws where they are none. */
function certificatesOf(bytes: Uint8Array): X509Certificate[] {
  const all: X509Certificate[] = [];
  for (let at = 0; at < bytes.length && all.length < 10; ) {
    const end = at + lengthOf(bytes.subarray(at));
    all.push(new X509Certificate(bytes.subarray(at, end)));
    at = end;
  }
  return all;
}

/** Bytes of the SEQUENCE that begins here, its head included (X.690 8.1.3). */
function lengthOf(bytes: Uint8Array): number {
  const short = bytes[1] ?? 0;
  const more = short < 0x80 ? 0 : short & 0x7f;
  if (bytes[0] !== 0x30 || more > 3) throw new Error('not a certificate');
  let length = more === 0 ? short : 0;
  for (let i = 0; i < more; i++) length = length * 256 + (bytes[2 + i] ?? 0);
  const total = 2 + more + length;
  if (total > bytes.length) throw new Error('not a whole certificate');
  return total;
}
