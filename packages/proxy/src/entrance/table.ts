/** Where an entrance leads: a file that the supervisor replaces whole when something changed. */
import { readFileSync, statSync } from 'node:fs';
import type { Logger } from '@weft/base';
import { parseEntranceName } from '@weft/plan';
import type { Bind } from '../bootstrap.ts';

/** As the file has it, in JSON. */
export interface WayTable {
  /** Mesh ports of the proxies on this machine, by instance. */
  instances: Record<string, Bind>;
  /** Entrances of other machines, by network. */
  networks: Record<string, Bind>;
}

export class Ways {
  readonly #path: string;
  readonly #network: string;
  readonly #logger: Logger;
  #seen = '';
  #instances: ReadonlyMap<string, Bind> = new Map();
  #networks: ReadonlyMap<string, Bind> = new Map();

  /** `network`: of this machine. */
  constructor(path: string, network: string, logger: Logger) {
    this.#path = path;
    this.#network = network;
    this.#logger = logger;
  }

  /** Where a connection for this server name goes on. From outside it is let to workloads of this machine alone. */
  find(serverName: string, fromOutside: boolean): Bind | undefined {
    const name = parseEntranceName(serverName);
    if (!name) return undefined;
    this.#refresh();
    if (name.network === this.#network) return this.#instances.get(name.instance);
    return fromOutside ? undefined : this.#networks.get(name.network);
  }

  /** Whether it could lead to another machine. */
  isName(serverName: string): boolean {
    const name = parseEntranceName(serverName);
    return name !== undefined && name.network !== this.#network;
  }

  /** One question to the kernel for a connection: links are few and stay. */
  #refresh(): void {
    try {
      const { mtimeNs, ino } = statSync(this.#path, { bigint: true });
      const now = `${ino} ${mtimeNs}`;
      if (now === this.#seen) return;
      const table = JSON.parse(readFileSync(this.#path, 'utf8')) as WayTable;
      this.#seen = now;
      const lower = ([name, place]: [string, Bind]): [string, Bind] => [name.toLowerCase(), place];
      this.#instances = new Map(Object.entries(table.instances).map(lower));
      this.#networks = new Map(Object.entries(table.networks).map(lower));
    } catch (error) {
      this.#logger.error({ error: String(error) }, 'the table of ways cannot be read: the last one stays');
    }
  }
}
