/**
 * A SPIFFE Workload API that is somebody else's (SPIRE's agent, say), where each proxy asks for its own certificate. The
 * control plane asks it for the roots alone, at first and then each minute, since they are replaced from time to time.
 */
import { ConnectError, createClient } from '@connectrpc/connect';
import { type Clock, type Logger, type Timer, WeftError } from '@weft/base';
import { parseDerCertificates } from '@weft/identity';
import { SpiffeWorkloadAPI } from '@weft/plan';
import { unixChannel, WORKLOAD_HEADER } from '@weft/xds';
import type { MeshTrust } from './trust.ts';

const REFRESH_MS = 60_000;
const TIMEOUT_MS = 10_000;

export class WorkloadApiSource {
  readonly #trust: MeshTrust;
  readonly #trustDomain: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #timer: Timer | undefined;

  constructor(parts: { trust: MeshTrust; trustDomain: string; clock: Clock; logger: Logger }) {
    this.#trust = parts.trust;
    this.#trustDomain = parts.trustDomain;
    this.#clock = parts.clock;
    this.#logger = parts.logger;
    this.#later();
  }

  /** Proxies ask the Workload API on this socket from now on. Throws `control/bad-workload-api`; nothing is changed then. */
  async use(socket: string): Promise<void> {
    const before = this.#trust.workloadApi?.socket;
    // Who lives by the other one's certificates would be refused at once.
    if (before && before !== socket)
      throw new WeftError('control/bad-workload-api', `${before} is in use: weft ca workload-api off, then ${socket}`);
    this.#trust.setWorkloadApi({ socket, rootPem: await this.#roots(socket) });
  }

  /** The mesh's CA gives certificates again. Who has one of the Workload API is believed until `forget`. */
  leave(): void {
    const { workloadApi } = this.#trust;
    if (workloadApi) this.#trust.setWorkloadApi({ ...workloadApi, socket: '' });
  }

  /** Throws `control/bad-workload-api` while it is in use. */
  forget(): void {
    if (this.#trust.workloadApi?.socket)
      throw new WeftError('control/bad-workload-api', 'the Workload API is in use: leave it first');
    this.#trust.setWorkloadApi(undefined);
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #later(): void {
    this.#timer = this.#clock.after(REFRESH_MS, () => void this.#refresh());
  }

  async #refresh(): Promise<void> {
    const socket = this.#trust.workloadApi?.socket;
    try {
      if (socket) {
        const rootPem = await this.#roots(socket);
        // It may have been replaced meanwhile.
        if (this.#trust.workloadApi?.socket === socket) this.#trust.setWorkloadApi({ socket, rootPem });
      }
    } catch (error) {
      this.#logger.warn({ error: String(error) }, 'the roots of the Workload API are those of before');
    }
    this.#later();
  }

  async #roots(socket: string): Promise<string> {
    const failed = (why: string, cause?: unknown) =>
      new WeftError('control/bad-workload-api', `the Workload API on ${socket} is not used: ${why}`, { cause });
    if (!socket.startsWith('/')) throw failed('its socket must be an absolute path');
    const id = `spiffe://${this.#trustDomain}`;
    const channel = unixChannel(socket);
    try {
      const options = { headers: WORKLOAD_HEADER, timeoutMs: TIMEOUT_MS };
      for await (const { bundles } of createClient(SpiffeWorkloadAPI, channel.transport).fetchX509Bundles(
        {},
        options,
      )) {
        const own = Object.entries(bundles).find(([domain]) => domain === id || domain === this.#trustDomain)?.[1];
        if (!own) throw failed(`it has no roots of ${id}, but of ${Object.keys(bundles).join(', ') || 'nobody'}`);
        return parseDerCertificates(own)
          .map((c) => c.toString())
          .join('');
      }
    } catch (cause) {
      throw cause instanceof WeftError && cause.code === 'control/bad-workload-api'
        ? cause
        : failed(ConnectError.from(cause).message.slice(0, 500), cause);
    } finally {
      channel.close();
    }
    throw failed('it answers nothing');
  }
}
