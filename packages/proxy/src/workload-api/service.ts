/** The methods of the SPIFFE Workload API: what an attested application gets. */
import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { create, type JsonObject } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouter } from '@connectrpc/connect';
import {
  type Identity,
  isAudience,
  MAX_JWT_BYTES,
  parseCertificates,
  type TrustBundle,
  verifyJwtSvid,
} from '@weft/identity';
import {
  JWTBundlesResponseSchema,
  JWTSVIDResponseSchema,
  SpiffeWorkloadAPI,
  ValidateJWTSVIDResponseSchema,
  X509BundlesResponseSchema,
  X509SVIDResponseSchema,
} from '@weft/plan';
import type { ApplicationIdentity } from './application.ts';

/** How long the first certificate is waited for. */
const FIRST_MS = 10_000;

export interface WorkloadServiceOptions {
  identity: ApplicationIdentity;
  /** The workload's id; undefined before the proxy has its own certificate. */
  spiffeId(): string | undefined;
  /** Asks the CA for a token of the workload's id. */
  signJwt(audience: readonly string[]): Promise<string>;
  count(name: string): void;
}

const der = (certificates: readonly X509Certificate[]): Uint8Array<ArrayBuffer> =>
  new Uint8Array(Buffer.concat(certificates.map((c) => c.raw)));
const idOf = (trustDomain: string): string => `spiffe://${trustDomain}`;

function svidOf(identity: Identity) {
  const { bundle, trustDomain } = identity;
  const federatedBundles: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const domain of bundle.domains)
    if (domain !== trustDomain) federatedBundles[idOf(domain)] = der(bundle.rootsOf(domain));
  const key = createPrivateKey(identity.keyPem).export({ type: 'pkcs8', format: 'der' });
  const svid = {
    spiffeId: identity.spiffeId,
    x509Svid: der(parseCertificates(identity.chainPem)),
    x509SvidKey: new Uint8Array(key),
    bundle: der(bundle.rootsOf(trustDomain)),
  };
  return create(X509SVIDResponseSchema, { svids: [svid], federatedBundles });
}

function bundlesOf(bundle: TrustBundle) {
  const bundles: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const domain of bundle.domains) bundles[idOf(domain)] = der(bundle.rootsOf(domain));
  return create(X509BundlesResponseSchema, { bundles });
}

function jwtBundlesOf(bundle: TrustBundle) {
  const bundles: Record<string, Uint8Array<ArrayBuffer>> = {};
  for (const domain of bundle.domains) {
    const keys = bundle.jwtKeysOf(domain);
    if (keys !== '') bundles[idOf(domain)] = new Uint8Array(Buffer.from(keys));
  }
  return create(JWTBundlesResponseSchema, { bundles });
}

export function workloadRoutes(options: WorkloadServiceOptions): (router: ConnectRouter) => void {
  const { identity, count } = options;

  /** What `read` gives, now and after each change that changes it, until the caller leaves. */
  async function* updates<T>(read: () => T | undefined, signal: AbortSignal, firstMs: number): AsyncGenerator<T> {
    let wake: () => void = () => {};
    const off = identity.onChange(() => wake());
    const stop = () => wake();
    signal.addEventListener('abort', stop);
    let timer: NodeJS.Timeout | undefined;
    let late = false;
    try {
      let told: T | undefined;
      for (;;) {
        if (signal.aborted) return;
        const now = read();
        if (now !== undefined && now !== told) {
          clearTimeout(timer);
          told = now;
          yield now;
          continue; // What changed while this was sent.
        }
        if (told === undefined) {
          if (late) throw new ConnectError('there is no certificate yet: ask again', Code.Unavailable);
          timer ??= setTimeout(() => {
            late = true;
            wake();
          }, firstMs);
        }
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (signal.aborted) resolve();
        });
      }
    } finally {
      clearTimeout(timer);
      off();
      signal.removeEventListener('abort', stop);
    }
  }

  /** The workload's id, where it is not revoked. */
  const ownId = (): string => {
    const id = options.spiffeId();
    if (id === undefined) throw new ConnectError('the proxy has no certificate yet: ask again', Code.Unavailable);
    if (identity.trust?.bundle.revocations.refusesId(id))
      throw new ConnectError(`${id} is revoked`, Code.PermissionDenied);
    return id;
  };
  const trusted = (): TrustBundle => {
    const bundle = identity.trust?.bundle;
    if (!bundle) throw new ConnectError('the proxy has no plan yet: ask again', Code.Unavailable);
    return bundle;
  };

  return (router) => {
    router.service(SpiffeWorkloadAPI, {
      async *fetchX509SVID(_request, { signal }) {
        ownId();
        identity.want();
        const mine = () => {
          ownId();
          return identity.current;
        };
        for await (const now of updates(mine, signal, FIRST_MS)) {
          count('workload_api_x509_svids');
          yield svidOf(now);
        }
      },
      async *fetchX509Bundles(_request, { signal }) {
        for await (const bundle of updates(() => identity.trust?.bundle, signal, FIRST_MS)) yield bundlesOf(bundle);
      },
      async *fetchJWTBundles(_request, { signal }) {
        for await (const bundle of updates(() => identity.trust?.bundle, signal, FIRST_MS)) yield jwtBundlesOf(bundle);
      },
      async fetchJWTSVID({ audience, spiffeId }) {
        if (!isAudience(audience))
          throw new ConnectError('1 to 16 audiences of at most 512 bytes each are needed', Code.InvalidArgument);
        const own = ownId();
        if (spiffeId !== '' && spiffeId !== own)
          throw new ConnectError(`this workload is ${own}, and no other`, Code.PermissionDenied);
        const svid = await options.signJwt(audience).catch(() => {
          throw new ConnectError('the control plane gives no token now: ask again', Code.Unavailable);
        });
        count('workload_api_jwt_svids');
        return create(JWTSVIDResponseSchema, { svids: [{ spiffeId: own, svid }] });
      },
      async validateJWTSVID({ audience, svid }) {
        if (audience === '' || svid === '' || svid.length > MAX_JWT_BYTES)
          throw new ConnectError('an audience and a token are needed', Code.InvalidArgument);
        const result = await verifyJwtSvid(svid, audience, trusted());
        if ('error' in result) throw new ConnectError(result.error, Code.InvalidArgument);
        return create(ValidateJWTSVIDResponseSchema, {
          spiffeId: result.spiffeId,
          claims: result.claims as JsonObject,
        });
      },
    });
  };
}
