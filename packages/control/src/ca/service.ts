/** `weft.control.v1.CertificateService`, and the same for clients of Istio's CA: `istio.v1.auth.IstioCertificateService`. */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { type Logger, WeftError } from '@weft/base';
import {
  type Authority,
  isAudience,
  type JwtKeys,
  MAX_CERT_TTL_MS,
  parseCertificates,
  requestedKeyId,
  type SignedCertificate,
} from '@weft/identity';
import {
  CertificateService,
  IstioCertificateResponseSchema,
  IstioCertificateService,
  SignJwtResponseSchema,
  SignResponseSchema,
} from '@weft/plan';
import type { Hosts } from '../hosts/registry.ts';
import type { Mesh } from '../mesh.ts';
import { peerKey, peerOf } from '../peer.ts';
import type { Tokens } from './tokens.ts';
import type { MeshTrust } from './trust.ts';

/** Names as istiod's `citadel_server_*`. */
export interface CaCounters {
  csrs: number;
  issued: number;
  parseErrors: number;
  authenticationFailures: number;
  /** JSON Web Tokens that name a workload. */
  tokens: number;
  /** A CA that is somebody else's did not sign. */
  externalFailures: number;
}

export interface CaOptions {
  authority: Authority;
  jwtKeys: JwtKeys;
  tokens: Tokens;
  mesh: Mesh;
  hosts: Pick<Hosts, 'identityOf' | 'of' | 'isHosts' | 'certified'>;
  trust: MeshTrust;
  ttlMs: number;
  logger: Logger;
}

export class CertificateIssuer {
  readonly #options: CaOptions;
  readonly counters: CaCounters = {
    csrs: 0,
    issued: 0,
    parseErrors: 0,
    authenticationFailures: 0,
    tokens: 0,
    externalFailures: 0,
  };

  constructor(options: CaOptions) {
    this.#options = options;
  }

  routes(router: ConnectRouter): void {
    router.service(CertificateService, {
      sign: async ({ csrPem, token }, context) => {
        const { chainPem, rootPem } = await this.#issue(csrPem, token, this.#options.ttlMs, context);
        return create(SignResponseSchema, { chainPem, rootPem });
      },
      signJwt: async ({ audience }, context) => {
        const spiffeId = peerOf(context);
        if (!this.#options.mesh.hasIdentity(spiffeId))
          throw new ConnectError(`no token: ${spiffeId} has no instance in this mesh`, Code.PermissionDenied);
        if (!isAudience(audience))
          throw new ConnectError('no token: 1 to 16 audiences of at most 512 bytes each', Code.InvalidArgument);
        this.counters.tokens++;
        return create(SignJwtResponseSchema, { token: await this.#options.jwtKeys.sign(spiffeId, audience) });
      },
    });
    router.service(IstioCertificateService, {
      createCertificate: async ({ csr, validityDuration }, context) => {
        const { chainPem, rootPem } = await this.#issue(
          csr,
          bearerOf(context),
          this.#lifeOf(validityDuration),
          context,
        );
        const certChain = parseCertificates(chainPem + rootPem).map((c) => c.toString());
        return create(IstioCertificateResponseSchema, { certChain });
      },
    });
  }

  /** What was asked for, at most what this mesh gives; what no CA should be asked for is left for it to refuse. */
  #lifeOf(seconds: bigint): number {
    if (seconds === 0n) return this.#options.ttlMs;
    const ms = Number(seconds) * 1000;
    return ms > MAX_CERT_TTL_MS ? ms : Math.min(ms, this.#options.ttlMs);
  }

  async #issue(csrPem: string, token: string, ttlMs: number, context: HandlerContext): Promise<SignedCertificate> {
    const { authority, logger } = this.#options;
    this.counters.csrs++;
    try {
      const { spiffeId, before } = await this.#authenticate(csrPem, token, context);
      const signed = await authority.sign(csrPem, { spiffeId, ttlMs });
      if (this.#options.hosts.isHosts(spiffeId)) this.#options.hosts.certified(spiffeId, signed.serial, before);
      this.counters.issued++;
      logger.info(
        { spiffeId, serial: signed.serial, notAfter: new Date(signed.notAfterMs).toISOString() },
        'certificate issued',
      );
      return signed;
    } catch (error) {
      if (error instanceof WeftError && error.code === 'control/external-ca') {
        this.counters.externalFailures++;
        logger.error({ error: error.message }, 'no certificate could be issued');
        throw new ConnectError('the CA behind the control plane does not sign now', Code.Unavailable);
      }
      if (!(error instanceof WeftError) || !error.code.startsWith('identity/')) throw error;
      this.counters.parseErrors++;
      throw new ConnectError(error.message, Code.InvalidArgument);
    }
  }

  /** The caller's own id, and no other: by its token, else by the certificate of the connection, whose number is `before`. */
  async #authenticate(
    csrPem: string,
    shown: string,
    context: HandlerContext,
  ): Promise<{ spiffeId: string; before: string | undefined }> {
    const { tokens, mesh, hosts, trust, logger } = this.#options;
    const token = shown ? tokens.find(shown) : undefined;
    const revoked = token !== undefined && trust.current.bundle.revocations.refusesId(token.identity);
    if (token && !revoked) {
      const instance = mesh.instance(token.instance);
      const own = instance && mesh.identityOf(instance);
      // What hosts are called is no workload's, whatever its files say.
      const identity = own === undefined ? hosts.identityOf(token.instance) : hosts.isHosts(own) ? undefined : own;
      // A request that cannot be used spends no token.
      if (identity === token.identity && tokens.use(shown, await requestedKeyId(csrPem)))
        return { spiffeId: identity, before: undefined };
    }
    const peer = context.values.get(peerKey);
    // Without an instance of it left, an identity is not prolonged: its certificate ends by itself.
    const known = hosts.isHosts(peer.spiffeId) ? hosts.of(peer) !== undefined : mesh.hasIdentity(peer.spiffeId);
    if (peer.spiffeId !== '' && known) return { spiffeId: peer.spiffeId, before: peer.serial };
    this.counters.authenticationFailures++;
    const why = revoked
      ? `${token.identity} is revoked`
      : shown
        ? tokens.why(shown)
        : peer.reason || `${peer.spiffeId} has no instance in this mesh`;
    logger.warn({ reason: why, peer: peer.spiffeId }, 'a certificate was refused');
    throw new ConnectError(`no certificate: ${why}`, Code.Unauthenticated);
  }
}

/** The token of an `authorization: Bearer …` header; empty where there is none. */
function bearerOf(context: HandlerContext): string {
  const value = context.requestHeader.get('authorization') ?? '';
  return value.slice(0, 7).toLowerCase() === 'bearer ' ? value.slice(7).trim() : '';
}
