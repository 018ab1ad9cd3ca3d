/** The own key and certificate from a SPIFFE Workload API that is somebody else's. */
import { createPrivateKey } from 'node:crypto';
import { ConnectError, createClient } from '@connectrpc/connect';
import { WeftError } from '@weft/base';
import { parseDerCertificates } from '@weft/identity';
import { SpiffeWorkloadAPI } from '@weft/plan';
import { unixChannel, WORKLOAD_HEADER } from '@weft/xds';

const TIMEOUT_MS = 10_000;

/** Of all identities that it gives this process, the one that it is here. Throws WeftError `identity/workload-api`. */
export async function askWorkloadApi(socket: string, spiffeId: string): Promise<{ keyPem: string; chainPem: string }> {
  const failed = (why: string, cause?: unknown) =>
    new WeftError('identity/workload-api', `the Workload API on ${socket} does not give ${spiffeId}: ${why}`, {
      cause,
    });
  const channel = unixChannel(socket);
  try {
    const options = { headers: WORKLOAD_HEADER, timeoutMs: TIMEOUT_MS };
    for await (const { svids } of createClient(SpiffeWorkloadAPI, channel.transport).fetchX509SVID({}, options)) {
      const own = svids.find((s) => s.spiffeId === spiffeId);
      if (!own) throw failed(`it gives ${svids.map((s) => s.spiffeId).join(', ') || 'none'}`);
      const key = createPrivateKey({ key: Buffer.from(own.x509SvidKey), format: 'der', type: 'pkcs8' });
      return {
        keyPem: String(key.export({ type: 'pkcs8', format: 'pem' })),
        chainPem: parseDerCertificates(own.x509Svid)
          .map((c) => c.toString())
          .join(''),
      };
    }
  } catch (cause) {
    throw cause instanceof WeftError ? cause : failed(ConnectError.from(cause).message.slice(0, 500), cause);
  } finally {
    channel.close();
  }
  throw failed('it gives none');
}
