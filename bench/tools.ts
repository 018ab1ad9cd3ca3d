/** Programs the benchmark runs: those that are missing come from Debian. */
import { debian } from '../conformance/install.ts';
import type { Peer } from './stage.ts';

/** Installs what is missing (as root; else throws with the command to run). */
export function requireTools(peers: readonly Peer[]): void {
  debian({
    wrk: 'wrk',
    nginx: 'nginx-light',
    taskset: 'util-linux',
    setpriv: 'util-linux',
    ...Object.assign({}, ...peers.map((p) => p.needs)),
  });
}
