/** Istio's annotations and one of ours: unknown ones, those on a wrong kind, and values that mean nothing (IST0107, 0108, 0125, 0135, 0136). */
import type { Resource } from '@weft/model';
import { nearest } from '../problems.ts';
import type { Lint } from './lint.ts';

interface Annotation {
  /** Kinds that it is for; undefined: any. */
  readonly kinds?: readonly string[];
  readonly value?: 'bool' | 'int';
  readonly alpha?: true;
  /** What takes its place. */
  readonly instead?: string;
}

const POD: Annotation = { kinds: ['Process'] };
const SERVICE: Annotation = { kinds: ['Service'] };
const NAMESPACED_POD: Annotation = { kinds: ['Process', 'Namespace'] };

const KNOWN = new Map<string, Annotation>([
  ['galley.istio.io/analyze-suppress', {}],
  ['istio.io/dry-run', { kinds: ['AuthorizationPolicy'], value: 'bool', alpha: true }],
  ['istio.io/rev', NAMESPACED_POD],
  ['istio.io/reroute-virtual-interfaces', { ...POD, alpha: true }],
  ['inject.istio.io/templates', { ...POD, alpha: true }],
  ['networking.istio.io/exportTo', { ...SERVICE, alpha: true }],
  ['networking.istio.io/traffic-distribution', SERVICE],
  ['prometheus.istio.io/merge-metrics', { ...POD, value: 'bool', alpha: true }],
  ['proxy.istio.io/config', { ...POD, alpha: true }],
  ['proxy.istio.io/overrides', { ...POD, alpha: true }],
  [
    'sidecar.istio.io/inject',
    { ...NAMESPACED_POD, value: 'bool', instead: 'the label sidecar.istio.io/inject of the workload' },
  ],
  ['sidecar.istio.io/agentLogLevel', { ...POD, alpha: true }],
  ['sidecar.istio.io/bootstrapOverride', { ...POD, alpha: true }],
  ['sidecar.istio.io/componentLogLevel', { ...POD, alpha: true }],
  ['sidecar.istio.io/enableCoreDump', { ...POD, value: 'bool', alpha: true }],
  ['sidecar.istio.io/extraStatTags', { ...POD, alpha: true }],
  ['sidecar.istio.io/interceptionMode', { ...POD, alpha: true }],
  ['sidecar.istio.io/logLevel', { ...POD, alpha: true }],
  ['sidecar.istio.io/nativeSidecar', { ...POD, value: 'bool', alpha: true }],
  ['sidecar.istio.io/proxyCPU', { ...POD, alpha: true }],
  ['sidecar.istio.io/proxyCPULimit', { ...POD, alpha: true }],
  ['sidecar.istio.io/proxyImage', { ...POD, alpha: true }],
  ['sidecar.istio.io/proxyImageType', { ...POD, alpha: true }],
  ['sidecar.istio.io/proxyMemory', { ...POD, alpha: true }],
  ['sidecar.istio.io/proxyMemoryLimit', { ...POD, alpha: true }],
  ['sidecar.istio.io/rewriteAppHTTPProbers', { ...POD, value: 'bool', alpha: true }],
  ['sidecar.istio.io/statsHistogramBuckets', { ...POD, alpha: true }],
  ['sidecar.istio.io/statsInclusionPrefixes', { ...POD, instead: 'proxyStatsMatcher in proxy.istio.io/config' }],
  ['sidecar.istio.io/statsInclusionRegexps', { ...POD, instead: 'proxyStatsMatcher in proxy.istio.io/config' }],
  ['sidecar.istio.io/statsInclusionSuffixes', { ...POD, instead: 'proxyStatsMatcher in proxy.istio.io/config' }],
  ['sidecar.istio.io/status', { ...POD, alpha: true }],
  ['sidecar.istio.io/userVolume', { ...POD, alpha: true }],
  ['sidecar.istio.io/userVolumeMount', { ...POD, alpha: true }],
  ['readiness.status.sidecar.istio.io/applicationPorts', { ...POD, alpha: true }],
  ['readiness.status.sidecar.istio.io/failureThreshold', { ...POD, value: 'int', alpha: true }],
  ['readiness.status.sidecar.istio.io/initialDelaySeconds', { ...POD, value: 'int', alpha: true }],
  ['readiness.status.sidecar.istio.io/periodSeconds', { ...POD, value: 'int', alpha: true }],
  ['status.sidecar.istio.io/port', { ...POD, value: 'int', alpha: true }],
  ['topology.istio.io/controlPlaneClusters', { kinds: ['Namespace'], alpha: true }],
  ['traffic.sidecar.istio.io/excludeInboundPorts', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/excludeInterfaces', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/excludeOutboundIPRanges', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/excludeOutboundPorts', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/includeInboundPorts', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/includeOutboundIPRanges', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/includeOutboundPorts', { ...POD, alpha: true }],
  ['traffic.sidecar.istio.io/kubevirtInterfaces', { ...POD, instead: 'istio.io/reroute-virtual-interfaces' }],
  // Its values are checked where it is read.
  ['weft.dev/rate-limit-scope', { kinds: ['HTTPLocalRateLimitPolicy', 'TCPLocalRateLimitPolicy'] }],
]);

/** As the injector reads them. */
const BOOLEANS = new Set('true false yes no on off y n 1 0 enabled disabled'.split(' '));

export function lintAnnotations({ model, report }: Lint): void {
  // Every list of the model is one of resources of a kind.
  const all = Object.values(model).filter((v): v is readonly Resource[] => Array.isArray(v));
  for (const resource of all.flat()) {
    for (const [key, value] of Object.entries(resource.annotations)) {
      const field = `metadata.annotations.${key}`;
      const known = KNOWN.get(key);
      if (!known) {
        if (!isIstios(key)) continue;
        const near = nearest(key, [...KNOWN.keys()]);
        const hint = near.length > 0 ? `; did you mean ${near.join(', ')}?` : '';
        report(resource, 'IST0108', `Istio has no annotation ${key}${hint}`, field);
        continue;
      }
      if (known.kinds && !known.kinds.includes(resource.kind)) {
        const message = `${key} is for ${known.kinds.join(' and ')}: on a ${resource.kind} it does nothing`;
        report(resource, 'IST0107', message, field);
        continue;
      }
      if (known.value && !isValue(known.value, value)) {
        const what = known.value === 'bool' ? 'true or false' : 'a whole number';
        report(resource, 'IST0125', `${key} must be ${what}, not "${value.slice(0, 80)}"`, field);
      }
      if (known.instead) report(resource, 'IST0135', `${key} is deprecated: use ${known.instead}`, field);
      else if (known.alpha) report(resource, 'IST0136', `${key} is alpha in Istio: it may change`, field);
    }
  }
}

function isIstios(key: string): boolean {
  const slash = key.indexOf('/');
  const prefix = key.slice(0, Math.max(slash, 0));
  return prefix === 'istio.io' || prefix.endsWith('.istio.io');
}

function isValue(what: 'bool' | 'int', value: string): boolean {
  return what === 'bool' ? BOOLEANS.has(value) : /^\d{1,9}$/.test(value);
}
