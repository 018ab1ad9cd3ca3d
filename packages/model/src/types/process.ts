/** Applications and gateways as processes: `weft.dev/v1alpha1 Process`. */
import type { CaptureScope } from '../capture-scope.ts';
import type { ProxyConfigModel } from '../mesh-config.ts';
import type { Resource } from './resource.ts';
import type { PortProtocol } from './service.ts';

export interface ProcessPortModel {
  readonly port: number;
  readonly name: string;
  readonly protocol: PortProtocol;
  readonly field: string;
}

export type ProbeAction =
  | {
      readonly type: 'http';
      readonly path: string;
      readonly port: number;
      readonly https?: boolean;
      readonly headers?: readonly { readonly name: string; readonly value: string }[];
    }
  | { readonly type: 'grpc'; readonly port: number; readonly service: string }
  | { readonly type: 'tcp'; readonly port: number }
  | { readonly type: 'exec'; readonly command: readonly string[] };

export interface ProbeModel {
  readonly action: ProbeAction;
  readonly initialDelayMs: number; // default 0
  readonly periodMs: number; // default 10 s
  readonly timeoutMs: number; // default 1 s
  readonly successThreshold: number; // default 1
  readonly failureThreshold: number; // default 3
}

export type RestartPolicy = 'Always' | 'OnFailure' | 'Never';

/** Of a Process that is no application but a gateway: a proxy on its own, which Gateways select by its labels. */
export interface GatewayProcessModel {
  /** Serve HTTP/1.0; default false: 426. */
  readonly acceptHttp10: boolean;
  /** How many proxies before it are trusted: they say by x-forwarded-for who the visitor is. Default 0. */
  readonly numTrustedProxies: number | undefined;
  /** Every connection begins with a PROXY header (a balancer before it sends them). */
  readonly proxyProtocol: boolean | undefined;
}

/** `weft.dev/v1alpha1 Process`: what a Deployment is on Kubernetes. `metadata.labels` are the workload's labels. */
export interface ProcessModel extends Resource {
  /** Empty for a gateway. */
  readonly command: readonly string[];
  readonly gateway: GatewayProcessModel | undefined;
  /** As written: relative to the folder of the file (`source.file`). */
  readonly cwd: string | undefined;
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly ProcessPortModel[];
  readonly serviceAccountName: string; // default 'default'
  readonly replicas: number; // default 1
  readonly readinessProbe: ProbeModel | undefined;
  readonly restartPolicy: RestartPolicy; // default Always
  /** User id the command runs as; never 1337, whose traffic is not captured. */
  readonly runAsUser: number | undefined;
  /** Of its annotations. */
  readonly capture: CaptureScope;
  /** What its annotation says in the place of the mesh settings; undefined: it has none. */
  readonly proxy?: ProxyConfigModel | undefined;
}
