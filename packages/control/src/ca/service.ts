/** `weft.control.v1.CertificateService`. */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from '@connectrpc/connect';
import { type Logger, WeftError } from '@weft/base';
import type { Authority } from '@weft/identity';
import { CertificateService, type SignRequest, type SignResponse, SignResponseSchema } from '@weft/plan';
import type { Mesh } from '../mesh.ts';
import { peerKey } from '../peer.ts';
import type { Tokens } from './tokens.ts';
import type { MeshTrust } from './trust.ts';

/** Names as istiod's `citadel_server_*`. */
export interface CaCounters {
  csrs: number;
  issued: number;
  parseErrors: number;
  authenticationFailures: number;
}

export interface CaOptions {
  authority: Authority;
  tokens: Tokens;
  mesh: Mesh;
  trust: MeshTrust;
  ttlMs: number;
  logger: Logger;
}

export class CertificateIssuer {
  readonly #options: CaOptions;
  readonly counters: CaCounters = { csrs: 0, issued: 0, parseErrors: 0, authenticationFailures: 0 };

  constructor(options: CaOptions) {
    this.#options = options;
  }

  routes(router: ConnectRouter): void {
    router.service(CertificateService, { sign: (request, context) => this.#sign(request, context) });
  }

  async #sign(request: SignRequest, context: HandlerContext): Promise<SignResponse> {
    const { authority, logger, ttlMs } = this.#options;
    this.counters.csrs++;
    const spiffeId = this.#authenticate(request, context);
    try {
      const signed = await authority.sign(request.csrPem, { spiffeId, ttlMs });
      this.counters.issued++;
      logger.info(
        { spiffeId, serial: signed.serial, notAfter: new Date(signed.notAfterMs).toISOString() },
        'certificate issued',
      );
      return create(SignResponseSchema, { chainPem: signed.chainPem, rootPem: signed.rootPem });
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      this.counters.parseErrors++;
      throw new ConnectError(error.message, Code.InvalidArgument);
    }
  }

  /** The caller's own id, and no other: by its token, else by the certificate of the connection. */
  #authenticate(request: SignRequest, context: HandlerContext): string {
    const { tokens, mesh, trust, logger } = this.#options;
    const token = request.token ? tokens.redeem(request.token) : undefined;
    const revoked = token !== undefined && trust.current.bundle.revocations.refusesId(token.identity);
    if (token && !revoked) {
      const instance = mesh.instance(token.instance);
      if (instance && mesh.identityOf(instance) === token.identity) return token.identity;
    }
    const peer = context.values.get(peerKey);
    // Without an instance of it left, an identity is not prolonged: its certificate ends by itself.
    if (peer.spiffeId !== '' && mesh.hasIdentity(peer.spiffeId)) return peer.spiffeId;
    this.counters.authenticationFailures++;
    const why = revoked
      ? `${token.identity} is revoked`
      : request.token
        ? 'the token is unknown, used or too old'
        : peer.reason || `${peer.spiffeId} has no instance in this mesh`;
    logger.warn({ reason: why, peer: peer.spiffeId }, 'a certificate was refused');
    throw new ConnectError(`no certificate: ${why}`, Code.Unauthenticated);
  }
}
