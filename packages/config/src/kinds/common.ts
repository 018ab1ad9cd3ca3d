/** What the kinds share: checks of names, labels and matches, and what a kind is made of. */
import type { Labels, Resource } from '@weft/model';
import { RE2JS } from 're2js';
import type { ObjectSchema, Schema } from '../schema.ts';
import type { Tree } from '../yaml.ts';

/** What a schema has checked: plain data, of the shape that the schema says. */
// biome-ignore lint/suspicious/noExplicitAny: its type is the schema's, which TypeScript does not see
export type Plain = Record<string, any>;

/** Reports a problem of the resource at a field. */
export interface FieldReport {
  (code: string, message: string, field: string, severity?: 'error' | 'warning'): void;
  /** Whether something was reported of the field already. */
  broken(field: string): boolean;
}

/** What is wrong with a certificate and its key, or the names that it is for; none: not known. */
export type JudgedPair = { readonly names: readonly string[] } | { readonly error: string };

/** What a kind may ask about other than its own document. */
export interface KindContext {
  /** The mesh's domain, cluster.local. */
  readonly domain: string;
  /** Of the mesh that runs; undefined: none runs, or nobody asks. */
  readonly trustDomain: string | undefined;
  /** Whose policies hold for the whole mesh, istio-system. */
  readonly rootNamespace: string;
  /** `metadata.creationTimestamp`; empty where there is none. */
  readonly created: string;
  /** The text of a file named by a path relative to the document's; undefined where it is not among those given. */
  attachment(path: string): string | undefined;
  /** A certificate chain and key, both PEM. */
  judgePair(certificatePem: string, keyPem: string): JudgedPair;
}

type TreeMap = Extract<Tree, { kind: 'map' }>;

export interface Kind<T extends Resource> {
  readonly kind: string;
  /** What its resources are called, where several APIs have the name: `AuthorizationPolicy.policy.linkerd.io`. */
  readonly as?: string;
  readonly apiVersions: readonly string[];
  readonly spec: ObjectSchema | undefined;
  readonly specRequired: boolean;
  /** Fields beside metadata of a kind that has no spec. */
  readonly top?: Pick<ObjectSchema, 'fields' | 'unsupported'>;
  /** Documents need no name: it is this one then. */
  readonly defaultName?: string;
  /** Of several kinds of one name and version: which documents are its. */
  only?(name: string): boolean;
  /** Unfolds what a document holds as text, before its schema is looked at; `fail` is told what cannot be read. */
  expand?(tree: TreeMap, fail: (message: string, line: number, field: string) => void): TreeMap;
  /**
   * The checked `spec` (the whole document where the kind has `top`), as plain data; undefined members where something
   * was wrong (and was reported).
   */
  build(resource: Resource, spec: Plain, report: FieldReport, context: KindContext): T;
}

export const str: Schema = { t: 'string' };
export const bool: Schema = { t: 'bool' };
export const strings: Schema = { t: 'list', of: str, max: 1000 };
export const port: Schema = { t: 'int', min: 1, max: 65535 };
export const uint32: Schema = { t: 'int', min: 0, max: 4_294_967_295 };
export const percent: Schema = { t: 'number', min: 0, max: 100 };
export const nonEmpty: Schema = { t: 'string', check: (v) => (v === '' ? 'it may not be empty' : undefined) };

/** A DNS-1123 subdomain: what Kubernetes asks of names. */
export function checkName(value: string): string | undefined {
  if (value.length > 253 || !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(value)) {
    return 'a name has lower-case letters, digits, "-" and ".", and begins and ends with a letter or digit';
  }
  return undefined;
}

/** A DNS label, at most 63 characters: services and namespaces become labels of host names. */
export function checkLabelName(value: string): string | undefined {
  if (value.length > 63 || !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(value)) {
    return 'a name has lower-case letters, digits and "-", at most 63, and begins and ends with a letter or digit';
  }
  return undefined;
}

export const portName: Schema = { t: 'string', check: checkLabelName };

function checkLabelKey(key: string): string | undefined {
  const slash = key.indexOf('/');
  const name = slash < 0 ? key : key.slice(slash + 1);
  if (slash >= 0 && checkName(key.slice(0, slash)) !== undefined) return 'has a prefix that is no DNS name';
  if (name.length > 63 || !/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(name)) return 'is no label name';
  return undefined;
}

function checkLabelValue(value: string): string | undefined {
  if (value === '') return undefined;
  if (value.length > 63 || !/^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/.test(value)) {
    return 'a label value has at most 63 letters, digits, "-", "_" and "."';
  }
  return undefined;
}

export const labels: Schema = { t: 'map', of: { t: 'string', check: checkLabelValue }, checkKey: checkLabelKey };
export const annotations: Schema = { t: 'map', of: str, checkKey: checkLabelKey };

export const selector: ObjectSchema = {
  t: 'object',
  fields: { matchLabels: labels },
  unsupported: ['matchExpressions'],
};

/** Which namespaces may see a rule: "." its own, "*" all (the default), or names. */
export const exportTo: Schema = {
  t: 'list',
  max: 1000,
  of: {
    t: 'string',
    check: (v) =>
      v === '*' || v === '.' || checkLabelName(v) === undefined ? undefined : 'it may be ".", "*" or a namespace',
  },
};

export function labelsOf(value: unknown): Labels {
  return Object.freeze({ ...(value as Labels | undefined) });
}

/** PEM of a kind (`CERTIFICATE`, `… PRIVATE KEY`) by its shape; who can judge the contents does so later. */
export type PemKind = 'CERTIFICATE' | 'PRIVATE KEY' | 'X509 CRL';

export function hasPem(text: string, what: PemKind): boolean {
  return new RegExp(`-----BEGIN ([A-Z]+ )?${what}-----[\\s\\S]+-----END ([A-Z]+ )?${what}-----`).test(text);
}

/** A host name, perhaps with a first label of `*`. */
export function checkHost(value: string): string | undefined {
  const bare = value.startsWith('*.') ? value.slice(2) : value;
  return checkName(bare.toLowerCase()) === undefined ? undefined : 'it is no host name, nor "*." and a host name';
}

export function checkHeaderName(value: string): string | undefined {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}$/.test(value) ? undefined : 'is no header name';
}

export function checkHeaderValue(value: string): string | undefined {
  return /[\0\r\n]/.test(value) ? 'a header value has no line breaks' : undefined;
}

export function checkRegex(value: string): string | undefined {
  if (value.length > 1024) return 'a pattern has at most 1024 characters';
  try {
    RE2JS.compile(value);
    return undefined;
  } catch (e) {
    return `not an RE2 pattern (${e instanceof Error ? e.message : String(e)})`;
  }
}

export function checkIpBlock(value: string): string | undefined {
  const [ip, bits, more] = value.split('/');
  const v6 = ip.includes(':');
  const good = v6 ? isIpv6(ip) : isIpv4(ip);
  const prefix = bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (v6 ? 128 : 32));
  return good && prefix && more === undefined ? undefined : 'it is no IP address and no CIDR block';
}

export function isIpv4(ip: string): boolean {
  const parts = ip.split('.');
  return parts.length === 4 && parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) <= 255);
}

export function isIpv6(ip: string): boolean {
  const halves = ip.split('::');
  if (halves.length > 2) return false;
  let groups = 0;
  for (const [h, half] of halves.entries()) {
    if (half === '') continue;
    const parts = half.split(':');
    for (const [i, p] of parts.entries()) {
      const last = h === halves.length - 1 && i === parts.length - 1;
      if (last && p.includes('.')) {
        if (!isIpv4(p)) return false;
        groups += 2;
      } else if (/^[0-9a-fA-F]{1,4}$/.test(p)) groups++;
      else return false;
    }
  }
  return halves.length === 2 ? groups < 8 : groups === 8;
}
