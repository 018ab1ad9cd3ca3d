/** Fields of a Service beside its selector and ports: what they mean in a mesh, and which of them mean nothing there. */
import type { IpFamily, ServiceModel } from '@weft/model';
import type { Schema } from '../schema.ts';
import { checkHost, type FieldReport, isIpv4, isIpv6, type Plain, str } from './common.ts';

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
  ipFamilyPolicy: { t: 'string', enum: ['SingleStack', 'PreferDualStack', 'RequireDualStack'] },
  clusterIPs: { t: 'list', max: 2, of: str },
  ...Object.fromEntries(OUTSIDE.map((name) => [name, any])),
};

/** Fields that would change who may come in, or from where: never taken without being held to. */
export const serviceFieldsRefused = ['externalIPs', 'loadBalancerSourceRanges'];

export function serviceFieldsOf(
  spec: Plain,
  report: FieldReport,
): Pick<ServiceModel, 'sessionAffinity' | 'preferNear' | 'externalName' | 'families' | 'clusterIPs'> {
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
  return {
    ...addressesOf(spec, report),
    sessionAffinity: byAddress,
    preferNear: spec.trafficDistribution !== undefined,
    externalName: alias ? spec.externalName : undefined,
  };
}

/** Families and given addresses, as Kubernetes understands them where some are left out. */
function addressesOf(spec: Plain, report: FieldReport): Pick<ServiceModel, 'families' | 'clusterIPs'> {
  const given = ((spec.clusterIPs ?? []) as (string | undefined)[]).filter((a) => a !== undefined);
  const [first = spec.clusterIP as string | undefined, second] = given;
  if (given.length > 0 && (spec.clusterIP ?? first) !== first) {
    report(VALUE, 'the first of them is clusterIP', 'spec.clusterIPs');
  }
  const familyOf = (address: string | undefined): IpFamily | undefined =>
    address === undefined ? undefined : isIpv6(address) ? 6 : isIpv4(address) ? 4 : undefined;
  for (const [i, address] of given.entries()) {
    if (familyOf(address) === undefined && address !== 'None') {
      report(VALUE, 'is no IP address', `spec.clusterIPs[${i}]`);
    }
  }
  const named = ((spec.ipFamilies ?? []) as (string | undefined)[]).map((f): IpFamily => (f === 'IPv6' ? 6 : 4));
  const policy = spec.ipFamilyPolicy as string | undefined;
  if (named.length === 2 && named[0] === named[1]) report(VALUE, 'names a family twice', 'spec.ipFamilies');
  if (second !== undefined && familyOf(first) === familyOf(second)) {
    report(VALUE, 'two addresses are of two families', 'spec.clusterIPs');
  }
  const two = named.length === 2 || second !== undefined;
  if (policy === 'SingleStack' && two) {
    report(VALUE, 'SingleStack is one family, and there are two', 'spec.ipFamilyPolicy');
  }
  const preferred = named[0] ?? familyOf(first) ?? 4;
  for (const [i, address] of (given.length > 0 ? given : [spec.clusterIP as string | undefined]).entries()) {
    const family = familyOf(address);
    const wanted = i === 0 ? preferred : named[1];
    if (family !== undefined && wanted !== undefined && family !== wanted) {
      const field = given.length > 0 ? `spec.clusterIPs[${i}]` : 'spec.clusterIP';
      report(VALUE, `is IPv${family}, where spec.ipFamilies says IPv${wanted}`, field);
    }
  }
  const dual = two || policy === 'PreferDualStack' || policy === 'RequireDualStack';
  return {
    families: dual ? [preferred, preferred === 4 ? 6 : 4] : preferred === 6 ? [6] : undefined,
    clusterIPs: given.length > 1 ? given : undefined,
  };
}
