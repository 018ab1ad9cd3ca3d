/** The balancing part of a cluster: policy, hash key, localities, warm-up. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import { type ClusterSchema, ConsistentHashSchema, LbPolicy, LocalityLbSchema, localityCovers } from '@weft/plan';
import { label } from './labels.ts';
import type { ConsistentHashModel, LoadBalancerModel, LocalityModel } from './types/destination-rule.ts';
import type { Labels } from './types/resource.ts';
import type { ServiceBalancingModel, ServiceModel } from './types/service.ts';

const DEFAULT_LOCALITY: LocalityModel = { enabled: true, distribute: [], failover: [], failoverPriority: [] };

/** `region/zone/subzone` of a workload, as far as its labels say: Istio's own label first, then Kubernetes'. */
export function localityOf(labels: Labels): string {
  const own = label(labels, 'istio-locality');
  // A label's value has no slash; Istio takes dots for them.
  if (own) return own.replaceAll('.', '/');
  const region = label(labels, 'topology.kubernetes.io/region') ?? '';
  const zone = label(labels, 'topology.kubernetes.io/zone') ?? '';
  const subzone = label(labels, 'topology.istio.io/subzone') ?? '';
  return [region, zone, subzone].join('/').replace(/\/+$/, '');
}

type Balancing = Pick<MessageInitShape<typeof ClusterSchema>, 'lb' | 'hash' | 'locality' | 'warmup'>;

type Balanced = Pick<ServiceModel, 'balancing' | 'sessionAffinity' | 'preferNear'>;

const CLIENT_ADDRESS: ConsistentHashModel = {
  key: { case: 'sourceIp', value: true },
  maglev: false,
  tableSize: undefined,
};

/** Whether a service's sessionAffinity counts: no rule says how to choose. */
export function hashesAddress(lb: LoadBalancerModel | undefined, service: Balanced): boolean {
  return (service.sessionAffinity ?? false) && !lb?.hash && !lb?.simple;
}

/** `client` is the client's locality, `ofMesh` what the mesh settings say of localities; `outlier`: the cluster has outlier detection, without which nothing fails over. */
export function compileBalancing(
  lb: LoadBalancerModel | undefined,
  service: Balanced,
  client: string,
  outlier: boolean,
  ofMesh: LocalityModel | undefined = undefined,
): Balancing {
  const byAddress = hashesAddress(lb, service);
  const near = service.preferNear ?? false;
  return {
    lb: byAddress ? LbPolicy.RING_HASH : policyOf(lb, service.balancing),
    hash: byAddress ? hashOf(CLIENT_ADDRESS) : lb?.hash ? hashOf(lb.hash) : undefined,
    locality: lb?.zoneAwareMin
      ? create(LocalityLbSchema, { zoneAwareMin: lb.zoneAwareMin })
      : localityRule(lb?.locality ?? ofMesh ?? DEFAULT_LOCALITY, client, outlier || (near && !lb?.locality)),
    warmup: lb?.warmup,
  };
}

/** What the service's annotation says counts where no rule says how to balance. */
const BY_ANNOTATION = {
  'peak-ewma': LbPolicy.PEAK_EWMA,
  'least-request': LbPolicy.LEAST_REQUEST,
  'round-robin': LbPolicy.ROUND_ROBIN,
  random: LbPolicy.RANDOM,
};

function policyOf(lb: LoadBalancerModel | undefined, service: ServiceBalancingModel | undefined): LbPolicy {
  if (lb?.hash) return lb.hash.maglev ? LbPolicy.MAGLEV : LbPolicy.RING_HASH;
  switch (lb?.simple) {
    case 'LEAST_REQUEST':
      return LbPolicy.LEAST_REQUEST;
    case 'ROUND_ROBIN':
      return LbPolicy.ROUND_ROBIN;
    case 'RANDOM':
    // Who dials an endpoint's own address gets that endpoint whatever the policy; behind a virtual address, where
    // Istio would leave the choice to kube-proxy, it is random as it is there.
    case 'PASSTHROUGH':
      return LbPolicy.RANDOM;
    default:
      return service?.balancer ? BY_ANNOTATION[service.balancer] : LbPolicy.UNSPECIFIED;
  }
}

function hashOf(hash: ConsistentHashModel) {
  return create(ConsistentHashSchema, { key: hash.key as never, tableSize: hash.tableSize ?? 0 });
}

function localityRule(rule: LocalityModel, client: string, outlier: boolean) {
  if (!rule.enabled) return undefined;
  if (rule.distribute.length > 0) {
    const own = rule.distribute.find((d) => localityCovers(d.from, client));
    return own ? create(LocalityLbSchema, { distribute: [...own.to] }) : undefined;
  }
  const byLabels = rule.failoverPriority.length > 0;
  if (!outlier || (client === '' && !byLabels)) return undefined;
  const region = client.split('/')[0];
  return create(LocalityLbSchema, {
    failover: true,
    failoverPriority: [...rule.failoverPriority],
    failoverRegion: rule.failover.find((f) => f.from === region)?.to ?? '',
  });
}
