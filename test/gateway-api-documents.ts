/** Documents of the Gateway API, and what requests meet by them, for tests. */
import assert from 'node:assert/strict';
import { seededRandom } from '@weft/base';
import { loadFiles } from '@weft/config';
import { buildSnapshot, type RouteView, routeHttp } from '@weft/engine';
import { compile, type Instance, type MeshRuntime, type Model } from '@weft/model';

export const API = 'gateway.networking.k8s.io/v1';
export const doc = (kind: string, name: string, spec: string, api = API, ns = 'shop', more = '') =>
  `apiVersion: ${api}\nkind: ${kind}\nmetadata: {name: ${name}, namespace: ${ns}${more}}\nspec: ${spec}\n`;
export const service = (name: string, ns = 'shop', port = '{name: http, port: 80}') =>
  `${doc('Service', name, `{selector: {app: ${name}}, ports: [${port}]}`, 'v1', ns)}---\n` +
  `apiVersion: weft.dev/v1alpha1\nkind: Process\nmetadata: {name: ${name}, namespace: ${ns}, labels: {app: ${name}}}\n` +
  'spec: {command: [run], ports: [{containerPort: 80}]}\n';
const EDGE =
  'apiVersion: weft.dev/v1alpha1\nkind: Process\n' +
  'metadata: {name: edge, namespace: shop, labels: {gateway.networking.k8s.io/gateway-name: site}}\nspec: {gateway: {}}\n';
export const BASE = [
  service('front'),
  service('a'),
  service('b'),
  service('c', 'far'),
  service('raw', 'shop', '{port: 80}'),
  EDGE,
];

export function modelOf(...docs: string[]): Model {
  const r = loadFiles([{ path: 'mesh.yaml', text: [...BASE, ...docs].join('---\n') }]);
  assert.ok(r.model, JSON.stringify(r.problems, null, 1));
  return r.model;
}

export function snapshotOf(model: Model, name: string) {
  const p = model.processes.find((x) => x.name === name)!;
  const instance: Instance = {
    name: `${name}-0`,
    workload: name,
    namespace: p.namespace,
    serviceAccount: 'default',
    labels: p.labels,
    address: '10.0.0.9',
    dialAddress: '10.0.0.9',
    ports: [],
    injected: true,
    gateway: p.gateway !== undefined,
    ready: true,
    draining: false,
  };
  const domain = 'cluster.local';
  const runtime: MeshRuntime = {
    mesh: 'm',
    trustDomain: domain,
    domain,
    capture: 'transparent',
    instances: [instance],
    vips: new Map(),
  };
  return buildSnapshot(compile(model, runtime, instance).parts.values(), []);
}

/** The port 80 of a service as a client sees it. */
export function portOf(model: Model, client: string, host = 'front.shop.svc.cluster.local') {
  return snapshotOf(model, client).services.get(host)!.ports.get(80)!;
}

/** `b` and the like; 404; 500; `302 http://…`; with what the request becomes. */
export function ask(
  view: RouteView,
  method: string,
  path: string,
  headers: string[] = [],
  authority = 'front',
): string {
  const head = [':method', method, ':scheme', 'http', ':authority', authority, ':path', path, ...headers];
  const d = routeHttp(view, head, seededRandom(1));
  if (d.kind === 'none') return '404';
  if (d.kind === 'direct') return `${d.status}`;
  if (d.kind === 'redirect') return `${d.status} ${d.location}`;
  const name = d.clusterName.split('|')[3].split('.')[0];
  const { path: to, authority: host } = d.rewrite ?? {};
  return [name, to, host].filter((x) => x !== undefined).join(' ');
}

export const on = (name: string, more = '') => `parentRefs: [{group: "", kind: Service, name: ${name}${more}}]`;
export const to = (name: string) => `backendRefs: [{name: ${name}, port: 80}]`;
export const http = (rules: string, name = 'r', more = '') =>
  doc('HTTPRoute', name, `{${on('front')}, rules: [${rules}]}`, API, 'shop', more);
export const match = (m: string, name: string) => `{matches: [${m}], ${to(name)}}`;

export const PEM = (what: string) => `-----BEGIN ${what}-----\\nYQ==\\n-----END ${what}-----\\n`;
