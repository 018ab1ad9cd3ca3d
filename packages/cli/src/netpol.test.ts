/** What `weft netpol` writes, and what the rules do in a network namespace. */
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { openSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { entranceRules, inNamespace, inNamespaceArgv, MeshNetwork, transparentUnavailable } from '@weft/capture';
import { loadFiles } from '@weft/config';
import { meshEntrances, networkPolicies, nftRules } from './netpol.ts';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../../..');

const FILES = `
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: open, namespace: shop, labels: {app: open}}
spec: {command: [run], ports: [{containerPort: 8080}, {containerPort: 9090}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: shut, namespace: shop, labels: {app: shut, "a.b/c": "yes"}}
spec: {command: [run], ports: [{containerPort: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: alone, namespace: shop, annotations: {sidecar.istio.io/inject: "false"}}
spec: {command: [run], ports: [{containerPort: 8080}]}
---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: edge, namespace: shop, labels: {istio: edge}}
spec: {gateway: {}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: edge}
  servers:
    - {port: {number: 8443, name: http, protocol: HTTP}, hosts: ["*"]}
    - {port: {number: 80, name: http2, protocol: HTTP}, hosts: ["*"]}
    - {port: {number: 81, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: shut, namespace: shop}
spec: {selector: {matchLabels: {app: shut}}, mtls: {mode: STRICT}}
`;

function entrances(monitoring: string[] = []) {
  const { model, problems } = loadFiles([{ path: 'a.yaml', text: FILES }]);
  assert.ok(model, JSON.stringify(problems));
  return meshEntrances(model, monitoring);
}

test('NetworkPolicies: the mesh port, a gateway its own ports, and what is lost by it', () => {
  const all = entrances(['10.1.0.0/16', 'fd00::7']);
  const text = networkPolicies(all);
  const policies = text.split('---\n');
  assert.equal(policies.length, 3);
  assert.equal(
    policies[1],
    `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: "weft-shut"
  namespace: "shop"
spec:
  podSelector:
    matchLabels:
      "app": "shut"
      "a.b/c": "yes"
  policyTypes: [Ingress]
  ingress:
    - ports:
        - {protocol: TCP, port: 15008}
    - from:
        - ipBlock: {cidr: "10.1.0.0/16"}
        - ipBlock: {cidr: "fd00::7/128"}
      ports:
        - {protocol: TCP, port: 15020}
        - {protocol: TCP, port: 15021}
        - {protocol: TCP, port: 15090}
`,
  );
  assert.deepEqual([...policies[2]!.matchAll(/port: (\d+)/g)].map((m) => m[1]).slice(0, 4), [
    '80',
    '8443',
    '15008',
    '15020',
  ]);
  assert.deepEqual(all.warnings, [
    'shop/open is not STRICT on 8080, 9090: callers without a proxy, which it answers now, are shut out',
    'shop/alone has no proxy: nothing is written for it',
  ]);
});

const skip = transparentUnavailable() ?? false;

test('nft: in a namespace only the mesh port is left, over IPv4 and IPv6', { skip }, async () => {
  const network = new MeshNetwork(`n${process.pid}`);
  const servers: net.Server[] = [];
  const ports = [22, 8080, 15001, 15006, 15008, 15020, 15021, 15090];
  try {
    const place = network.add('shut-1', { rules: {} });
    const fd = openSync(`/run/netns/${place.namespace}`, 'r');
    for (const port of ports) {
      const server = net.createServer((s) => s.on('error', () => {}).end('here'));
      inNamespace(fd, () => server.listen(port));
      servers.push(server);
    }
    /** What answers at `host`: what should has all the time it needs, and what should not a moment more. */
    const reached = async (host: string, wanted: readonly number[], why: string): Promise<void> => {
      const open = new Set<number>();
      const sockets = ports.map((port) => {
        const s = net.connect({ host, port });
        s.on('data', () => open.add(port));
        return s.on('error', () => {});
      });
      const end = performance.now() + 60_000;
      while (!wanted.every((port) => open.has(port)) && performance.now() < end)
        await new Promise((resolve) => setTimeout(resolve, 10));
      await new Promise((resolve) => setTimeout(resolve, 200));
      for (const s of sockets) s.destroy();
      assert.deepEqual(
        [...open].sort((x, y) => x - y),
        wanted,
        why,
      );
    };
    const apply = (rules: string): void => {
      const [program, ...args] = inNamespaceArgv(place.namespace);
      execFileSync(program!, [...args, 'nft', '-f', '-'], { input: rules });
    };
    const all = entrances();
    const shut = all.workloads.find((w) => w.process.name === 'shut')!;
    for (const [host, from] of [
      [place.address, network.gateway],
      [place.address6, `${network.prefix6}:1`],
    ] as const) {
      if (host === undefined) continue;
      apply(nftRules(shut, []));
      await reached(host, [15008], host);
      apply(nftRules(shut, [22]));
      // Capture's own rules come behind it, and lead port 22 to the proxy.
      await reached(host, [22, 15008], `${host}: a port of the host's own`);
      apply(entranceRules({ open: [15008], restricted: { ports: [15020, 15021], from: [from, '192.0.2.0/24'] } }));
      await reached(host, [15008, 15020, 15021], `${host}: who watches`);
      apply(
        entranceRules({
          open: [15008],
          restricted: { ports: [15020, 15021], from: ['192.0.2.0/24', '2001:db8::/32'] },
        }),
      );
      await reached(host, [15008], `${host}: who does not`);
    }
    // What the workload asks for is answered.
    const outside = net.createServer((s) => s.end('out')).listen(0, network.gateway);
    servers.push(outside);
    await new Promise((resolve) => outside.once('listening', resolve));
    const { port } = outside.address() as net.AddressInfo;
    const script = `require('net').connect(${port},'${network.gateway}').on('data',d=>console.log(String(d)))`;
    const argv = ['setpriv', '--reuid=1337', '--regid=1337', '--clear-groups', process.execPath, '-e', script];
    const [program, ...args] = inNamespaceArgv(place.namespace);
    const { stdout } = await run(program!, [...args, ...argv], { timeout: 20_000 });
    assert.equal(stdout.trim(), 'out');
  } finally {
    for (const s of servers) s.close();
    network.close();
  }
});

test('the command: the shop has rules, and a workload that is not there is said', () => {
  const netpol = (...args: string[]): string => {
    const argv = [join(root, 'bin/weft.mjs'), 'netpol', ...args, '-f', join(root, 'examples/shop/mesh')];
    return execFileSync(process.execPath, argv, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  };
  assert.match(netpol(), /kind: NetworkPolicy/);
  assert.throws(() => netpol('nobody'), /no workload nobody with a proxy; there are: .*payment/);
  assert.throws(() => netpol('-o', 'nft'), /nft rules are for one workload: name one of/);
});
