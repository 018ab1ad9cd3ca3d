/** Istio's policies of who may call, and by what he is known. */
import type { PolicyTargetModel } from '../policy-targets.ts';
import type { Labels, Resource } from './resource.ts';

export type MtlsModeName = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';

export interface PeerAuthenticationModel extends Resource {
  /** `metadata.creationTimestamp`; empty where there is none. */
  readonly created: string;
  readonly selector: Labels | undefined;
  readonly mode: MtlsModeName;
  readonly portLevel: ReadonlyMap<number, MtlsModeName>;
}

export interface AuthorizationSourceModel {
  readonly principals: readonly string[];
  readonly notPrincipals: readonly string[];
  readonly namespaces: readonly string[];
  readonly notNamespaces: readonly string[];
  readonly ipBlocks: readonly string[];
  readonly notIpBlocks: readonly string[];
  readonly serviceAccounts: readonly string[];
  readonly notServiceAccounts: readonly string[];
  readonly trustDomains: readonly string[];
  readonly notTrustDomains: readonly string[];
  readonly remoteIpBlocks: readonly string[];
  readonly notRemoteIpBlocks: readonly string[];
  readonly requestPrincipals: readonly string[];
  readonly notRequestPrincipals: readonly string[];
}

export interface AuthorizationOperationModel {
  readonly hosts: readonly string[];
  readonly notHosts: readonly string[];
  readonly ports: readonly string[];
  readonly notPorts: readonly string[];
  readonly methods: readonly string[];
  readonly notMethods: readonly string[];
  readonly paths: readonly string[];
  readonly notPaths: readonly string[];
}

export interface AuthorizationRuleModel {
  readonly field: string;
  readonly from: readonly AuthorizationSourceModel[];
  readonly to: readonly AuthorizationOperationModel[];
  readonly when: readonly {
    readonly key: string;
    readonly values: readonly string[];
    readonly notValues: readonly string[];
  }[];
}

export interface AuthorizationPolicyModel extends Resource {
  readonly selector: Labels | undefined;
  readonly targets?: readonly PolicyTargetModel[];
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';
  /** Of CUSTOM: which of the mesh settings' extension providers decides; else ''. */
  readonly provider: string;
  readonly rules: readonly AuthorizationRuleModel[];
  readonly dryRun: boolean;
}

export interface TokenRuleModel {
  readonly field: string;
  readonly issuer: string;
  readonly audiences: readonly string[];
  /** JSON of the key set; empty: it is fetched (see keySourceOf). */
  readonly jwks: string;
  /** Where from; empty: where the issuer's OpenID configuration says. */
  readonly jwksUri: string;
  readonly fetchTimeoutMs: number;
  readonly headers: readonly { readonly name: string; readonly prefix: string }[];
  readonly params: readonly string[];
  readonly cookies: readonly string[];
  readonly forward: boolean;
  readonly payloadHeader: string;
  readonly claimHeaders: readonly { readonly header: string; readonly claim: readonly string[] }[];
  /** Claims whose texts are lists of words with blanks between them. */
  readonly wordClaims: readonly string[];
  /** By which intentions name it; left out: none does. */
  readonly provider?: string;
  /** Left out: a minute. */
  readonly clockSkewMs?: number;
}

export interface RequestAuthenticationModel extends Resource {
  readonly selector: Labels | undefined;
  readonly targets?: readonly PolicyTargetModel[];
  readonly rules: readonly TokenRuleModel[];
}
