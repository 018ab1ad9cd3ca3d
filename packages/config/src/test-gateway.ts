/** Documents of gateways and what is made of them, for tests. */
import { compile, type Instance, type MeshRuntime, type Model } from '@weft/model';
import type { GatewayListener, Secret } from '@weft/plan';
import { type LoadOptions, loadFiles, type SourceFile } from './index.ts';

export const CERT = '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n';
export const KEY = '-----BEGIN PRIVATE KEY-----\nS0VZ\n-----END PRIVATE KEY-----\n';
export const doc = (kind: string, name: string, spec: string, api = 'networking.istio.io/v1', ns = 'shop') =>
  `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${ns}}\nspec: ${spec}\n`;
export const process = (name: string, labels: string, spec: string, ns = 'shop') =>
  `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: ${ns}, labels: ${labels}}\nspec: ${spec}\n`;
const BASE = [
  doc('Service', 'front', '{selector: {app: front}, ports: [{name: http, port: 8080}]}', 'v1'),
  process('front', '{app: front}', '{command: [run], ports: [{containerPort: 8080}]}'),
  process('edge', '{istio: ingressgateway}', '{gateway: {}}'),
].join('---\n');
export const gateway = (servers: string, name = 'gw') =>
  doc('Gateway', name, `{selector: {istio: ingressgateway}, servers: [${servers}]}`);
export const HTTP = '{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}';
export const https = (tls: string, hosts = '["a.example.com"]', port = 8443) =>
  `{port: {number: ${port}, name: https-${port}, protocol: HTTPS}, hosts: ${hosts}, tls: ${tls}}`;
export const secret = (name: string, ns = 'shop', data = `{tls.crt: ${btoa(CERT)}, tls.key: ${btoa(KEY)}}`) =>
  `apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {name: ${name}, namespace: ${ns}}\ndata: ${data}\n`;
export const vs = (spec: string, name = 'vs', ns = 'shop') =>
  doc('VirtualService', name, spec, 'networking.istio.io/v1', ns);
export const to = 'http: [{route: [{destination: {host: front}}]}]';

export function load(text: string, more: SourceFile[] = [], options: LoadOptions = {}) {
  return loadFiles([{ path: 'mesh/base.yaml', text: BASE }, { path: 'mesh/gw.yaml', text }, ...more], options);
}

export function must(text: string, more: SourceFile[] = []): Model {
  const r = load(text, more);
  if (!r.model) throw new Error(JSON.stringify(r.problems, null, 1));
  return r.model;
}

export function instanceOf(model: Model, name: string): Instance {
  const p = model.processes.find((x) => x.name === name)!;
  return {
    name: `${name}-0`,
    workload: name,
    namespace: p.namespace,
    serviceAccount: 'default',
    labels: p.labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: p.ports.map((x) => ({ number: x.port, name: x.name })),
    injected: true,
    gateway: p.gateway !== undefined,
    ready: true,
    draining: false,
  };
}

export function runtimeOf(instances: Instance[]): MeshRuntime {
  const domain = 'cluster.local';
  return { mesh: 'm', trustDomain: domain, domain, capture: 'transparent', instances, vips: new Map() };
}

export function planOf(model: Model, name = 'edge') {
  const instance = instanceOf(model, name);
  const { parts, references } = compile(model, runtimeOf([instance]), instance);
  const listeners: GatewayListener[] = [];
  const secrets: Secret[] = [];
  for (const { kind } of parts.values()) {
    if (kind.case === 'gateway') listeners.push(kind.value);
    if (kind.case === 'secret') secrets.push(kind.value);
  }
  /** host → refs of its routes, of the first server of a port. */
  const hosts = (port: number, server = 0): Record<string, string[]> =>
    Object.fromEntries(
      (listeners.find((l) => l.port === port)?.servers[server]?.virtualHosts ?? []).map((h) => [
        h.host,
        h.http.map((r) => r.ref.replace(/^VirtualService\/shop\//, '')),
      ]),
    );
  return { listeners, secrets, hosts, parts, references };
}
