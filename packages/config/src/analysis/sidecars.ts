/** Sidecars: which one counts for a workload, and hosts that no service has (IST0110, 0111, 0127, KIA1004, 1006). */
import { hostCovers, labelsMatch, type ProcessModel, type SidecarModel, serviceHost } from '@weft/model';
import { pairs } from '../words.ts';
import type { Lint } from './lint.ts';

export function lintSidecars(l: Lint): void {
  const { model, report } = l;
  const general = new Map<string, SidecarModel>();
  const selected = new Map<ProcessModel, SidecarModel>();
  const at = ({ name, source }: SidecarModel) => `${name} (${source.file}:${source.line})`;
  for (const sidecar of model.sidecars) {
    if (!l.intact(sidecar)) continue;
    const { workloadSelector: selector, namespace } = sidecar;
    hosts(l, sidecar);
    if (!selector) {
      const other = general.get(namespace);
      if (!other) general.set(namespace, sidecar);
      else {
        const message = `namespace ${namespace} already has the Sidecar ${at(other)} without a selector: the first counts`;
        report(sidecar, 'IST0111', message, 'spec');
      }
      continue;
    }
    if (namespace === model.rootNamespace) {
      const message = `in ${namespace} a Sidecar without a selector is the default of the mesh: with one it holds for workloads of ${namespace} alone`;
      report(sidecar, 'KIA1006', message, 'spec.workloadSelector');
    }
    const own = model.processes.filter((p) => p.namespace === namespace && labelsMatch(selector, p.labels));
    if (own.length === 0 && namespace !== model.rootNamespace) {
      const message = `the selector {${pairs(selector)}} matches no process: it holds for nothing`;
      report(sidecar, 'IST0127', message, 'spec.workloadSelector');
    }
    for (const p of own) {
      const other = selected.get(p);
      if (!other) selected.set(p, sidecar);
      else {
        report(
          sidecar,
          'IST0110',
          `${p.name} already has the Sidecar ${at(other)}: one counts`,
          'spec.workloadSelector',
        );
        break;
      }
    }
  }
}

function hosts({ model, report }: Lint, sidecar: SidecarModel): void {
  for (const { namespace, host } of sidecar.egress ?? []) {
    const meant = namespace === '.' ? sidecar.namespace : namespace;
    const there = model.services.some(
      (s) => (meant === '*' || s.namespace === meant) && hostCovers(host, serviceHost(s, model.domain)),
    );
    if (there || host === '*') continue;
    report(sidecar, 'KIA1004', `${namespace}/${host}: no service has a host like it`, 'spec.egress');
  }
}
