/** What the host is asked to run: plain data, whoever read it and from where. Durations in milliseconds. */

import type { RedirectScope } from '@weft/capture';

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

export interface ProbeSpec {
  readonly action: ProbeAction;
  readonly initialDelayMs: number;
  readonly periodMs: number;
  readonly timeoutMs: number;
  readonly successThreshold: number;
  readonly failureThreshold: number;
}

export interface ProcessSpec {
  /** A proxy on its own: it has no command. */
  readonly gateway: boolean;
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly command: readonly string[];
  /** Absolute. */
  readonly cwd: string;
  readonly env: readonly { readonly name: string; readonly value: string }[];
  readonly ports: readonly { readonly number: number; readonly name?: string; readonly protocol?: string }[];
  readonly replicas: number;
  readonly readiness?: ProbeSpec | undefined;
  readonly restartPolicy: 'Always' | 'OnFailure' | 'Never';
  readonly runAsUser?: number | undefined;
  /** Traffic that its proxy does not take; undefined: it takes all. */
  readonly captureScope?: RedirectScope | undefined;
  readonly injected: boolean;
  /** Why it is (not) injected, for `weft ps`. */
  readonly injectedReason: string;
  /** It had a proxy and left the mesh (`weft leave`): not injected. */
  readonly left?: boolean;
}

export interface ServiceSpec {
  readonly name: string;
  readonly namespace: string;
  readonly ports: readonly number[];
  /** Numbers, or names of ports of the processes. */
  readonly targetPorts: readonly (number | string)[];
  /** Of each port, as in a plan (`Protocol`). */
  readonly protocols: readonly number[];
  readonly selector: Readonly<Record<string, string>>;
}

/** What each workload is like that joins by the group (Istio's WorkloadGroup). */
export interface GroupSpec {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly ports: readonly { readonly number: number; readonly name: string }[];
  readonly readiness: ProbeSpec | undefined;
}

/** What a proxy runs. */
export interface ProxyProgram {
  /** Without its mode. */
  readonly command: readonly string[];
  /** Of its installation, and what tells two builds of it apart. */
  readonly version: string;
}

export type CaptureMode = 'transparent' | 'explicit';

export type InstanceState =
  | 'starting'
  | 'running'
  | 'ready'
  | 'backoff'
  | 'draining'
  | 'completed'
  | 'failed'
  | 'stopped';

/** A line of `weft ps`. */
export interface InstanceStatus {
  readonly name: string;
  readonly workload: string;
  readonly namespace: string;
  readonly state: InstanceState;
  readonly address: string;
  readonly address6: string | undefined;
  readonly netns: string | undefined;
  readonly pid: number | undefined;
  readonly proxyPid: number | undefined;
  readonly restarts: number;
  readonly proxyRestarts: number;
  /** Of the program that its proxy runs; undefined: it has none. */
  readonly proxyVersion: string | undefined;
  readonly injected: boolean;
  /** A proxy on its own. */
  readonly gateway: boolean;
  readonly injectedReason: string;
  /** Why it would (not) be injected now, where that is not what it runs as: a changed label acts at the next restart. */
  readonly injectionChanged: string | undefined;
  readonly exitCode: number | undefined;
}
