/** What `weft ca` shows: how far a new root has come, workload by workload. */
import type { Authority } from '@weft/identity';
import type { Hosts } from '../hosts/registry.ts';
import type { Pusher } from '../push/pusher.ts';
import type { MeshTrust } from './trust.ts';

export interface CaWorkload {
  /** Or `host NAME`, a machine that joined. */
  instance: string;
  connected: boolean;
  /** Its proxy believes exactly the roots, and refuses exactly the certificates, that it should. */
  holdsTrust: boolean;
  /** The certificate it showed when it connected is by what gives certificates now: the CA's key, or a Workload API. */
  reissued: boolean;
}

export function caStatus(authority: Authority, trust: MeshTrust, pusher: Pusher, hosts: Pick<Hosts, 'trustStatus'>) {
  const { phase, issuer, reversible, rootNotAfterMs, signerNotAfterMs, trustDomain } = authority;
  const all = [...pusher.trustStatus(), ...hosts.trustStatus(trust.current.rootPem)];
  const workloads: CaWorkload[] = all.map(({ instance, connected, holdsTrust, signers }) => ({
    instance,
    connected,
    holdsTrust,
    reissued: trust.isCurrent(signers),
  }));
  return {
    ...{ trustDomain, phase, issuer, reversible, rootNotAfterMs, signerNotAfterMs },
    workloads,
    revoked: trust.revoked.map(({ id, serial, atMs }) => ({ what: id || serial, atMs })),
    federated: trust.foreign,
    workloadApi: trust.workloadApi?.socket ?? '',
  };
}
