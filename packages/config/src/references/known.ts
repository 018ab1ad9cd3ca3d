/** What every check of what is between resources looks up, and the messages that several of them have. */
import {
  findService,
  type Model,
  type ProcessModel,
  type Resource,
  refOf,
  resolveHost,
  type ServiceModel,
  serviceHost,
  servicesSelecting,
} from '@weft/model';
import { list } from '../words.ts';

export type Report = (
  resource: Resource,
  code: string,
  message: string,
  field: string,
  severity?: 'error' | 'warning',
) => void;

export class Known {
  readonly model: Model;
  readonly report: Report;
  readonly #broken: ReadonlySet<string>;
  readonly #brokenKinds = new Map<string, boolean>();
  #behind: Map<ServiceModel, ProcessModel[]> | undefined;

  constructor(model: Model, broken: ReadonlySet<string>, report: Report) {
    this.model = model;
    this.#broken = broken;
    this.report = report;
  }

  ok(r: Resource): boolean {
    return !this.#broken.has(refOf(r));
  }

  /** Some resource of the kind has errors of its own: what refers to such resources cannot be judged. Looked up once. */
  anyBroken(kind: 'processes' | 'destinationRules'): boolean {
    let found = this.#brokenKinds.get(kind);
    if (found === undefined) {
      found = this.model[kind].some((r) => !this.ok(r));
      this.#brokenKinds.set(kind, found);
    }
    return found;
  }

  /** Processes behind each service. */
  providers(service: ServiceModel): readonly ProcessModel[] {
    if (!this.#behind) {
      this.#behind = new Map();
      for (const process of this.model.processes) {
        for (const s of servicesSelecting(this.model, process)) {
          const list = this.#behind.get(s);
          if (list) list.push(process);
          else this.#behind.set(s, [process]);
        }
      }
    }
    return this.#behind.get(service) ?? [];
  }

  hosts(): string[] {
    return this.model.services.map((s) => serviceHost(s, this.model.domain));
  }

  /** The service that a host of a rule means; reports where there is none. */
  serviceOf(rule: Resource, host: string, field: string): ServiceModel | undefined {
    const fqdn = resolveHost(host, rule.namespace, this.model.domain);
    const service = findService(this.model, fqdn);
    if (!service) {
      const have = list(this.hosts(), 'none');
      const shown = fqdn === host ? host : `${host} (${fqdn})`;
      const message = `there is no service ${shown}. A name without dots belongs to the rule's namespace. Services: ${have}`;
      this.report(rule, 'WEFT-NO-SERVICE', message, field);
    }
    return service;
  }

  noPort(rule: Resource, service: ServiceModel, port: number, field: string): void {
    const have = service.ports.map((p) => (p.name ? `${p.port} (${p.name})` : `${p.port}`));
    const message = `the service ${service.name}.${service.namespace} has no port ${port}; it has ${list(have, 'none')}`;
    this.report(rule, 'WEFT-NO-PORT', message, field);
  }

  ignored(r: Resource, first: Resource, scope: string): void {
    const where = `${first.name} (${first.source.file}:${first.source.line})`;
    this.report(
      r,
      'WEFT-IGNORED',
      `${scope} already has ${where}; the first counts, this one is ignored`,
      'metadata.name',
      'warning',
    );
  }
}
