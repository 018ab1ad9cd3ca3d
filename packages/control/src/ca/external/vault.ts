/** HashiCorp's Vault as CA: `POST /v1/<mount>/sign/<role>`. */
import { request as requestPlain } from 'node:http';
import { request as requestTls } from 'node:https';
import { WeftError } from '@weft/base';
import { type ExternalConfig, readToken } from './config.ts';
import type { Ask } from './issuer.ts';

const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 256 * 1024;

/** The role must allow the mesh's ids (`allowed_uri_sans`, `require_cn=false`) for servers and clients. */
export function askVault(config: ExternalConfig): Ask {
  const { address, mount, role, namespace } = config;
  const path = `${address.pathname.replace(/\/$/, '')}/v1/${mount}/sign/${role}`;
  return async (csrPem, spiffeId, ttlMs) => {
    const token = readToken(config);
    const body = JSON.stringify({
      csr: csrPem,
      // Of which Vault takes the one or the other by the role's use_csr_sans: both say the same.
      uri_sans: spiffeId,
      exclude_cn_from_sans: true,
      ttl: `${Math.ceil(ttlMs / 1000)}s`,
      format: 'pem',
    });
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'x-vault-request': 'true',
      ...(token === undefined ? {} : { 'x-vault-token': token }),
      ...(namespace === '' ? {} : { 'x-vault-namespace': namespace }),
    };
    const { status, text } = await post(config, path, headers, body);
    let answer: { data?: { certificate?: unknown; issuing_ca?: unknown; ca_chain?: unknown }; errors?: unknown };
    try {
      answer = JSON.parse(text) as typeof answer;
    } catch {
      throw failed(`status ${status}, and no JSON`);
    }
    if (status !== 200) {
      const said = Array.isArray(answer?.errors) ? answer.errors.join('; ') : '';
      throw failed(`status ${status}: ${said.slice(0, 500) || 'it does not say why'}`);
    }
    const { certificate, issuing_ca: issuing, ca_chain: chain } = answer?.data ?? {};
    const all = [certificate, ...(Array.isArray(chain) ? chain : []), issuing];
    if (typeof certificate !== 'string') throw failed('its answer has no data.certificate');
    return all.filter((pem) => typeof pem === 'string').join('\n');
  };
}

const failed = (why: string, cause?: unknown) =>
  new WeftError('control/external-ca', `Vault gives no certificate: ${why}`, { cause });

function post(
  { address, serverCa, serverName, certPem, keyPem }: ExternalConfig,
  path: string,
  headers: Record<string, string | number>,
  body: string,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const tls = {
      ca: serverCa,
      ...(certPem && keyPem ? { cert: certPem, key: keyPem } : {}),
      ...(serverName ? { servername: serverName } : {}),
    };
    const plain = address.protocol === 'http:';
    const options = {
      host: address.hostname.replace(/^\[|\]$/g, ''),
      port: address.port || (plain ? 80 : 443),
      method: 'POST',
      path,
      headers,
      agent: false as const,
      timeout: TIMEOUT_MS,
    };
    const request = plain ? requestPlain(options) : requestTls({ ...options, ...tls });
    const deadline = setTimeout(
      () => request.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)),
      TIMEOUT_MS,
    );
    request.on('close', () => clearTimeout(deadline));
    request.on('error', (cause) => reject(failed(cause.message, cause)));
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) request.destroy(new Error(`its answer has more than ${MAX_ANSWER_BYTES} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', (cause) => reject(failed(cause.message, cause)));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    });
    request.end(body);
  });
}
