/** Model and runtime → the plan of one proxy. */
import { create } from '@bufbuild/protobuf';
import {
  CaptureMode,
  type Part,
  PartSchema,
  type Reference,
  type Self,
  SelfSchema,
  type Service,
  ServicePortSchema,
  ServiceSchema,
} from '@weft/plan';
import { authorizerHosts, compileAuthorization } from './authz.ts';
import { localityOf } from './balancing.ts';
import { type CaptureScope, captureAll, capturesOutbound } from './capture-scope.ts';
import { certificateTellers, forwardClientCertOf } from './client-certs.ts';
import { compileClusters } from './clusters.ts';
import { compileTcpRoutes, compileTlsRoutes } from './connection-routes.ts';
import { disclosedTo } from './disclosure.ts';
import { compileGateway } from './gateway.ts';
import { serviceHost } from './hosts.ts';
import { compileHttpRoutes } from './http-routes.ts';
import { compileInbound } from './inbound.ts';
import { canonicalName, canonicalRevision, label } from './labels.ts';
import { aliasesOf, callerLabels, processOf, servicesSelecting } from './lookup.ts';
import { meshConfigOf, tlsSettingsOf } from './mesh-config.ts';
import { planProtocol } from './protocols.ts';
import { RefTable } from './refs.ts';
import { egressPorts, servicesFor, sidecarFor } from './scope.ts';
import { tablesFor } from './tables.ts';
import { collectorHosts, tracingOf } from './tracing.ts';
import type { Model } from './types/model.ts';
import type { Instance, MeshRuntime } from './types/runtime.ts';
import type { ServiceModel } from './types/service.ts';

export interface Compiled {
  /** Resource name (`self`, `inbound/8080`, `authz`, `service/<host>`, `cluster/<name>`, `gateway/443`, …) → part. */
  readonly parts: Map<string, Part>;
  /** What every ref in the parts stands for. */
  readonly references: Reference[];
}

/** Everything the proxy of `instance` needs but endpoints (see compileEndpoints). The same input gives the same output. */
export function compile(model: Model, runtime: MeshRuntime, instance: Instance): Compiled {
  const own = compileOwn(model, runtime, instance);
  const shared = compileShared(model, runtime, instance);
  const references = new Map([...own.references, ...shared.references].map((r) => [r.ref, r]));
  return { parts: new Map([...own.parts, ...shared.parts]), references: [...references.values()] };
}

/** What this instance alone gets: who it is, what it accepts and from whom. */
export function compileOwn(model: Model, runtime: MeshRuntime, instance: Instance): Compiled {
  const refs = new RefTable(model);
  const parts = new Map<string, Part>();
  parts.set('self', part({ case: 'self', value: compileSelf(model, runtime, instance) }));
  const tls = tlsSettingsOf(model);
  if (tls) parts.set('tls', part({ case: 'tls', value: tls }));
  if (instance.gateway) {
    const { listeners, secrets } = compileGateway({ model, domain: runtime.domain, refs }, instance);
    for (const value of listeners) parts.set(`gateway/${value.port}`, part({ case: 'gateway', value }));
    for (const [name, value] of secrets) parts.set(name, part({ case: 'secret', value }));
  } else {
    for (const inbound of compileInbound(model, runtime, instance, refs)) {
      parts.set(`inbound/${inbound.port}`, part({ case: 'inbound', value: inbound }));
    }
  }
  const authorization = compileAuthorization(model, instance, refs, runtime.keySets, runtime.trustDomain);
  authorization.tables = tablesFor(model, instance, runtime.trustDomain, refs);
  parts.set('authz', part({ case: 'authorization', value: authorization }));
  return { parts, references: refs.list() };
}

/** What one service brings to the plan of a client. */
export interface ServicePiece extends Compiled {
  /** Hosts that its routes lead to. */
  readonly leadsTo: readonly string[];
}

/** What every client of one class gets (see clientClass): the services it may call, and their clusters. */
export function compileShared(model: Model, runtime: MeshRuntime, client: Instance): Compiled {
  const pieces = sharedPieces(
    model,
    client,
    (service) => compileTold(model, runtime, client, service),
    (service) => compileReached(model, runtime, client, service),
  );
  const references = new Map(pieces.flatMap((p) => p.references).map((r) => [r.ref, r]));
  return { parts: new Map(pieces.flatMap((p) => [...p.parts])), references: [...references.values()] };
}

/** The pieces of which compileShared's result consists; who has some from before may give those. */
export function sharedPieces<P extends Pick<ServicePiece, 'leadsTo'>>(
  model: Model,
  client: Instance,
  told: (service: ServiceModel) => P,
  clusters: (service: ServiceModel) => P,
): P[] {
  // A gateway routes by its Gateways' hosts alone, to the same clusters.
  const services = client.gateway ? [] : servicesFor(model, client);
  const pieces = services.map(told);
  const hostOf = (service: ServiceModel): string => serviceHost(service, model.domain);
  // Where its routes lead is needed, even if the client may not name it.
  const reached =
    client.gateway || services.length === model.services.length
      ? undefined
      : new Set([
          ...authorizerHosts(model),
          ...collectorHosts(model),
          ...services.map(hostOf),
          ...pieces.flatMap((p) => p.leadsTo),
        ]);
  for (const service of model.services) if (!reached || reached.has(hostOf(service))) pieces.push(clusters(service));
  return pieces;
}

/** A service as a client is told of it. Reads of VirtualServices those that cover its host, and their delegates. */
export function compileTold(model: Model, runtime: MeshRuntime, client: Instance, service: ServiceModel): ServicePiece {
  const refs = new RefTable(model);
  const value = compileService(model, runtime, client, service, refs);
  const leadsTo = new Set<string>();
  for (const p of value.ports) {
    for (const route of [...p.http, ...p.tcp, ...p.tls]) for (const c of route.clusters) leadsTo.add(hostOf(c.cluster));
    for (const route of p.http) for (const mirror of route.mirrors) leadsTo.add(hostOf(mirror.cluster));
  }
  const parts = new Map([[`service/${value.host}`, part({ case: 'service', value })]]);
  return { parts, references: refs.list(), leadsTo: [...leadsTo] };
}

/** The clusters of a service for a client. Reads of DestinationRules those that cover its host. */
export function compileReached(
  model: Model,
  runtime: MeshRuntime,
  client: Instance,
  service: ServiceModel,
): ServicePiece {
  const refs = new RefTable(model);
  const parts = new Map<string, Part>();
  for (const port of service.ports) {
    if (port.transport !== 'TCP') continue;
    for (const cluster of compileClusters({ model, domain: runtime.domain, refs }, client, service, port)) {
      parts.set(`cluster/${cluster.name}`, part({ case: 'cluster', value: cluster }));
    }
  }
  return { parts, references: refs.list(), leadsTo: [] };
}

/** `outbound|80|v1|pay.shop.svc.cluster.local` → its host. */
function hostOf(cluster: string): string {
  return cluster.slice(cluster.lastIndexOf('|') + 1);
}

/**
 * All that compileShared reads of a client, as a key: clients of one class get the same bytes. What it reads beyond that
 * must be added here: a plan in one class depends on nothing else of its client.
 */
export function clientClass(model: Model, runtime: MeshRuntime, client: Instance): string {
  const scope = captureModeOf(runtime, client) === 'transparent' ? captureOf(model, client) : captureAll;
  return JSON.stringify([
    client.gateway ? 'gateway' : '',
    client.namespace,
    localityOf(client.labels),
    scope === captureAll ? '' : scope,
    callerLabels(model).map((key) => label(client.labels, key) ?? null),
  ]);
}

function part(kind: Part['kind']): Part {
  return create(PartSchema, { kind });
}

function compileSelf(model: Model, runtime: MeshRuntime, i: Instance): Self {
  const process = processOf(model, i);
  const gateway = process?.gateway;
  const settings = meshConfigOf(model);
  return create(SelfSchema, {
    mesh: runtime.mesh,
    instance: i.name,
    workload: i.workload,
    namespace: i.namespace,
    serviceAccount: i.serviceAccount,
    trustDomain: runtime.trustDomain,
    address: i.address,
    labels: { ...i.labels },
    canonicalService: canonicalName(i),
    canonicalRevision: canonicalRevision(i),
    version: label(i.labels, 'version') ?? '',
    app: label(i.labels, 'app') ?? '',
    cluster: runtime.cluster ?? 'Kubernetes',
    capture: captureModeOf(runtime, i) === 'explicit' ? CaptureMode.EXPLICIT : CaptureMode.TRANSPARENT,
    registryOnly: sidecarFor(model, i)?.registryOnly ?? settings?.registryOnly ?? runtime.registryOnly ?? false,
    domain: runtime.domain,
    drainMs: process?.proxy?.drainMs ?? settings?.proxy.drainMs ?? runtime.drainMs ?? 5_000,
    locality: localityOf(i.labels),
    network: i.network ?? runtime.network ?? '',
    acceptHttp10: gateway?.acceptHttp10 ?? false,
    numTrustedProxies:
      gateway && (gateway.numTrustedProxies ?? process?.proxy?.numTrustedProxies ?? settings?.proxy.numTrustedProxies),
    proxyProtocol:
      gateway && (gateway.proxyProtocol ?? process?.proxy?.proxyProtocol ?? settings?.proxy.proxyProtocol ?? false),
    forwardClientCert: process && forwardClientCertOf(model, process),
    certificateTellers: i.gateway ? [] : certificateTellers(model, runtime.trustDomain),
    applicationRetries: settings?.applicationRetries,
    tracing: tracingOf(model, process?.proxy),
    ...disclosedTo(model, runtime, i),
    services: servicesSelecting(model, i).map((s) => serviceHost(s, runtime.domain)),
  });
}

function captureModeOf(runtime: MeshRuntime, i: Instance): MeshRuntime['capture'] {
  return i.capture ?? runtime.capture;
}

function captureOf(model: Model, i: Instance): CaptureScope {
  return processOf(model, i)?.capture ?? captureAll;
}

function compileService(
  model: Model,
  runtime: MeshRuntime,
  client: Instance,
  service: ServiceModel,
  refs: RefTable,
): Service {
  const host = serviceHost(service, runtime.domain);
  const { name, namespace } = service;
  const { external } = service;
  const aliases = external ? [] : [`${name}.${namespace}`, `${name}.${namespace}.svc`];
  if (namespace === client.namespace && !external) aliases.unshift(name);
  for (const other of aliasesOf(model).get(host) ?? []) {
    aliases.push(
      `${other.name}.${other.namespace}`,
      `${other.name}.${other.namespace}.svc`,
      serviceHost(other, runtime.domain),
    );
    if (other.namespace === client.namespace) aliases.push(other.name);
  }
  const vips = service.headless ? [] : (runtime.vips.get(host) ?? (service.clusterIP ? [service.clusterIP] : []));
  // A virtual address is nothing without capture: who is to reach a port past its proxy gets the workloads' own.
  const scope = captureModeOf(runtime, client) === 'transparent' ? captureOf(model, client) : captureAll;
  const asked = client.gateway ? undefined : egressPorts(model, client, service);
  const ports = service.ports.filter((p) => p.transport === 'TCP' && (!asked || asked.has(p.port)));
  const uncaptured = vips.some((vip) => ports.some((p) => !capturesOutbound(scope, vip, p.port)));
  const c = { model, domain: runtime.domain, refs };
  // With resolution NONE calls go where they were addressed.
  const dialled = external?.resolution === 'NONE';
  return create(ServiceSchema, {
    host,
    name: external ? host : name,
    namespace,
    external: external !== undefined,
    aliases,
    addresses: uncaptured ? [] : [...vips],
    headless: service.headless || uncaptured,
    blocks: external ? [...(dialled ? external.addresses : []), ...external.blocks] : [],
    dialled,
    families: service.headless || uncaptured ? [...(service.families ?? [])] : [],
    ports: ports.map((p) =>
      create(ServicePortSchema, {
        port: p.port,
        name: p.name,
        protocol: planProtocol(p.protocol),
        http: compileHttpRoutes(c, client, service, p),
        tcp: compileTcpRoutes(c, client, service, p),
        tls: compileTlsRoutes(c, client, service, p),
      }),
    ),
  });
}
