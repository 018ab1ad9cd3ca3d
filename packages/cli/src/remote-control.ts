/** A host's way to the control plane of the mesh that it joined: its certificate, and the calls that hosts may make. */
import { mkdirSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as tlsConnect } from 'node:tls';
import { hostPort, type Logger, WeftError } from '@weft/base';
import type { GroupSpec, Place, ServiceSpec } from '@weft/host';
import {
  controlPlaneId,
  controlTlsOptions,
  IdentityClient,
  judgeChain,
  presentedChain,
  removeIdentity,
  TrustBundle,
} from '@weft/identity';
import { CertificateService } from '@weft/plan';
import { clientOf, createChannel, type ServerAddress } from '@weft/xds';
import { fingerprints, type JoinFile } from './join-file.ts';

const REACH_MS = 5000;
const SIGN_MS = 10_000;
const CALL_MS = 5000;
/** gRPC's status UNAUTHENTICATED. */
const UNAUTHENTICATED = 16;

/** What the control plane says to a host (control/src/hosts/registry.ts). */
export interface HostFacts {
  readonly capture: 'transparent' | 'explicit';
  readonly group: GroupSpec;
  readonly services: readonly ServiceSpec[];
  readonly taken: readonly string[];
  readonly networks: Readonly<Record<string, Place>>;
  readonly rootPem: string;
  readonly issuer: string;
}

export interface RemoteControlOptions {
  readonly file: JoinFile;
  readonly control: Place;
  /** Folder (0700) of this host's own key and certificate. */
  readonly dir: string;
  readonly logger: Logger;
}

class Refused extends WeftError {
  readonly status: number;
  constructor(status: number, message: string) {
    super('host', message);
    this.status = status;
  }
}

export class RemoteControl {
  readonly #options: RemoteControlOptions;
  #identity: IdentityClient;
  /** Whom to believe; follows the mesh's. */
  #rootPem: string;
  #issuer = '';
  #session: ClientHttp2Session | undefined;

  constructor(options: RemoteControlOptions) {
    this.#options = options;
    this.#rootPem = options.file.rootPem;
    this.#identity = this.#newIdentity(() => {});
  }

  get rootPem(): string {
    return this.#rootPem;
  }

  /**
   * Finds the control plane, makes sure that it is the one, gets a certificate for the token (or uses the one that this
   * machine got for it before), and what there is to run. Each thing that can be wrong throws with one line. Returns the
   * address of this machine on the way there, too.
   */
  async start(): Promise<{ facts: HostFacts; address: string }> {
    mkdirSync(this.#options.dir, { recursive: true, mode: 0o700 });
    const address = await this.#look();
    await this.#enroll();
    try {
      return { facts: await this.request<HostFacts>('GET', '/v1/host'), address };
    } catch (error) {
      // The certificate is of an earlier token; a new one is in the file.
      if (!(error instanceof Refused) || error.status !== 403) throw error;
      removeIdentity(this.#options.dir);
      await this.#enroll();
      return { facts: await this.request<HostFacts>('GET', '/v1/host'), address };
    }
  }

  stop(): void {
    this.#identity.stop();
    this.#session?.destroy();
  }

  /** Throws with the control plane's own words where it refuses. */
  async request<T = unknown>(method: string, path: string, body?: unknown, timeoutMs = CALL_MS): Promise<T> {
    const value = await this.#call<T>(method, path, body, timeoutMs);
    if (method === 'GET' && path === '/v1/host') this.#follow(value as HostFacts);
    return value;
  }

  #call<T>(method: string, path: string, body: unknown, timeoutMs: number): Promise<T> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => reject(new WeftError('control-away', `${method} ${path}: ${why}`));
      const stream = this.#open().request({ ':method': method, ':path': path });
      stream.setTimeout(timeoutMs, () => stream.close());
      let status = 0;
      const chunks: Buffer[] = [];
      stream.on('response', (headers) => {
        status = Number(headers[':status']);
      });
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', (error) => fail(error.message));
      stream.on('close', () => {
        if (status === 0) fail(`no answer within ${timeoutMs} ms`);
        let value: unknown;
        try {
          value = JSON.parse(Buffer.concat(chunks).toString('utf8'));
        } catch {
          fail('the answer was cut off');
          return;
        }
        if (status === 200) resolve(value as T);
        else
          reject(new Refused(status, `the control plane refuses: ${String((value as { message?: unknown }).message)}`));
      });
      stream.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** The session there is, or another one; by the certificate of now. */
  #open(): ClientHttp2Session {
    if (this.#session && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const { host, port } = this.#options.control;
    const session = connect(`https://${hostPort(host, port)}`, this.#tls());
    session.on('error', () => session.destroy());
    session.unref();
    this.#session = session;
    return session;
  }

  #tls() {
    const { trustDomain } = this.#options.file;
    const identity = this.#identity.valid ? this.#identity.current() : undefined;
    return controlTlsOptions({ rootPem: this.#rootPem, trustDomain, ...(identity && { identity }) });
  }

  #follow({ rootPem, issuer }: HostFacts): void {
    if (rootPem === this.#rootPem && issuer === this.#issuer) return;
    this.#rootPem = rootPem;
    this.#issuer = issuer;
    const bundle = new TrustBundle(new Map([[this.#options.file.trustDomain, rootPem]]));
    this.#identity.setTrust({ rootPem, bundle, issuer });
  }

  #newIdentity(refused: (why: string) => void): IdentityClient {
    const { file, control, dir, logger } = this.#options;
    const client: IdentityClient = new IdentityClient({
      dir,
      logger,
      spiffeId: `spiffe://${file.trustDomain}/ns/weft-system/sa/host.${file.host}`,
      signCsr: async (csrPem) => {
        const address: ServerAddress = { ...control, tls: this.#tls() };
        const channel = createChannel(address);
        try {
          const token = client.valid ? '' : file.token;
          const answer = await clientOf(CertificateService, channel).sign({ csrPem, token }, { timeoutMs: SIGN_MS });
          return { chainPem: answer.chainPem, rootPem: answer.rootPem };
        } catch (error) {
          const { code, rawMessage, message } = error as { code?: number; rawMessage?: string; message: string };
          if (code === UNAUTHENTICATED) refused(rawMessage ?? message);
          throw error;
        } finally {
          channel.close();
        }
      },
      // By the next call the control plane sees the new one.
      onRotate: () => {
        this.#session?.close();
        this.#session = undefined;
      },
    });
    return client;
  }

  async #enroll(): Promise<void> {
    const { host, group, namespace } = this.#options.file;
    this.#identity.stop();
    await new Promise<void>((resolve, reject) => {
      this.#identity = this.#newIdentity((why) =>
        reject(
          new WeftError(
            'join-token',
            `${why}: make another one by "weft ca token --host ${host} --group ${group} -n ${namespace}"`,
          ),
        ),
      );
      this.#identity.start().then(resolve, reject);
    });
  }

  /** Whether the control plane is there and is the one of the file; resolves with the own address on the way there. */
  #look(): Promise<string> {
    const { file, control } = this.#options;
    const where = hostPort(control.host, control.port);
    return new Promise((resolve, reject) => {
      const fail = (code: string, why: string): void => {
        socket.destroy();
        reject(new WeftError(code, why));
      };
      const away = (why: string): void =>
        fail(
          'control-away',
          `the control plane at ${where} cannot be reached (${why}): is "weft up --listen ADDRESS" running there, and is the port open?`,
        );
      // It is judged below, so that what is wrong can be told; nothing is said before.
      const socket = tlsConnect({
        ...control,
        minVersion: 'TLSv1.3',
        ALPNProtocols: ['h2'],
        rejectUnauthorized: false,
      });
      socket.setTimeout(REACH_MS, () => away(`no answer within ${REACH_MS / 1000} s`));
      socket.on('error', (error: NodeJS.ErrnoException) => away(error.code ?? error.message));
      socket.once('secureConnect', () => {
        const bundle = new TrustBundle(new Map([[file.trustDomain, this.#rootPem]]));
        const expected = new Set([controlPlaneId(file.trustDomain)]);
        const judged = judgeChain(presentedChain(socket), { bundle, expected });
        if (!('error' in judged)) {
          const { localAddress = '' } = socket;
          socket.destroy();
          resolve(localAddress.replace(/^::ffff:/, ''));
          return;
        }
        const { problem, error } = judged;
        const roots = fingerprints(this.#rootPem).join(', ');
        if (problem === 'untrusted')
          fail(
            'fingerprint',
            `what answers at ${where} is not under the root with the SHA-256 ${roots}: it is another mesh, or the token's file is older than the mesh's root`,
          );
        else if (problem === 'expired' || problem === 'not-yet-valid')
          fail(
            'clock',
            `by the clock of this machine (${new Date().toISOString()}) the control plane's ${error}: set the clock of one of the two`,
          );
        else fail('control', `what answers at ${where} is not the control plane: ${error}`);
      });
    });
  }
}
