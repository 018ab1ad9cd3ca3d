/**
 * A handshake for its own sake: what a mesh link would meet at an endpoint, step by step, and what each side makes of the
 * other. Nothing of an application is sent but a CONNECT to its port, which is closed as soon as it is answered.
 */
import type { Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { hostPort } from '@weft/base';
import type { ClusterView, EndpointView } from '@weft/engine';
import { createContexts, type Identity, judgeChain, type PeerProblem, presentedChain } from '@weft/identity';
import { ClientTls } from '@weft/plan';
import { Http2Connection, type StreamHandler } from '@weft/wire';
import type { Core } from '../core.ts';
import { field } from '../http/headers.ts';
import { CodecSink } from '../net/pipe.ts';
import { SocketPipe } from '../net/socket-output.ts';
import { dialEntrance } from './link.ts';
import { PORT_HEADER, SOURCE_HEADER, WEFT_SETTINGS } from './settings.ts';

const TIMEOUT_MS = 4000;
const MAX_ENDPOINTS = 8;
const MAX_TEXT = 300;

/**
 * How far it came. `connect`: no TCP connection; `tls`: none of TLS, or the peer ended it when it had seen our certificate;
 * `judged`: both sides believe each other, so far as they said; `answered`: the peer answered for the port.
 */
export interface Handshake {
  stage: 'connect' | 'tls' | 'judged' | 'answered';
  /** Of the connection, where it broke. */
  error: string;
  /** What the peer showed, leaf first. */
  chainPem: string;
  /** What this side makes of it; undefined: it is believed. */
  refused: { problem: PeerProblem; error: string } | undefined;
  /** To the CONNECT; 0: none was sent, or none came. */
  status: number;
  text: string;
}

export interface ProbedEndpoint {
  instance: string;
  workload: string;
  namespace: string;
  address: string;
  port: number;
  meshPort: number;
  /** Whom it has to prove to be. */
  identity: string;
  mtlsDisabled: boolean;
  /** Undefined where it has no proxy. */
  handshake: Handshake | undefined;
}

export interface ProbedService {
  instance: string;
  host: string;
  port: number;
  /** What the DestinationRule says of TLS. */
  tls: 'auto' | 'DISABLE' | 'ISTIO_MUTUAL' | 'SIMPLE' | 'MUTUAL';
  tlsRef: string;
  endpoints: ProbedEndpoint[];
}

const MODES = new Map<ClientTls, ProbedService['tls']>([
  [ClientTls.DISABLE, 'DISABLE'],
  [ClientTls.ISTIO_MUTUAL, 'ISTIO_MUTUAL'],
  [ClientTls.SIMPLE, 'SIMPLE'],
  [ClientTls.MUTUAL, 'MUTUAL'],
]);

/** The first endpoints of a service, at most 8, all at once. */
export async function probeService(core: Core, view: ClusterView, identity: Identity): Promise<ProbedService> {
  const { host, port, tls, tlsRef } = view.cluster;
  const endpoints = await Promise.all(
    view.endpoints.slice(0, MAX_ENDPOINTS).map(async (view): Promise<ProbedEndpoint> => {
      const { instance, workload, namespace, address, port, meshPort, identity: id, mtlsDisabled } = view.endpoint;
      const handshake = meshPort > 0 ? await new Probe(core, view, identity).result : undefined;
      return { instance, workload, namespace, address, port, meshPort, identity: id, mtlsDisabled, handshake };
    }),
  );
  return { instance: core.self.instance, host, port, tls: MODES.get(tls) ?? 'auto', tlsRef, endpoints };
}

class Probe implements StreamHandler {
  readonly result: Promise<Handshake>;
  readonly #core: Core;
  readonly #view: EndpointView;
  readonly #identity: Identity;
  readonly #seen: Handshake = { stage: 'connect', error: '', chainPem: '', refused: undefined, status: 0, text: '' };
  #done: (seen: Handshake) => void = () => {};
  #raw: Socket | undefined;
  #tls: TLSSocket | undefined;
  #connection: Http2Connection | undefined;
  #timer: NodeJS.Timeout | undefined;
  #over = false;

  constructor(core: Core, view: EndpointView, identity: Identity) {
    this.#core = core;
    this.#view = view;
    this.#identity = identity;
    this.result = new Promise((resolve) => {
      this.#done = resolve;
    });
    this.#timer = setTimeout(() => this.#end('no answer in time'), TIMEOUT_MS);
    this.#dial();
  }

  #dial(): void {
    const { way, endpoint } = this.#view;
    const { connector, entrance } = this.#core.options;
    try {
      this.#raw = way ? dialEntrance({ connector, entrance }) : connector(endpoint.address, endpoint.meshPort);
    } catch (error) {
      this.#end((error as Error).message);
      return;
    }
    this.#raw.on('error', this.#failed);
    this.#raw.once('connect', () => {
      this.#seen.stage = 'tls';
    });
    const tls = tlsConnect({
      socket: this.#raw,
      servername: way || undefined,
      secureContext: createContexts(this.#identity),
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      // It is judged here, so that what is wrong with it can be told; nothing is sent to who is not believed.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
    });
    this.#tls = tls;
    tls.on('error', this.#failed);
    tls.once('close', () => this.#end('the connection was closed'));
    tls.once('secureConnect', () => this.#secure(tls));
  }

  #secure(tls: TLSSocket): void {
    const seen = this.#seen;
    seen.chainPem = presentedChain(tls);
    const expected = new Set([this.#view.endpoint.identity]);
    const judged = judgeChain(seen.chainPem, { bundle: this.#identity.bundle, expected });
    if ('error' in judged) seen.refused = { problem: judged.problem, error: judged.error };
    const pipe = new SocketPipe(tls);
    const core = this.#core;
    const connection = new Http2Connection({
      role: 'client',
      output: pipe,
      counters: core.counters,
      nowMs: core.nowMs,
      announce: WEFT_SETTINGS,
      limits: core.wireLimits,
      onSettings: () => this.#settings(),
      onClosed: (detail) => this.#end(detail),
    });
    this.#connection = connection;
    pipe.sink = new CodecSink(connection, pipe, core.ticker, () => this.#end('the connection was closed'));
    pipe.settle();
  }

  /** The peer has judged our certificate, and speaks. */
  #settings(): void {
    const seen = this.#seen;
    if (this.#over || seen.stage !== 'tls') return;
    seen.stage = 'judged';
    if (seen.refused) {
      this.#end('');
      return;
    }
    const { address, port } = this.#view.endpoint;
    const head = [':method', 'CONNECT', ':authority', hostPort(address, port)];
    head.push(PORT_HEADER, String(port), SOURCE_HEADER, this.#core.sourceHeader);
    this.#connection?.request(head, false, this);
  }

  onHead(_stream: unknown, head: readonly string[], end: boolean): void {
    this.#seen.stage = 'answered';
    this.#seen.status = Number(field(head as string[], ':status') ?? 0);
    if (end || this.#seen.status === 200) this.#end('');
  }
  onData(_stream: unknown, chunk: Uint8Array, end: boolean): void {
    if (this.#seen.text.length < MAX_TEXT) this.#seen.text += Buffer.from(chunk).toString('utf8').slice(0, MAX_TEXT);
    if (end) this.#end('');
  }
  onTrailers(): void {
    this.#end('');
  }
  onReset(_stream: unknown, code: string, detail: string): void {
    this.#end(detail || code);
  }
  onDrain(): void {}

  #failed = (error: Error & { code?: string }): void => {
    this.#seen.error ||= error.code ?? error.message;
    // What the peer's alert says comes after `secureConnect` in TLS 1.3.
    this.#end(this.#seen.error);
  };

  #end(error: string): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#seen.error ||= error;
    this.#tls?.on('error', () => {});
    this.#tls?.destroy();
    this.#raw?.destroy();
    this.#connection?.closed('probed');
    this.#done(this.#seen);
  }
}
