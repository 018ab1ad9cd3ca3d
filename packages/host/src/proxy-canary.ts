/** Another version of the proxy for a share of a workload's instances, until it is promoted, reverted, or reverts itself. */
import { WeftError } from '@weft/base';
import type { Instance } from './instance.ts';
import type { ProxyProgram } from './specs.ts';

/** A proxy on trial that ends so often within this time is not tried any longer. */
const DEFAULT_MAX_ENDS = 3;
const ENDS_WITHIN_MS = 60_000;

/** A workload whose proxies are, or were, not the mesh's own. */
export interface CanaryStatus {
  /** `namespace/name`. */
  readonly workload: string;
  readonly state: 'canary' | 'promoted' | 'reverted';
  /** Of the program that is, or was, tried. */
  readonly version: string;
  /** What the other instances run. */
  readonly ownVersion: string;
  /** The share that was asked for, and the one of the instances, of 100. */
  readonly percent: number;
  readonly instancesPercent: number;
  /** Instances that run it. */
  readonly instances: readonly string[];
  /** How often its proxies ended though nobody told them to. */
  readonly ends: number;
  /** Why it was reverted. */
  readonly because: string;
}

/** One that the rules below are applied to. */
export type CanaryInstance = Pick<Instance, 'name' | 'program' | 'weight'>;

export interface CanaryHost<I extends CanaryInstance = Instance> {
  /** What proxies of another installation run. `n` is another number each time. */
  build(installation: string, n: number): Promise<ProxyProgram>;
  /** Of a workload, the oldest first. */
  instances(key: string): I[];
  /** A new instance, ready before the old one drains. */
  replace(old: I, program: ProxyProgram, weight: number): Promise<void>;
  say(name: string, line: string): void;
  /** Milliseconds of a clock that nobody sets. */
  now(): number;
}

interface Trial {
  readonly program: ProxyProgram;
  state: CanaryStatus['state'];
  percent: number;
  readonly maxEnds: number;
  ends: number;
  /** When the last ones were. */
  endedAt: number[];
  because: string;
}

/** How many of `total` instances run it: at least one, and one does not where it is not for all. */
export function canaryCount(total: number, percent: number): number {
  if (percent >= 100) return total;
  return total < 2 ? 0 : Math.min(total - 1, Math.max(1, Math.round((total * percent) / 100)));
}

/** What those with and without it weigh, so that the former get `percent` in all; 1 is an even share. */
export function canaryWeights(total: number, count: number, percent: number): { canary: number; own: number } {
  if (count === 0 || count >= total) return { canary: 1, own: 1 };
  const share = percent / 100;
  return { canary: (total * share) / count, own: (total * (1 - share)) / (total - count) };
}

function trying(trial: Trial): boolean {
  return trial.state === 'canary';
}

/** Calls for one workload come one after the other. */
export class ProxyCanaries<I extends CanaryInstance = Instance> {
  readonly #own: Promise<ProxyProgram>;
  #ownVersion = '';
  readonly #host: CanaryHost<I>;
  /** By workload: what is tried, was promoted, or was reverted last. */
  readonly #trials = new Map<string, Trial>();
  #built = 0;

  constructor(own: Promise<ProxyProgram>, host: CanaryHost<I>) {
    this.#own = own;
    this.#host = host;
  }

  /** What a new instance of the workload runs. */
  async programOf(key: string): Promise<ProxyProgram> {
    const own = await this.#own;
    this.#ownVersion = own.version;
    const trial = this.#trials.get(key);
    return trial?.state === 'promoted' ? trial.program : own;
  }

  /** Tries it, or changes the share of what is tried. `maxEnds`: reverted when its proxies end so often within a minute. Where it does not start all is as before, then this throws. */
  async begin(
    key: string,
    installation: string | undefined,
    percent: number,
    maxEnds = DEFAULT_MAX_ENDS,
  ): Promise<CanaryStatus> {
    if (!Number.isInteger(maxEnds) || maxEnds < 1 || maxEnds > 1000)
      throw new WeftError('max-ends', `it may end 1 to 1000 times, not ${maxEnds}`);
    if (!Number.isInteger(percent) || percent < 1 || percent > 100)
      throw new WeftError('percent', `a share is a whole number from 1 to 100, not ${percent}`);
    const total = this.#host.instances(key).length;
    if (total === 0) throw new WeftError('no-instance', `${key} has no instance: weft scale ${key} 2`);
    if (total === 1 && percent < 100)
      throw new WeftError(
        'one-instance',
        `${key} has one instance, whose proxy is one or the other: "weft scale ${key} 2" first, or --weight 100`,
      );
    const before = this.#trials.get(key);
    if (installation === undefined) {
      if (before?.state !== 'canary')
        throw new WeftError('no-canary', `no other proxy is tried for ${key}: say which one with --program`);
      before.percent = percent;
    } else {
      if (before && before.state !== 'reverted')
        throw new WeftError(
          'canary',
          before.state === 'canary'
            ? `${before.program.version} is tried for ${key} already: --promote or --revert it first, or change its --weight alone`
            : `${key} runs ${before.program.version}, which was promoted: --revert it first`,
        );
      const program = await this.#host.build(installation, ++this.#built);
      await this.programOf(key); // Its version is known from here on.
      this.#trials.set(key, { program, state: 'canary', percent, maxEnds, ends: 0, endedAt: [], because: '' });
    }
    const trial = this.#trials.get(key)!;
    await this.#settleOrRevert(key, trial);
    return this.#status(key, trial);
  }

  async #settleOrRevert(key: string, trial: Trial): Promise<void> {
    let because = '';
    try {
      await this.settle(key);
    } catch (error) {
      because = (error as Error).message;
    }
    if (because === '' && trying(trial)) return;
    await this.#takeBack(key, trial, because);
    throw new WeftError('canary', `${trial.because}: all proxies of ${key} are as before`);
  }

  /** Brings the number of instances that run it, and their weights, to what the share says; after a scale too. */
  async settle(key: string): Promise<void> {
    const trial = this.#trials.get(key);
    if (!trial || !trying(trial)) return;
    const all = this.#host.instances(key);
    const own = await this.#own;
    const count = canaryCount(all.length, trial.percent);
    const weights = canaryWeights(all.length, count, trial.percent);
    const [running, others] = [true, false].map((wanted) =>
      all.filter((i) => (i.program === trial.program) === wanted),
    );
    for (const old of others!.slice(0, Math.max(0, count - running!.length))) {
      await this.#host.replace(old, trial.program, weights.canary);
      if (!trying(trial)) return; // It ended once too often while this one started.
    }
    for (const old of running!.slice(count)) await this.#host.replace(old, own, weights.own);
    this.#weigh(key, trial, weights);
  }

  async promote(key: string): Promise<CanaryStatus> {
    const trial = this.#trials.get(key);
    if (trial?.state !== 'canary')
      throw new WeftError('no-canary', `no other proxy is tried for ${key}, so none can be promoted`);
    trial.percent = 100;
    this.#weigh(key, trial, { canary: 1, own: 1 });
    await this.#settleOrRevert(key, trial);
    trial.state = 'promoted';
    this.#host.say('weft', `${key}: its proxies run ${trial.program.version} from now on`);
    return this.#status(key, trial);
  }

  /** Also of what was promoted. */
  async revert(key: string, because = 'asked to'): Promise<CanaryStatus> {
    const trial = this.#trials.get(key);
    const own = await this.#own;
    const all = this.#host.instances(key);
    if (!trial || (trial.state === 'reverted' && all.every((i) => i.program === own)))
      throw new WeftError('no-canary', `the proxies of ${key} run the mesh's own program already`);
    await this.#takeBack(key, trial, because);
    return this.#status(key, trial);
  }

  /** What was tried is gone from the workload for good: there is nothing to say of it any more. */
  forget(key: string): void {
    this.#trials.delete(key);
  }

  async #takeBack(key: string, trial: Trial, because: string): Promise<void> {
    const own = await this.#own;
    if (trial.state !== 'reverted') this.#end(key, trial, because);
    this.#weigh(key, trial, { canary: 1, own: 1 });
    for (const old of this.#host.instances(key))
      if (old.program === trial.program) await this.#host.replace(old, own, 1);
    this.#host.say('weft', `${key}: all its proxies run ${own.version} again`);
  }

  /**
   * The proxy of this instance ended by itself. Where that was once too often it comes back as the mesh's own, nothing is
   * tried any longer, and the answer is why: `revert` is to be called then, for the other instances.
   */
  ended(instance: I & { readonly spec: { readonly namespace: string; readonly name: string } }): string | undefined {
    const key = `${instance.spec.namespace}/${instance.spec.name}`;
    const trial = this.#trials.get(key);
    if (trial?.state !== 'canary' || instance.program !== trial.program) return undefined;
    const now = this.#host.now();
    trial.ends += 1;
    trial.endedAt = [...trial.endedAt.filter((at) => at > now - ENDS_WITHIN_MS), now];
    if (trial.endedAt.length < trial.maxEnds) return undefined;
    const because = `proxies of ${trial.program.version} ended ${trial.endedAt.length} ${trial.endedAt.length === 1 ? 'time' : 'times'} within ${ENDS_WITHIN_MS / 1000} s`;
    this.#end(key, trial, because);
    void this.#own.then((own) => {
      instance.program = own;
    });
    return because;
  }

  list(): CanaryStatus[] {
    return [...this.#trials]
      .map(([key, trial]) => this.#status(key, trial))
      .sort((a, b) => (a.workload < b.workload ? -1 : 1));
  }

  #end(key: string, trial: Trial, because: string): void {
    trial.state = 'reverted';
    trial.because = because;
    this.#host.say('weft', `${key}: the proxy ${trial.program.version} is reverted: ${because}`);
  }

  #weigh(key: string, trial: Trial, weights: { canary: number; own: number }): void {
    for (const i of this.#host.instances(key)) i.weight = i.program === trial.program ? weights.canary : weights.own;
  }

  #status(key: string, trial: Trial): CanaryStatus {
    const all = this.#host.instances(key);
    const instances = all.filter((i) => i.program === trial.program).map((i) => i.name);
    return {
      workload: key,
      state: trial.state,
      version: trial.program.version,
      ownVersion: this.#ownVersion,
      percent: trial.percent,
      instancesPercent: all.length === 0 ? 0 : (100 * instances.length) / all.length,
      instances,
      ends: trial.ends,
      because: trial.because,
    };
  }
}
