/** Fields of a Service beside its selector and ports: what they mean in a mesh, and which of them mean nothing there. */
import type { ServiceModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import { checkHost, type FieldReport, type Plain, str } from './common.ts';

const VALUE = 'WEFT-VALUE';
const any: Schema = { t: 'any' };

/** Of the ways in from outside the cluster, which NodePort and LoadBalancer add. */
const OUTSIDE = [
  'externalTrafficPolicy',
  'loadBalancerClass',
  'loadBalancerIP',
  'allocateLoadBalancerNodePorts',
  'healthCheckNodePort',
];

export const serviceFields: Record<string, Schema> = {
  type: { t: 'string', enum: ['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'] },
  externalName: { t: 'string', check: (v) => (v.startsWith('*') ? 'it is one host' : checkHost(v)) },
  sessionAffinity: { t: 'string', enum: ['None', 'ClientIP'] },
  sessionAffinityConfig: {
    t: 'object',
    fields: { clientIP: { t: 'object', fields: { timeoutSeconds: { t: 'int', min: 1, max: 86_400 } } } },
  },
  internalTrafficPolicy: {
    t: 'string',
    check: (v) => {
      if (v === 'Local') return 'the mesh knows no nodes: trafficDistribution prefers what is near';
      return v === 'Cluster' ? undefined : 'it may be Cluster';
    },
  },
  trafficDistribution: {
    t: 'string',
    check: (v) => {
      if (v === 'PreferSameNode') return 'the mesh knows no nodes: PreferSameZone prefers what is near';
      return v === 'PreferClose' || v === 'PreferSameZone' ? undefined : 'it may be PreferClose or PreferSameZone';
    },
  },
  ipFamilies: { t: 'list', max: 2, of: { t: 'string', enum: ['IPv4', 'IPv6'] } },
  ipFamilyPolicy: {
    t: 'string',
    check: (v) => {
      if (v === 'RequireDualStack') return 'a service has one address here';
      return v === 'SingleStack' || v === 'PreferDualStack' ? undefined : 'it may be SingleStack or PreferDualStack';
    },
  },
  clusterIPs: { t: 'list', max: 2, of: str },
  ...Object.fromEntries(OUTSIDE.map((name) => [name, any])),
};

/** Fields that would change who may come in, or from where: never taken without being held to. */
export const serviceFieldsRefused = ['externalIPs', 'loadBalancerSourceRanges'];

export function serviceFieldsOf(
  spec: Plain,
  report: FieldReport,
): Pick<ServiceModel, 'sessionAffinity' | 'preferNear' | 'externalName'> {
  const type: string = spec.type ?? 'ClusterIP';
  const alias = type === 'ExternalName';
  if (alias !== (spec.externalName !== undefined) && !report.broken('spec.externalName')) {
    const message = alias ? 'type ExternalName needs externalName' : 'externalName needs type ExternalName';
    report(VALUE, message, alias ? 'spec.type' : 'spec.externalName');
  }
  if (alias) {
    for (const name of ['selector', 'clusterIP', 'sessionAffinity', 'trafficDistribution']) {
      if (spec[name] !== undefined) report(VALUE, 'has no meaning with type ExternalName', `spec.${name}`);
    }
  }
  if (type === 'NodePort' || type === 'LoadBalancer') {
    const message = `nothing is opened to the outside for it: in the mesh ${type} is what ClusterIP is. Visitors come in by a gateway`;
    report('WEFT-NO-EFFECT', message, 'spec.type', 'warning');
  } else {
    for (const [i, p] of ((spec.ports ?? []) as (Plain | undefined)[]).entries()) {
      if (p?.nodePort !== undefined) {
        report(VALUE, 'needs type NodePort or LoadBalancer', `spec.ports[${i}].nodePort`);
      }
    }
    for (const name of OUTSIDE) {
      if (Object.hasOwn(spec, name)) report(VALUE, 'needs type NodePort or LoadBalancer', `spec.${name}`);
    }
  }
  const byAddress = spec.sessionAffinity === 'ClientIP';
  if (spec.sessionAffinityConfig && !byAddress) {
    report(VALUE, 'needs sessionAffinity: ClientIP', 'spec.sessionAffinityConfig');
  } else if (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds !== undefined) {
    const message = 'an address keeps its endpoint as long as the endpoints stay the same: no time ends it';
    report('WEFT-NO-EFFECT', message, 'spec.sessionAffinityConfig', 'warning');
  }
  const [first, second] = (spec.clusterIPs ?? []) as (string | undefined)[];
  if (second !== undefined || (first !== undefined && first !== spec.clusterIP)) {
    report(VALUE, 'a service has one address here: that of clusterIP', 'spec.clusterIPs');
  }
  return {
    sessionAffinity: byAddress,
    preferNear: spec.trafficDistribution !== undefined,
    externalName: alias ? spec.externalName : undefined,
  };
}
