/** Where a fault is written, and for which requests. */
import { WeftError } from '@weft/base';
import { type FaultScope, hasFaults, type SourceFile } from '@weft/config';
import {
  hostCovers,
  labelsMatch,
  MESH_GATEWAY,
  type Model,
  resolveHost,
  type ServiceModel,
  serviceHost,
  type VirtualServiceModel,
} from '@weft/model';
import { type FaultWrite, faultText } from './fault-text.ts';

export interface FaultWish {
  readonly id: string;
  /** `payment`, `shop/payment`, or a host. */
  readonly service: string;
  /** As Istio writes it: `2s`. */
  readonly delay?: string | undefined;
  /** A status, or the name of one of gRPC. */
  readonly abort?: string | undefined;
  readonly percent: number;
  /** `shop/cart` */
  readonly from?: string | undefined;
  readonly headers: readonly (readonly [string, string])[];
  readonly path?: string | undefined;
  /** When it ends, for who reads the file. */
  readonly until: string;
}

export interface FaultPlan {
  readonly service: string;
  /** In words. */
  readonly what: string;
  readonly file: string;
  /** Undefined: there is no such file. */
  readonly before: string | undefined;
  readonly after: string;
  readonly write: FaultWrite;
  /** What the mesh reads then. */
  readonly sources: readonly SourceFile[];
  /** What is worth to be said. */
  readonly notes: readonly string[];
}

/** `place`: where a file of this name would go. Throws `fault` where there is no place for it, with why. */
export function planFault(
  sources: readonly SourceFile[],
  model: Model,
  wish: FaultWish,
  place: (name: string) => string,
): FaultPlan {
  const service = serviceNamed(model, wish.service);
  const host = serviceHost(service, model.domain);
  const notes: string[] = [];
  const edit = {
    id: wish.id,
    fault: faultOf(wish),
    scope: scopeOf(model, wish, notes),
    comment: `weft fault ${wish.id}, until ${wish.until}`,
  };
  const rule = ruleOf(model, host);
  const own = `weft-fault-${service.external ? host : service.name}`;
  const target = rule
    ? { kind: 'VirtualService', namespace: rule.namespace, name: rule.name }
    : { kind: 'VirtualService', namespace: service.namespace, name: own };
  const file = rule ? rule.source.file : place(`${own}.${service.namespace}.yaml`);
  const source = sources.find((s) => s.path === file);
  const before = source?.text;
  if (!rule && before !== undefined) throw new WeftError('fault', `${file} exists and is not ours: move it away`);
  if (before !== undefined && hasFaults(before))
    notes.push(`${file} has other faults: where both hold, the newer one does`);
  const write: FaultWrite = { target, host: rule ? undefined : service.external ? host : service.name, edit };
  const after = faultText.add(before, write);
  const changed: SourceFile = { ...source, path: file, text: after };
  return {
    service: service.external ? host : `${service.namespace}/${service.name}`,
    what: wordsOf(wish),
    ...{ file, before, after, write, notes },
    sources: source ? sources.map((s) => (s === source ? changed : s)) : [...sources, changed],
  };
}

function serviceNamed(model: Model, name: string): ServiceModel {
  const of = (s: ServiceModel): string[] => [
    serviceHost(s, model.domain),
    ...(s.external ? [] : [s.name, `${s.namespace}/${s.name}`, `${s.name}.${s.namespace}`]),
  ];
  const found = model.services.filter((s) => of(s).includes(name));
  const all = model.services.map((s) => (s.external ? s.external.host : `${s.namespace}/${s.name}`)).sort();
  if (found.length === 0) throw new WeftError('fault', `no service "${name}"; there are: ${all.join(', ') || 'none'}`);
  if (found.length > 1)
    throw new WeftError(
      'fault',
      `"${name}" is in several namespaces: say one of ${found.map((s) => `${s.namespace}/${s.name}`).join(', ')}`,
    );
  const [service] = found as [ServiceModel];
  if (serviceHost(service, model.domain).includes('*')) throw new WeftError('fault', `${name} is no host of its own`);
  return service;
}

/** The VirtualService that has this host's routes for clients in the mesh. */
function ruleOf(model: Model, host: string): VirtualServiceModel | undefined {
  const rules = model.virtualServices.filter((vs) => vs.gateways.includes(MESH_GATEWAY));
  const hostsOf = (vs: VirtualServiceModel): string[] =>
    vs.hosts.map((h) => resolveHost(h, vs.namespace, model.domain));
  const rule = rules.find((vs) => hostsOf(vs).includes(host));
  const wide = rule ?? rules.find((vs) => hostsOf(vs).some((h) => hostCovers(h, host)));
  if (wide && (wide !== rule || wide.hosts.length > 1))
    throw new WeftError(
      'fault',
      `VirtualService ${wide.namespace}/${wide.name} (${wide.source.file}:${wide.source.line}) has the routes of ${wide.hosts.join(', ')}: a fault there would be for all of them; give ${host} a VirtualService of its own`,
    );
  return rule;
}

function faultOf({ delay, abort, percent }: FaultWish): Record<string, unknown> {
  if (delay === undefined && abort === undefined) throw new WeftError('usage', 'say --delay, --abort or both');
  const percentage = { value: percent };
  const status = /^\d+$/.test(abort ?? '') ? { httpStatus: Number(abort) } : { grpcStatus: abort };
  return {
    ...(delay !== undefined && { delay: { percentage, fixedDelay: delay } }),
    ...(abort !== undefined && { abort: { percentage, ...status } }),
  };
}

function scopeOf(model: Model, { from, headers, path }: FaultWish, notes: string[]): FaultScope {
  const lower = headers.map(([name, value]) => [name.toLowerCase(), value] as const);
  if (path !== undefined && !path.startsWith('/')) throw new WeftError('usage', '--path begins with /');
  if (from === undefined) return { headers: lower, path };
  const found = model.processes.filter((p) => p.name === from || `${p.namespace}/${p.name}` === from);
  const all = model.processes.map((p) => `${p.namespace}/${p.name}`).sort();
  if (found.length !== 1)
    throw new WeftError(
      'fault',
      `--from ${from}: ${found.length === 0 ? 'no such process' : 'say in which namespace'}; there are: ${all.join(', ')}`,
    );
  const [caller] = found as [(typeof found)[0]];
  const { namespace, labels } = caller;
  const alike = model.processes.filter(
    (p) => p !== caller && p.namespace === namespace && labelsMatch(labels, p.labels),
  );
  if (alike.length > 0)
    notes.push(
      `${alike.map((p) => `${p.namespace}/${p.name}`).join(', ')} has the labels of ${from}: it holds there too`,
    );
  return { headers: lower, path, source: { namespace, labels } };
}

function wordsOf({ delay, abort, percent, from, headers, path }: FaultWish): string {
  const what = [delay && `delay ${delay}`, abort && `abort ${abort}`].filter(Boolean).join(' and ');
  const to = [
    from && `from ${from}`,
    ...headers.map(([name, value]) => `${name.toLowerCase()}: ${value}`),
    path && `${path}…`,
  ].filter(Boolean);
  return `${what} for ${percent} %${to.length > 0 ? ` (${to.join(', ')})` : ''}`;
}
