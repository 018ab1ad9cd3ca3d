/** What is allowed, and yet probably not meant. Loading refuses what is wrong; this only tells. */
import { type Model, type Resource, refOf } from '@weft/model';
import { lintAnnotations } from './annotations.ts';
import { lintAuthorization } from './authorization.ts';
import type { Severity } from './codes.ts';
import { lintDestinationRules } from './destination-rules.ts';
import { lintGateways } from './gateways.ts';
import { lintInjection } from './injection.ts';
import { lintServiceEntries, lintWorkloadGroups } from './service-entries.ts';
import { lintServices } from './services.ts';
import { lintSidecars } from './sidecars.ts';
import { lintVirtualServices } from './virtual-services.ts';

export interface Lint {
  readonly model: Model;
  /** No resource with that ref had an error of its own. */
  intact(resource: Resource): boolean;
  /** The severity of the code, unless another is given. */
  report(resource: Resource, code: string, message: string, field: string, severity?: Severity): void;
}

/** `complete`: every document could be read, so that what is not in the model does not exist. */
export function lint(model: Model, broken: ReadonlySet<string>, complete: boolean, report: Lint['report']): void {
  const l: Lint = { model, report, intact: (r) => !broken.has(refOf(r)) };
  lintAnnotations(l);
  lintInjection(l);
  lintVirtualServices(l);
  lintServices(l);
  lintDestinationRules(l);
  lintServiceEntries(l);
  lintWorkloadGroups(l);
  if (!complete || model.processes.some((p) => !l.intact(p))) return;
  lintAuthorization(l);
  lintGateways(l);
  lintSidecars(l);
}
