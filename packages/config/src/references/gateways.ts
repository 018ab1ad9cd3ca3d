/** What is wrong between Gateways, the workloads they select, their Secrets and the VirtualServices bound to them. */
import {
  type AuthorityModel,
  authorityOf,
  boundHosts,
  clientAuthority,
  endsTls,
  type GatewayModel,
  type GatewayServerModel,
  gatewayName,
  gatewaysOf,
  isGranted,
  type KeyPairModel,
  listeningPort,
  MESH_GATEWAY,
  type Model,
  type ProcessModel,
  refOf,
  type SecretModel,
  serverKind,
  servesGateway,
  type VirtualServiceModel,
} from '@weft/model';
import { list, pairs } from '../words.ts';
import { noGrant } from './gateway-api-routes.ts';
import type { Report } from './known.ts';

export class GatewayCheck {
  readonly #model: Model;
  readonly #broken: ReadonlySet<string>;
  readonly #report: Report;

  constructor(model: Model, broken: ReadonlySet<string>, report: Report) {
    this.#model = model;
    this.#broken = broken;
    this.#report = report;
  }

  run(): void {
    const { gateways, processes, virtualServices } = this.#model;
    const intact = (r: { kind: string; namespace: string; name: string }) => !this.#broken.has(refOf(r));
    for (const vs of virtualServices) if (intact(vs)) this.#bindings(vs);
    if (!processes.every(intact) || !gateways.every(intact)) return;
    const workloads = processes.filter((p) => p.gateway);
    for (const gateway of gateways) this.#workloads(gateway, workloads);
    for (const workload of workloads) this.#listeners(workload);
  }

  /** Gateways that a VirtualService names, and whether it has a host there at all. */
  #bindings(vs: VirtualServiceModel): void {
    const known = this.#model.gateways.filter((g) => !g.gatewayApi).map(gatewayName);
    const mesh = vs.gateways.includes(MESH_GATEWAY);
    for (const name of vs.gateways) {
      if (name === MESH_GATEWAY) continue;
      const gateway = this.#model.gateways.find((g) => gatewayName(g) === name);
      if (gateway?.gatewayApi) {
        const message = `${name} is a Gateway of the Gateway API: attach an HTTPRoute to it, or name one of Istio's`;
        this.#report(vs, 'WEFT-NO-GATEWAY', message, 'spec.gateways');
        continue;
      }
      if (!gateway) {
        const message = `there is no Gateway ${name}. A name without a namespace is in the rule's own. Gateways: ${list(known, 'none')}`;
        this.#report(vs, 'WEFT-NO-GATEWAY', message, 'spec.gateways');
        continue;
      }
      // With the mesh among its gateways, its hosts may be for that.
      if (this.#broken.has(refOf(gateway)) || mesh) continue;
      const bound = gateway.servers.filter((s) => boundHosts(this.#model, s, vs).length > 0);
      if (bound.length > 0) {
        this.#unused(vs, name, bound);
        continue;
      }
      const hosts = gateway.servers.flatMap((s) =>
        s.hosts.map((h) => (h.namespace === '*' ? h.host : `${h.namespace}/${h.host}`)),
      );
      const message = `none of its hosts is one of the Gateway ${name}: it would serve nothing there. That has ${list(hosts, 'none')}`;
      this.#report(vs, 'WEFT-NO-HOST', message, 'spec.hosts', 'warning');
    }
  }

  /** Routes of a kind that no server with its hosts asks for. */
  #unused(vs: VirtualServiceModel, name: string, bound: readonly GatewayServerModel[]): void {
    const passes = (s: GatewayServerModel): boolean => s.tls?.mode === 'PASSTHROUGH';
    const asks = {
      http: bound.some((s) => !s.opaque),
      tls: bound.some(passes),
      tcp: bound.some((s) => s.opaque && !passes(s)),
    };
    const wanted = list(
      Object.entries(asks).flatMap(([what, is]) => (is ? [what] : [])),
      'none',
    );
    for (const what of ['http', 'tls', 'tcp'] as const) {
      // A Gateway may serve the same hosts in several ways, and each rule is for one of them.
      if (vs[what].length === 0 || asks[what]) continue;
      const message = `the servers of the Gateway ${name} with its hosts take no ${what} routes: these are never used there. They take ${wanted}`;
      this.#report(vs, 'WEFT-NO-EFFECT', message, `spec.${what}`, 'warning');
    }
  }

  #workloads(gateway: GatewayModel, workloads: readonly ProcessModel[]): void {
    const selected = workloads.filter((p) => servesGateway(gateway, p));
    if (selected.length === 0) {
      const have = list(
        workloads.map((p) => `${p.name} {${pairs(p.labels)}}`),
        'none (a Process with "gateway: {}" is one)',
      );
      const what = gateway.gatewayApi
        ? `no gateway in namespace ${gateway.namespace} has the label {${pairs(gateway.selector)}}`
        : `the selector {${pairs(gateway.selector)}} matches no gateway`;
      const message = `${what}: nothing serves it. Gateways that run: ${have}`;
      this.#report(gateway, 'WEFT-NO-TARGET', message, gateway.gatewayApi ? 'spec' : 'spec.selector', 'warning');
    }
    for (const server of gateway.servers) {
      if (!server.tls || !endsTls(server)) continue;
      const { credentials, files } = server.tls;
      for (const namespace of new Set(selected.map((p) => p.namespace))) this.#authority(gateway, server, namespace);
      const pairs = [...files];
      for (const { name, namespace: given, field } of credentials) {
        for (const namespace of given ? [given] : new Set(selected.map((p) => p.namespace))) {
          const secret = this.#credential(gateway, name, namespace, given !== '', field);
          if (secret) pairs.push({ ...secret, field });
        }
      }
      // Clients are shown the one that fits, where one does.
      if (pairs.every((p) => p.names.length > 0)) this.#names(gateway, server, pairs);
    }
  }

  /** A Secret with a certificate that a server names; undefined: it is not there, or may not be used. */
  #credential(
    gateway: GatewayModel,
    name: string,
    namespace: string,
    given: boolean,
    field: string,
  ): SecretModel | undefined {
    const secret = this.#model.secrets.find((s) => s.name === name && s.namespace === namespace);
    if (!secret) {
      const have = list(
        this.#model.secrets.filter((s) => s.namespace === namespace).map((s) => s.name),
        'none',
      );
      const where = given ? '' : ', where the gateway runs';
      const message = `there is no Secret ${name} in namespace ${namespace}${where}. Secrets there: ${have}`;
      this.#report(gateway, 'WEFT-NO-SECRET', message, field);
      return undefined;
    }
    if (secret.certificatePem === '' && !this.#broken.has(refOf(secret))) {
      const message = `the Secret ${name} in namespace ${namespace} has no certificate: it needs tls.crt and tls.key`;
      this.#report(gateway, 'WEFT-NO-SECRET', message, field);
      return undefined;
    }
    if (gateway.gatewayApi && !isGranted(this.#model, gateway, { ...secret, kind: 'Secret' })) {
      this.#report(gateway, 'WEFT-NO-GRANT', noGrant(gateway, 'Secret', name, namespace), field);
    }
    return secret;
  }

  /** Clients are asked for certificates: somebody must have signed them. */
  #authority(gateway: GatewayModel, server: GatewayServerModel, namespace: string): void {
    const { mode, credentials, authorities } = server.tls!;
    if (mode !== 'MUTUAL' && mode !== 'OPTIONAL_MUTUAL') return;
    for (const authority of authorities) this.#namedAuthority(gateway, mode, authority, namespace);
    const [first] = credentials;
    // Files are judged where they are read.
    if (!first || authorities.length > 0 || clientAuthority(this.#model, server, namespace)) return;
    const message = `mode ${mode} needs who signs clients' certificates: ca.crt in the Secret ${first.name}, or in one named ${first.name}-cacert, in namespace ${namespace}`;
    this.#report(gateway, 'WEFT-NO-SECRET', message, first.field);
  }

  #namedAuthority(gateway: GatewayModel, mode: string, authority: AuthorityModel, namespace: string): void {
    const { kind, name, field } = authority;
    const place = authority.namespace || namespace;
    if (gateway.gatewayApi && !isGranted(this.#model, gateway, { kind, name, namespace: place })) {
      this.#report(gateway, 'WEFT-NO-GRANT', noGrant(gateway, kind, name, place), field);
    }
    if (authorityOf(this.#model, authority, namespace)) return;
    const all = kind === 'Secret' ? this.#model.secrets : this.#model.configMaps;
    // One with a mistake of its own is told there.
    if (all.some((r) => r.name === name && r.namespace === place && this.#broken.has(refOf(r)))) return;
    const have = list(
      all.filter((r) => r.namespace === place && r.caPem !== '').map((r) => r.name),
      'none',
    );
    const message = `mode ${mode} needs who signs clients' certificates: ca.crt in the ${kind} ${name} in namespace ${place}. Those there that have one: ${have}`;
    this.#report(gateway, kind === 'Secret' ? 'WEFT-NO-SECRET' : 'WEFT-NO-CONFIGMAP', message, field);
  }

  /** A host that no certificate of its server is for: clients refuse it. */
  #names(
    gateway: GatewayModel,
    server: GatewayServerModel,
    pairs: readonly (KeyPairModel & { field: string })[],
  ): void {
    const names = [...new Set(pairs.flatMap((p) => p.names))];
    if (names.length === 0) return;
    for (const host of new Set(server.hosts.map((h) => h.host))) {
      if (host === '*' || names.some((n) => certifies(n.toLowerCase(), host))) continue;
      const [what, they] =
        pairs.length === 1 ? ['the certificate is not', 'It is'] : ['none of the certificates is', 'They are'];
      const message = `${what} for ${host}: clients will refuse it. ${they} for ${list(names, 'nobody')}`;
      this.#report(gateway, 'WEFT-CERTIFICATE', message, pairs[0].field, 'warning');
    }
  }

  /** One port takes one kind of connection; and of servers with TLS each name leads to one. */
  #listeners(workload: ProcessModel): void {
    const ports = workload.ports.map((p) => ({ number: p.port, name: p.name }));
    const first = new Map<number, { gateway: GatewayModel; server: GatewayServerModel }>();
    const names = new Map<string, GatewayModel>();
    for (const gateway of gatewaysOf(this.#model, workload)) {
      for (const server of gateway.servers) {
        const port = listeningPort(this.#model, { ...workload, ports }, server.port);
        const other = first.get(port);
        if (!other) first.set(port, { gateway, server });
        else if (serverKind(other.server) !== serverKind(server)) {
          const where = `${gatewayName(other.gateway)} (${other.gateway.source.file}:${other.gateway.source.line})`;
          const message = `the port ${port} of ${workload.name} serves ${shownKind(other.server)} for the Gateway ${where}: it cannot serve ${shownKind(server)} as well`;
          this.#report(gateway, 'WEFT-PORT-CONFLICT', message, `${server.field}.port`);
          continue;
        } else if (other.gateway.gatewayApi !== gateway.gatewayApi) {
          const where = `${gatewayName(other.gateway)} (${other.gateway.source.file}:${other.gateway.source.line})`;
          const message = `the port ${port} of ${workload.name} is served for the Gateway ${where} of the other API: their routes are not merged`;
          this.#report(gateway, 'WEFT-PORT-CONFLICT', message, `${server.field}.port`);
          continue;
        }
        if (serverKind(server) !== 'TLS') continue;
        for (const host of new Set(server.hosts.map((h) => h.host))) {
          const key = `${port} ${host}`;
          const taken = names.get(key);
          if (!taken) names.set(key, gateway);
          else {
            const where = `${gatewayName(taken)} (${taken.source.file}:${taken.source.line})`;
            const message = `the host ${host} on port ${port} already belongs to the Gateway ${where}: one server takes the connections of a name`;
            this.#report(gateway, 'WEFT-HOST-CONFLICT', message, `${server.field}.hosts`);
          }
        }
      }
    }
  }
}

/** A wildcard of a certificate stands for one label (RFC 9525 6.3), so a wildcard host needs the same one. */
function certifies(name: string, host: string): boolean {
  if (name === host) return true;
  return name.startsWith('*.') && !host.startsWith('*') && host.slice(host.indexOf('.')) === name.slice(1);
}

function shownKind(server: GatewayServerModel): string {
  const kind = serverKind(server);
  return kind === 'TLS' && !server.opaque ? 'HTTPS' : kind;
}
