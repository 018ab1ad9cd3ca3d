import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromBinary } from '@bufbuild/protobuf';
import { seededRandom } from '@weft/base';
import { FileCache, loadFiles } from '@weft/config';
import type { Instance, MeshRuntime, Model } from '@weft/model';
import { PartSchema } from '@weft/plan';
import type { Layers } from '@weft/xds';
import { Renderer } from './render.ts';

const NAMESPACES = ['shop', 'bank', 'edge'];
const SERVICES = 9;

interface Service {
  name: string;
  namespace: string;
  ports: number;
  weight: number | undefined;
  subset: string;
  exported: string;
  subsets: number;
  ejects: number;
  mirror: number | undefined;
  lines: number;
  /** Callers with this label have a route of their own. */
  callers: string;
}

type Policy = 'Sidecar' | 'Strict' | 'Allow' | 'Wildcard' | 'Delegate' | 'Gateway' | 'Timeout' | 'Fault' | 'Rate';
const POLICIES: Policy[] = [
  'Sidecar',
  'Strict',
  'Allow',
  'Wildcard',
  'Delegate',
  'Gateway',
  'Timeout',
  'Fault',
  'Rate',
];

const at = (s: Pick<Service, 'name' | 'namespace'>): string => `metadata: {name: ${s.name}, namespace: ${s.namespace}}`;

function manifest(s: Service, all: readonly Service[]): string {
  const other = s.mirror === undefined ? undefined : all[s.mirror % all.length];
  const ports = Array.from({ length: s.ports }, (_, i) => `{name: http-${i}, port: ${8080 + i}}`).join(', ');
  const subsets = Array.from({ length: s.subsets }, (_, i) => `{name: v${i}, labels: {version: v${i}}}`).join(', ');
  const fallback = `{destination: {host: ${s.name}, subset: v0, port: {number: 8080}}`;
  const mirror = other
    ? `\n    mirror: {host: ${other.name}.${other.namespace}.svc.cluster.local, port: {number: 8080}}`
    : '';
  const own = s.callers === '' ? '' : `\n  - match: [{sourceLabels: {team: ${s.callers}}}]\n    route: [${fallback}}]`;
  const route =
    s.weight === undefined
      ? ''
      : `---
apiVersion: networking.istio.io/v1
kind: VirtualService
${at(s)}
spec:
  hosts: [${s.name}]
  exportTo: ['${s.exported}']
  http:${own}
  - timeout: 5s${mirror}
    route:
    - ${fallback}, weight: ${s.weight}}
    - {destination: {host: ${s.name}, subset: v${s.subsets - 1}, port: {number: 8080}}, weight: ${100 - s.weight}}
`;
  const processes = ['v0', 'v1', 'v2'].map(
    (v) => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${s.name}-${v}, namespace: ${s.namespace}, labels: {app: ${s.name}, version: ${v}}}
spec: {command: ["true"], ports: [{name: http, port: 8080}, {name: more, port: 8081}]}
`,
  );
  return `${'\n'.repeat(s.lines)}apiVersion: v1
kind: Service
${at(s)}
spec: {selector: {app: ${s.name}}, ports: [${ports}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
${at(s)}
spec:
  host: ${s.name}
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: ${s.ejects}}}
  subsets: [${subsets}]
${route}${processes.join('')}`;
}

function policy(kind: Policy, s: Service): string {
  const meta = `metadata: {name: extra, namespace: ${s.namespace}}`;
  switch (kind) {
    case 'Sidecar':
      return `apiVersion: networking.istio.io/v1\nkind: Sidecar\n${meta}\nspec: {egress: [{hosts: ['./*']}]}\n`;
    case 'Strict':
      return `apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n${meta}\nspec: {mtls: {mode: STRICT}}\n`;
    case 'Allow':
      return `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n${meta}\nspec: {rules: [{to: [{operation: {methods: [GET]}}]}]}\n`;
    case 'Wildcard':
      return `apiVersion: networking.istio.io/v1\nkind: DestinationRule\n${meta}\nspec: {host: '*.${s.namespace}.svc.cluster.local', trafficPolicy: {outlierDetection: {consecutive5xxErrors: ${s.ejects + 20}}}}\n`;
    case 'Delegate':
      return `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: root, namespace: ${s.namespace}}\nspec: {hosts: [named.example], gateways: [mesh], http: [{delegate: {name: leaf, namespace: ${s.namespace}}}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: leaf, namespace: ${s.namespace}}\nspec: {http: [{timeout: ${s.ejects}s, route: [{destination: {host: ${s.name}, port: {number: 8080}}}]}]}\n---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: named, namespace: ${s.namespace}}\nspec: {hosts: [named.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n`;
    case 'Gateway':
      return `apiVersion: networking.istio.io/v1\nkind: Gateway\n${meta}\nspec: {selector: {app: gate}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: outside, namespace: ${s.namespace}}\nspec: {hosts: [out.example], gateways: [extra], http: [{timeout: ${s.ejects}s, route: [{destination: {host: ${s.name}, port: {number: 8080}}}]}]}\n`;
    case 'Timeout':
      return `apiVersion: weft.dev/v1alpha1\nkind: MeshDefaults\n${meta}\nspec: {timeout: ${s.ejects}s}\n`;
    case 'Rate':
      return `apiVersion: policy.linkerd.io/v1beta3\nkind: Server\n${meta}\nspec: {podSelector: {matchLabels: {team: red}}, port: 8080, accessPolicy: all-unauthenticated}\n---\napiVersion: policy.linkerd.io/v1alpha1\nkind: HTTPLocalRateLimitPolicy\nmetadata: {name: extra, namespace: ${s.namespace}, annotations: {weft.dev/rate-limit-scope: service}}\nspec: {targetRef: {group: policy.linkerd.io, kind: Server, name: extra}, total: {requestsPerSecond: ${10 + s.ejects}}}\n`;
    case 'Fault':
      return `apiVersion: weft.dev/v1alpha1\nkind: TCPFault\n${meta}\nspec: {host: ${s.name}, reset: {percentage: ${s.ejects}}}\n`;
  }
}

function loaded(
  services: readonly Service[],
  policies: ReadonlyMap<Policy, Service>,
  where: string,
  cache?: FileCache,
): Model {
  const namespaces = NAMESPACES.map((n) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${n}}\n`);
  const files = [{ path: 'namespaces.yaml', text: namespaces.join('---\n') }];
  for (const s of services) files.push({ path: `${s.name}.yaml`, text: manifest(s, services) });
  for (const [kind, s] of policies) files.push({ path: `${kind}.yaml`, text: policy(kind, s) });
  const { model, problems } = loadFiles(files, { allowPending: true, cache });
  assert.ok(model, `${where}: ${JSON.stringify(problems.filter((p) => p.severity === 'error').slice(0, 3))}`);
  return model;
}

function instanceOf(name: string, app: string, namespace: string, labels: Record<string, string>): Instance {
  return {
    ...{ name, workload: app, namespace, serviceAccount: app, address: '10.0.0.9', dialAddress: '10.0.0.9' },
    ...{ labels: { app, ...labels }, ports: [], injected: true, ready: true, draining: false, gateway: app === 'gate' },
  } as Instance;
}

const versions = (layers: Layers): Record<string, string> =>
  Object.fromEntries(
    layers
      .flatMap((layer) => [...layer].map(([name, r]): [string, string] => [name, r.version]))
      .sort((a, b) => (a[0] < b[0] ? -1 : 1)),
  );

test('after any edits proxies get what a control plane that starts anew gives them, byte for byte', () => {
  const seed = Number(process.env.WEFT_SEED ?? 20_251_121);
  const random = seededRandom(seed);
  const below = (n: number): number => Math.floor(random.next() * n);
  const one = <T>(of: readonly T[]): T => of[below(of.length)]!;
  let made = 0;
  const newService = (): Service => ({
    ...{ name: `s${made++}`, namespace: one(NAMESPACES), ports: 1, weight: 50, subset: 'v0', exported: '*' },
    ...{ subsets: 2, ejects: 5, mirror: undefined, lines: 0, callers: '' },
  });
  const services = Array.from({ length: SERVICES }, newService);
  const policies = new Map<Policy, Service>();
  let instances = NAMESPACES.flatMap((namespace) => [
    instanceOf(`a-${namespace}`, services.find((s) => s.namespace === namespace)?.name ?? 'x', namespace, {}),
    // Replicas of one service, for what depends on their number.
    ...['c', 'd'].map((name) =>
      instanceOf(`${name}-${namespace}`, services.find((s) => s.namespace === namespace)?.name ?? 'x', namespace, {
        team: 'red',
      }),
    ),
    instanceOf(`b-${namespace}`, 'y', namespace, { version: 'v1', team: 'red' }),
    instanceOf(`gate-${namespace}`, 'gate', namespace, {}),
  ]);
  const cache = new FileCache();
  const load = (): Model => loaded(services, policies, `seed ${seed}`, cache);
  let vips = new Map<string, readonly string[]>();
  const runtime = (): MeshRuntime =>
    ({
      ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' },
      ...{ instances, vips, resolved: new Map(), keySets: new Map() },
    }) as MeshRuntime;
  const edits: Record<string, (s: Service) => unknown> = {
    weight: (s) => (s.weight = below(101)),
    route: (s) => (s.weight = s.weight === undefined ? 10 : undefined),
    exported: (s) => (s.exported = s.exported === '*' ? '.' : '*'),
    subsets: (s) => (s.subsets = 1 + below(3)),
    ejects: (s) => (s.ejects = 1 + below(9)),
    mirror: (s) => (s.mirror = below(3) === 0 ? undefined : below(100)),
    lines: (s) => s.lines++,
    callers: (s) => (s.callers = one(['', 'red', 'blue'])),
    ports: (s) => (s.ports = 1 + below(2)),
    policy: (s) => {
      const kind = one(POLICIES);
      if (policies.has(kind)) policies.delete(kind);
      else policies.set(kind, s);
    },
    add: () => services.splice(below(services.length + 1), 0, newService()),
    remove: () => services.length > 3 && services.splice(below(services.length), 1),
    vip: (s) => (vips = new Map(vips).set(`${s.name}.${s.namespace}.svc.cluster.local`, [`240.0.0.${below(250)}`])),
    nothing: () => {},
  };
  const incremental = new Renderer();
  let model = load();
  let epoch = 1;
  incremental.epoch(model, runtime(), epoch);
  let kept = 0;
  const names = Object.keys(edits);
  for (let step = 0; step < 90; step++) {
    const what: string[] = [];
    const moves = below(4) === 0;
    if (moves) {
      const before = one(instances);
      const after = { ...before, ready: !before.ready, labels: { ...before.labels, team: one(['red', 'blue']) } };
      instances = instances.map((i) => (i === before ? after : i));
      what.push(`instance ${before.name}`);
      // Some come with an epoch, at once.
      if (below(2) === 0) what.push('alone');
      if (what.length > 1) incremental.instances(runtime(), [before, after]);
    }
    if (what.length < 2) {
      for (let n = 0; n <= below(2); n++) {
        const name = one(names);
        const service = one(services);
        what.push(`${name} of ${service.name}`);
        edits[name]!(service);
      }
      // A policy may name a service that went.
      for (const [kind, s] of policies) if (!services.includes(s)) policies.delete(kind);
      model = load();
      incremental.epoch(model, runtime(), ++epoch, moves);
    }
    const anew = new Renderer();
    anew.epoch(loaded(services, policies, `seed ${seed}`), runtime(), epoch);
    for (const instance of instances) {
      // A class nobody asks for at times must not come back with what it had.
      if (below(4) === 0 && step < 89) continue;
      const [got, want] = [incremental.of(instance), anew.of(instance)];
      const where = `seed ${seed}, step ${step} (${what.join(', ')}), ${instance.name}`;
      assert.deepEqual(versions(got.parts), versions(want.parts), `parts: ${where}`);
      assert.deepEqual(versions(got.references), versions(want.references), `references: ${where}`);
      assert.deepEqual(versions(got.endpoints), versions(want.endpoints), `endpoints: ${where}`);
      kept++;
    }
  }
  assert.ok(kept > 300);
});

test('a line at the top of a file changes no part, and one weight changes one service and no cluster', () => {
  const services = Array.from(
    { length: 4 },
    (_, i): Service => ({
      ...{ name: `s${i}`, namespace: 'shop', ports: 1, weight: 50, subset: 'v0', exported: '*' },
      ...{ subsets: 2, ejects: 5, mirror: undefined, lines: 0, callers: '' },
    }),
  );
  const load = (): Model => loaded(services, new Map(), '');
  const caller = instanceOf('a', 's0', 'shop', {});
  const runtime = {
    ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' },
    ...{ instances: [caller], vips: new Map(), resolved: new Map() },
  } as unknown as MeshRuntime;
  const renderer = new Renderer();
  renderer.epoch(load(), runtime, 1);
  const first = renderer.of(caller);
  services[1]!.lines++;
  renderer.epoch(load(), runtime, 2);
  const second = renderer.of(caller);
  assert.deepEqual(second.parts, first.parts);
  assert.equal(second.parts[1], first.parts[1], 'the same object: streams need not look into it');
  assert.notEqual(second.references[1], first.references[1]);
  services[1]!.weight = 10;
  renderer.epoch(load(), runtime, 3);
  const third = renderer.of(caller);
  const changed = [...third.parts[1]!].filter(([name, resource]) => second.parts[1]!.get(name) !== resource);
  assert.deepEqual(
    changed.map(([name]) => name),
    ['service/s1.shop.svc.cluster.local'],
  );
});

test('replicas that share a rate limit are told how many they are, and nobody else gets anything', () => {
  const service: Service = {
    ...{ name: 's0', namespace: 'shop', ports: 1, weight: undefined, subset: 'v0', exported: '*' },
    ...{ subsets: 2, ejects: 5, mirror: undefined, lines: 0, callers: '' },
  };
  const load = (lines: number): Model => loaded([{ ...service, lines }], new Map([['Rate', service]]), '');
  const [a, b, c] = ['a', 'b', 'c'].map((name) => instanceOf(name, 's0', 'shop', { team: 'red' })) as [
    Instance,
    Instance,
    Instance,
  ];
  const caller = instanceOf('caller', 'web', 'shop', {});
  const runtime = (instances: Instance[]) =>
    ({
      ...{ mesh: 'm', trustDomain: 'cluster.local', domain: 'cluster.local', capture: 'transparent' },
      ...{ instances: [caller, ...instances], vips: new Map(), resolved: new Map() },
    }) as unknown as MeshRuntime;
  const renderer = new Renderer();
  const replicas = (of: Instance): number | undefined => {
    const bytes = renderer.of(of).parts[0]!.get('inbound/8080')?.bytes;
    const kind = bytes && fromBinary(PartSchema, bytes).kind;
    return kind?.case === 'inbound' ? kind.value.rateLimit?.replicas : undefined;
  };
  renderer.epoch(load(0), runtime([a, b]), 1);
  assert.deepEqual([a, b, caller].map(replicas), [2, 2, undefined]);
  const before = versions(renderer.of(caller).parts);
  renderer.instances(runtime([a, b, c]), [c]);
  assert.deepEqual([a, b, c].map(replicas), [3, 3, 3]);
  assert.deepEqual(versions(renderer.of(caller).parts), before);
  // One that goes, in one turn with an epoch that changes lines alone.
  renderer.epoch(load(1), runtime([a, c]), 2, true);
  assert.deepEqual([a, c].map(replicas), [2, 2]);
});
