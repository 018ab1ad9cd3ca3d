/** Where the spans of a proxy go, and how many traces are sampled: of the mesh settings, and of a workload's annotation. */
import { create } from '@bufbuild/protobuf';
import { outboundClusterName, SpanProtocol, type Tracing, TracingSchema } from '@weft/plan';
import { resolveHost, serviceHost } from './hosts.ts';
import { findService, perModel } from './lookup.ts';
import { type MeshConfigModel, meshConfigOf, type ProxyConfigModel, type SpanProviderModel } from './mesh-config.ts';
import type { Model } from './types/model.ts';
import type { ServiceModel } from './types/service.ts';

/** Istio's default, in percent. */
const SAMPLING = 1;
/** As long as Envoy's of a URL on a span. */
const MAX_PATH_TAG_LENGTH = 256;
const TIMEOUT_MS = 10_000;

interface Collector {
  readonly protocol: SpanProtocol;
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly timeoutMs: number;
  readonly maxPathTagLength: number | undefined;
}

/** What a proxy is told; `own`: of the workload's annotation. */
export function tracingOf(model: Model, own: ProxyConfigModel | undefined): Tracing {
  const settings = meshConfigOf(model);
  const collector = collectorOf(settings, own);
  const of = <K extends 'sampling' | 'maxPathTagLength' | 'istioTags'>(key: K) =>
    own?.tracing?.[key] ?? settings?.proxy.tracing?.[key];
  const service = collector && collectorService(model, collector.host);
  return create(TracingSchema, {
    samplingPercent: (of('sampling') as number | undefined) ?? SAMPLING,
    maxPathTagLength:
      collector?.maxPathTagLength ?? (of('maxPathTagLength') as number | undefined) ?? MAX_PATH_TAG_LENGTH,
    withoutIstioTags: of('istioTags') === false,
    ...(collector && {
      collector: {
        ...{ protocol: collector.protocol, host: collector.host, port: collector.port },
        ...{ path: collector.path, timeoutMs: collector.timeoutMs },
        cluster: service ? outboundClusterName(collector.port, '', serviceHost(service, model.domain)) : '',
      },
    }),
  });
}

/** Services that some proxy sends its spans to: every proxy is told how to reach them. */
export const collectorHosts = perModel((model): readonly string[] => {
  const settings = meshConfigOf(model);
  const annotations = new Set([undefined, ...model.processes.map((p) => p.proxy)]);
  const hosts = [...annotations].flatMap((own) => {
    const collector = collectorOf(settings, own);
    const service = collector && collectorService(model, collector.host);
    return service ? [serviceHost(service, model.domain)] : [];
  });
  return [...new Set(hosts)];
});

/** The provider that the mesh settings name; else the address of the workload's own settings, or of everybody's. */
function collectorOf(settings: MeshConfigModel | undefined, own: ProxyConfigModel | undefined): Collector | undefined {
  const provider = spanProviderOf(settings);
  if (provider) {
    const { service, port, path, type, grpc, maxPathTagLength, timeoutMs = TIMEOUT_MS } = provider;
    const protocol =
      type === 'zipkin' ? SpanProtocol.ZIPKIN_JSON : grpc ? SpanProtocol.OTLP_GRPC : SpanProtocol.OTLP_HTTP;
    return { protocol, host: providerHost(service), port, path, timeoutMs, maxPathTagLength };
  }
  if (settings?.tracing.provider !== undefined || settings?.tracing.enabled === false) return undefined;
  const address = own?.tracing?.zipkin ?? settings?.proxy.tracing?.zipkin;
  if (!address) return undefined;
  const { host, port } = address;
  const maxPathTagLength = undefined;
  return {
    protocol: SpanProtocol.ZIPKIN_JSON,
    host,
    port,
    path: '/api/v2/spans',
    timeoutMs: TIMEOUT_MS,
    maxPathTagLength,
  };
}

/** What `defaultProviders.tracing` names, where it is something that spans can be sent to. */
export function spanProviderOf(settings: MeshConfigModel | undefined): SpanProviderModel | undefined {
  const name = settings?.tracing.provider;
  for (const p of settings?.extensionProviders ?? []) {
    if (p.name === name && (p.type === 'zipkin' || p.type === 'opentelemetry')) return p;
  }
  return undefined;
}

/** Of `[namespace/]host`: a short name is one of the namespace before it. */
export function providerHost(service: string): string {
  const [first, second] = service.split('/');
  if (second === undefined) return first;
  return second.includes('.') ? second : `${second}.${first}`;
}

/** `zipkin`, `zipkin.obs` and `zipkin.obs.svc` are names of a service too; undefined: it is none of the mesh. */
export function collectorService(model: Model, host: string): ServiceModel | undefined {
  const namespace = meshConfigOf(model)?.namespace ?? model.rootNamespace;
  const full = resolveHost(host, namespace, model.domain);
  for (const name of [full, `${full}.svc.${model.domain}`, `${full}.${model.domain}`]) {
    const service = findService(model, name);
    // Which host of a wildcard is meant, its cluster does not know.
    if (service && serviceHost(service, model.domain) === name) return service;
  }
  return undefined;
}
