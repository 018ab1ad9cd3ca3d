/** A mesh of many services, as people write it: a file each, with two versions behind a weighted route. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const NAMESPACES = 10;

export interface Workload {
  instance: string;
  workload: string;
  namespace: string;
  serviceAccount: string;
  labels: Record<string, string>;
  address: string;
  ports: { number: number; name: string }[];
  ready: boolean;
}

export const namespaceOf = (service: number): string => `ns${service % NAMESPACES}`;

function manifest(i: number, weight: number): string {
  const name = `svc${i}`;
  const meta = `metadata: {name: ${name}, namespace: ${namespaceOf(i)}}`;
  const processes = ['v1', 'v2'].map(
    (v) => `---
apiVersion: weft.dev/v1alpha1
kind: Process
metadata: {name: ${name}-${v}, namespace: ${namespaceOf(i)}, labels: {app: ${name}, version: ${v}}}
spec: {command: ["true"], serviceAccountName: ${name}, ports: [{name: http, port: 8080}]}
`,
  );
  return `apiVersion: v1
kind: Service
${meta}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
${meta}
spec:
  host: ${name}
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 10}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
${meta}
spec:
  hosts: [${name}]
  http:
  - timeout: 5s
    route:
    - {destination: {host: ${name}, subset: v1}, weight: ${weight}}
    - {destination: {host: ${name}, subset: v2}, weight: ${100 - weight}}
${processes.join('')}---
apiVersion: v1
kind: ServiceAccount
${meta}
`;
}

export class MeshFiles {
  readonly dir: string;
  constructor(dir: string, services: number) {
    this.dir = dir;
    mkdirSync(dir, { recursive: true });
    const namespaces = Array.from(
      { length: NAMESPACES },
      (_, i) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ns${i}}\n`,
    );
    writeFileSync(join(dir, 'namespaces.yaml'), namespaces.join('---\n'));
    for (let i = 0; i < services; i++) this.write(i, manifest(i, 95));
  }

  /** A changed weight of one service. */
  weight(service: number, weight: number): void {
    this.write(service, manifest(service, weight));
  }

  /** A line that changes nothing but where everything below it stands. */
  blankLine(service: number, weight: number): void {
    this.write(service, `\n${manifest(service, weight)}`);
  }

  private write(i: number, text: string): void {
    writeFileSync(join(this.dir, `svc${i}.yaml`), text);
  }
}

/** The n-th proxy's workload: they are spread over the services, both versions of each. */
export function workload(n: number, services: number): Workload {
  const service = n % services;
  const version = Math.floor(n / services) % 2 === 0 ? 'v1' : 'v2';
  const name = `svc${service}`;
  return {
    instance: `${name}-${version}-${Math.floor(n / services / 2)}`,
    workload: `${name}-${version}`,
    namespace: namespaceOf(service),
    serviceAccount: name,
    labels: { app: name, version },
    address: `10.${64 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`,
    ports: [{ number: 8080, name: 'http' }],
    ready: true,
  };
}
