/** A SPIFFE Workload API that gives the control plane a CA's certificate and key: an intermediate of somebody else's root. */
import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { ConnectError, createClient } from '@connectrpc/connect';
import { systemClock, WeftError } from '@weft/base';
import { issuerFromMemory, parseDerCertificates } from '@weft/identity';
import { SpiffeWorkloadAPI, type X509SVID } from '@weft/plan';
import { unixChannel, WORKLOAD_HEADER } from '@weft/xds';
import type { ExternalConfig } from './config.ts';
import type { Ask } from './issuer.ts';

const TIMEOUT_MS = 10_000;

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
      const chain = parseDerCertificates(x509Svid);
      if (!chain[0]?.ca)
        throw failed(
          'its certificate may not sign others (CA:FALSE); the registration of the control plane must allow it',
        );
      chainPem = chain.map((c) => c.toString()).join('');
      const key = createPrivateKey({ key: Buffer.from(x509SvidKey), format: 'der', type: 'pkcs8' });
      keyPem = String(key.export({ type: 'pkcs8', format: 'pem' }));
    } catch (cause) {
      throw cause instanceof WeftError && cause.code === 'control/external-ca'
        ? cause
        : failed('its certificate or key cannot be read', cause);
    }
    const issuer = await issuerFromMemory({ chainPem, keyPem, root }, 'the Workload API').catch((cause: Error) => {
      throw failed(cause.message, cause);
    });
    if (systemClock.wall() >= issuer.notAfterMs) throw failed('its certificate has ended');
    return (await issuer.sign(csrPem, spiffeId, ttlMs, systemClock)).chainPem;
  };
}

async function firstSvid(path: string): Promise<X509SVID> {
  const channel = unixChannel(path);
  const client = createClient(SpiffeWorkloadAPI, channel.transport);
  try {
    const options = { headers: WORKLOAD_HEADER, timeoutMs: TIMEOUT_MS };
    for await (const { svids } of client.fetchX509SVID({}, options)) {
      if (svids[0]) return svids[0];
      break;
    }
  } catch (cause) {
    throw failed(ConnectError.from(cause).message.slice(0, 500), cause);
  } finally {
    channel.close();
  }
  throw failed('it has no identity for the control plane');
}
