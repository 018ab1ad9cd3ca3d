/** Another CA that serves IstioCertificateService: istiod, istio-csr. We ask in the name of the workload. */
import { ConnectError, createClient } from '@connectrpc/connect';
import { WeftError } from '@weft/base';
import { IstioCertificateService } from '@weft/plan';
import { createChannel } from '@weft/xds';
import { type ExternalConfig, readToken } from './config.ts';
import type { Ask } from './issuer.ts';

const TIMEOUT_MS = 10_000;

/**
 * The server must let who we are (the token, or the client certificate) ask for others: it is told for whom by
 * `ImpersonatedIdentity`, as by Istio's node proxies (CA_TRUSTED_NODE_ACCOUNTS).
 */
export function askIstio(config: ExternalConfig): Ask {
  const { address, serverCa, serverName, certPem, keyPem } = config;
  const plain = address.protocol === 'http:';
  const tls = {
    ca: serverCa,
    ...(certPem && keyPem ? { cert: certPem, key: keyPem } : {}),
    ...(serverName ? { servername: serverName } : {}),
  };
  return async (csrPem, spiffeId, ttlMs) => {
    const token = readToken(config);
    const channel = createChannel({
      host: address.hostname.replace(/^\[|\]$/g, ''),
      port: Number(address.port || (plain ? 80 : 443)),
      tls: plain ? undefined : tls,
    });
    try {
      const { certChain } = await createClient(IstioCertificateService, channel.transport).createCertificate(
        {
          csr: csrPem,
          validityDuration: BigInt(Math.ceil(ttlMs / 1000)),
          metadata: { ImpersonatedIdentity: spiffeId },
        },
        { timeoutMs: TIMEOUT_MS, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } },
      );
      return certChain.join('\n');
    } catch (cause) {
      const why = ConnectError.from(cause).message.slice(0, 500);
      throw new WeftError('control/external-ca', `the external CA gives no certificate: ${why}`, { cause });
    } finally {
      channel.close();
    }
  };
}
